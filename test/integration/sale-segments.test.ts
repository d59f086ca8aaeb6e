import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { isInvalidArgument } from '../../gen/common/v1/errors.js';
import { formatUserId } from '../../internal/biz/identity.js';
import type { CreateSale, SaleView } from '../../internal/biz/seckill/sale.js';
import { homeSegment, segmentOf, segmentsOf } from '../../internal/biz/seckill/segment.js';
import { MOVE_OUT } from '../../internal/data/redis/lua-script.js';
import { RedisPurchaseStream } from '../../internal/data/redis/purchase-stream.js';
import { SALE_INVARIANTS, violationsOf } from '../support/audit.js';
import { type SeckillReplica, startReplica } from '../support/seckill.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const SEGMENTS = 4;
let nextUser = 1_000;

/** Users that no other test has, of this home segment where it is given. */
function newUsers(count: number, home?: number, segments = SEGMENTS): number[] {
  const users: number[] = [];
  while (users.length < count) {
    const user = nextUser++;
    if (home === undefined || homeSegment(formatUserId(String(user)), segments) === home) users.push(user);
  }
  return users;
}

describe('A sale in segments', () => {
  const servers = useServers('postgres', 'redis');
  let replica: SeckillReplica;
  let other: SeckillReplica;

  before(async () => {
    [replica, other] = await Promise.all([startReplica(servers), startReplica(servers)]);
    await replica.startConsumer();
  });
  after(async () => {
    await Promise.all([replica?.close(), other?.close()]);
  });

  const redis = () => replica.redis.commands;
  const keysOf = (itemId: bigint, segment: number) => replica.redis.keys.sale(itemId, segment);
  const open = async (change: Partial<CreateSale> = {}) =>
    (await replica.openSale({ segments: SEGMENTS, ...change })).itemId;
  const kindsOf = async (itemId: bigint, users: readonly number[], from = [replica]) => {
    const outcomes = await Promise.all(users.map((user, i) => from[i % from.length]!.buy(itemId, user)));
    return Map.groupBy(outcomes, (o) => o.kind);
  };
  const count = (kinds: ReadonlyMap<string, readonly unknown[]>) =>
    Object.fromEntries([...kinds].map(([kind, outcomes]) => [kind, outcomes.length]));
  const stocksOf = async (itemId: bigint, segments = SEGMENTS) =>
    Promise.all(segmentsOf(segments).map(async (k) => Number(await redis().get(keysOf(itemId, k).stock))));
  const remaining = async (itemId: bigint) => Number((await replica.sales.get(itemId)).remaining);
  const settled = async (itemId: bigint, segments = SEGMENTS) => {
    const stream = new RedisPurchaseStream(replica.redis);
    await eventually('every purchase is settled', async () => (await stream.waiting(itemId, segments)).length === 0);
  };
  const sold = async (itemId: bigint) => Number((await replica.sales.get(itemId)).sale.sold);
  const holds = async () => {
    await eventually('the audit finds nothing', async () => {
      const found = await violationsOf(replica.db, replica.redis, [...SALE_INVARIANTS, 16]);
      if (found.length > 0) throw new Error(found.join('; '));
      return true;
    });
  };
  /** Takes units out of a segment as a process does that dies then. */
  const takeOut = async (itemId: bigint, from: number, to: number, units: number) => {
    const { epoch } = (await replica.sales.get(itemId)).sale;
    return MOVE_OUT.run(redis(), keysOf(itemId, from), [String(epoch), randomUUID(), String(to), String(units)]);
  };

  it('sells every unit to users of all segments, and counts as one sale', async () => {
    const itemId = await open({ total: 40n });
    assert.deepEqual(await stocksOf(itemId), [10, 10, 10, 10]);
    const kinds = await kindsOf(itemId, newUsers(40));
    assert.deepEqual(count(kinds), { QUEUED: 40 });
    const ids = kinds.get('QUEUED')!.map((o) => (o.kind === 'QUEUED' ? o.seckillId : ''));
    const segments = new Set(ids.map((id) => segmentOf(id.slice(id.indexOf('-') + 1))));
    assert.equal(segments.size, SEGMENTS);
    assert.deepEqual(count(await kindsOf(itemId, newUsers(8))), { SOLD_OUT: 8 });
    assert.equal(await remaining(itemId), 0);
    await settled(itemId);
    assert.equal(await sold(itemId), 40);
  });

  it('says SOLD_OUT to no user of an empty segment while another one has units', async () => {
    const itemId = await open({ total: 50n });
    assert.deepEqual(count(await kindsOf(itemId, newUsers(50, 2), [replica, other])), { QUEUED: 50 });
    assert.deepEqual(count(await kindsOf(itemId, newUsers(4, 1))), { SOLD_OUT: 4 });
    await settled(itemId);
    assert.equal(await sold(itemId), 50);
  });

  it('sells a total below the number of its segments', async () => {
    const itemId = await open({ total: 2n, segments: 8 });
    assert.deepEqual(await stocksOf(itemId, 8), [1, 1, 0, 0, 0, 0, 0, 0]);
    assert.deepEqual(count(await kindsOf(itemId, newUsers(20), [replica, other])), { QUEUED: 2, SOLD_OUT: 18 });
    await settled(itemId, 8);
    assert.equal(await sold(itemId), 2);
  });

  it('gives the last unit to exactly one of the users of all segments who ask at once', async () => {
    for (let round = 0; round < 10; round++) {
      const itemId = await open({ total: 1n });
      const users = segmentsOf(SEGMENTS).flatMap((home) => newUsers(4, home));
      assert.deepEqual(count(await kindsOf(itemId, users, [replica, other])), { QUEUED: 1, SOLD_OUT: 15 });
    }
  });

  it('holds a user’s limit and request ids while purchases race and units move', async () => {
    const itemId = await open({ total: 4n, defaultLimit: 3 });
    const [user = 0] = newUsers(1, 3);
    const tries = await Promise.all(
      Array.from({ length: 24 }, (_, i) => (i % 2 ? replica : other).buy(itemId, user, `r${i % 8}`)),
    );
    const granted = tries.flatMap((o, i) => (o.kind === 'QUEUED' ? [[`r${i % 8}`, o.seckillId] as const] : []));
    assert.equal(new Map(granted).size, 3, 'three request ids were granted');
    assert.equal(new Set(granted.map(([, id]) => id)).size, 3, 'each of them has one purchase');
    for (const [requestId, seckillId] of granted) {
      assert.deepEqual(await replica.buy(itemId, user, requestId), { kind: 'QUEUED', seckillId });
    }
    assert.equal((await replica.buy(itemId, user, 'another')).kind, 'LIMIT_REACHED');
    assert.equal(await remaining(itemId), 1);
    await settled(itemId);
    const [first] = granted;
    const record = await replica.seckill.getPurchase(first![1], formatUserId(String(user)));
    assert.equal(record.status, 'PAID');
  });

  it('gathers the units of several segments for one purchase', async () => {
    const sku = await replica.sku(4n);
    await replica.openSaleOf(sku.id, { total: 4n, segments: SEGMENTS, defaultLimit: 9 });
    const [a = 0, b = 0, c = 0] = newUsers(3);
    const kinds = [await replica.buy(sku.id, a, '', '', 3), await replica.buy(sku.id, b, '', '', 2)];
    assert.deepEqual(
      [...kinds, await replica.buy(sku.id, c)].map((o) => o.kind),
      ['QUEUED', 'SOLD_OUT', 'QUEUED'],
    );
    await settled(sku.id);
  });

  it('counts units that are on their way, and sees a move through that its process left', async () => {
    const itemId = await open({ total: 4n });
    assert.equal(await takeOut(itemId, 0, 1, 1), 1);
    assert.deepEqual(await stocksOf(itemId), [0, 1, 1, 1]);
    assert.equal(await remaining(itemId), 4);
    await holds();
    // Of segment 2: it meets the move when its own unit is gone.
    assert.deepEqual(count(await kindsOf(itemId, newUsers(5, 2))), { QUEUED: 4, SOLD_OUT: 1 });
    await settled(itemId);
    assert.equal(await sold(itemId), 4);
  });

  it('shows the units of the other segments while one cannot be read, and is not called sold out', async () => {
    const itemId = await open({ total: 8n });
    const { meta } = keysOf(itemId, 1);
    const show = async () => {
      const view = await replica.sales.get(itemId);
      return [Number(view.remaining), view.availability];
    };
    assert.deepEqual(await show(), [8, 'AVAILABLE']);
    const lose = async () => {
      await redis().rename(meta, `${meta}:kept`);
      await redis().set(meta, 'no hash');
    };
    const restore = async () => redis().rename(`${meta}:kept`, meta);
    await lose();
    assert.deepEqual(await show(), [6, 'AVAILABLE']);
    await restore();
    assert.deepEqual(count(await kindsOf(itemId, newUsers(8, 2))), { QUEUED: 8 });
    await settled(itemId);
    assert.deepEqual(await show(), [0, 'SOLD_OUT']);
    await lose();
    assert.deepEqual(await show(), [0, 'NONE_LEFT_NOW']);
    await restore();
  });

  it('can be watched as one sale: totals of all segments, sold out when all are empty, until its end', async () => {
    const itemId = await open({ total: 4n });
    const seen: SaleView[] = [];
    const stop = new AbortController();
    const watching = (async () => {
      for await (const view of replica.watches.watch(itemId, stop.signal)) seen.push(view);
    })();
    const shows = (what: string, remaining: bigint, availability: string) =>
      eventually(what, () => seen.at(-1)?.remaining === remaining && seen.at(-1)?.availability === availability);
    try {
      await shows('all units', 4n, 'AVAILABLE');
      // Of one segment: the second purchase needs a unit of another one.
      const users = newUsers(4, 3);
      for (const [i, user] of users.slice(0, 3).entries()) {
        assert.equal((await replica.buy(itemId, user)).kind, 'QUEUED');
        await shows('a purchase', BigInt(3 - i), 'AVAILABLE');
      }
      assert.deepEqual((await stocksOf(itemId)).toSorted(), [0, 0, 0, 1]);
      // Units that are on their way are still to be had.
      const from = (await stocksOf(itemId)).indexOf(1);
      await takeOut(itemId, from, (from + 1) % SEGMENTS, 1);
      await settled(itemId);
      await eventually('three are sold', () => seen.at(-1)?.sale.sold === 3n);
      await shows('the last unit', 1n, 'AVAILABLE');
      assert.equal((await replica.buy(itemId, users[3]!)).kind, 'QUEUED');
      await settled(itemId);
      await shows('the end of the stock', 0n, 'SOLD_OUT');
      assert.deepEqual(await stocksOf(itemId), [0, 0, 0, 0]);
      await replica.sales.close(itemId);
      // A sale that is over changes no more: the watch ends by itself.
      await watching;
    } finally {
      stop.abort();
    }
    assert.equal(seen.at(-1)?.availability, 'ENDED');
    const soldOut = seen.find((v) => v.availability === 'SOLD_OUT');
    assert.deepEqual([soldOut?.sale.sold, soldOut?.remaining], [4n, 0n], 'it is sold out when all segments are empty');
  });

  it('has its units spread by the keeper', async () => {
    const itemId = await open({ total: 40n });
    assert.equal(await takeOut(itemId, 1, 0, 10), 10);
    await takeOut(itemId, 2, 0, 9);
    let spread = 0n;
    await eventually('units are spread', async () => {
      spread += (await replica.schedule.reconcile()).spread;
      return (await stocksOf(itemId)).every((stock) => stock >= 5);
    });
    assert.ok(spread > 0n);
    assert.equal(
      (await stocksOf(itemId)).reduce((a, b) => a + b),
      40,
    );
  });

  it('sells units that were returned, whichever segment they came back to', async () => {
    const itemId = await open({ total: 4n, payMode: 'PAY_LATER' });
    const [user = 0] = newUsers(1, 1);
    const bought = await replica.buy(itemId, user);
    assert.deepEqual(count(await kindsOf(itemId, newUsers(4, 3))), { QUEUED: 3, SOLD_OUT: 1 });
    await settled(itemId);
    const userId = formatUserId(String(user));
    const { orderId } = await replica.seckill.getPurchase(bought.kind === 'QUEUED' ? bought.seckillId : '', userId);
    await replica.orders.cancel(orderId!, userId, '');
    await replica.relayReturns();
    assert.equal(await remaining(itemId), 1);
    assert.deepEqual(count(await kindsOf(itemId, newUsers(2, 0), [replica])), { QUEUED: 1, SOLD_OUT: 1 });
    await settled(itemId);
  });

  it('is loaded again as a whole, with nothing lost or oversold, when its segments are lost one by one', async () => {
    const itemId = await open({ total: 40n });
    for (const segment of segmentsOf(SEGMENTS)) {
      assert.deepEqual(count(await kindsOf(itemId, newUsers(8))), { QUEUED: 8 });
      await settled(itemId);
      const lost = Object.values(keysOf(itemId, segment));
      await redis().del(...lost);
      const [stranded = 0] = newUsers(1, segment);
      await assert.rejects(replica.buy(itemId, stranded), /being prepared/);
      await replica.schedule.reconcile();
      assert.equal(await remaining(itemId), 40 - 8 * (segment + 1));
    }
    assert.deepEqual(count(await kindsOf(itemId, newUsers(20))), { QUEUED: 8, SOLD_OUT: 12 });
    await settled(itemId);
    assert.equal(await sold(itemId), 40);
  });

  it('counts purchases that wait in any segment when it is loaded', async () => {
    await replica.stopConsumer();
    const itemId = await open({ total: 10n });
    const users = newUsers(6);
    await kindsOf(itemId, users);
    assert.equal(await replica.loader.load(itemId), 'LOADED');
    assert.equal(await remaining(itemId), 4);
    await replica.saleCache.refresh((await replica.sales.get(itemId)).sale);
    assert.deepEqual(count(await kindsOf(itemId, users)), { LIMIT_REACHED: 6 });
    await replica.startConsumer();
    await settled(itemId);
    assert.equal(await sold(itemId), 6);
  });

  it('keeps entries of two segments apart that have the same stream id and user', async () => {
    const itemId = await open({ total: 10n, defaultLimit: 5 });
    const [user = 0] = newUsers(1);
    const id = `${Date.now() + 1_000}-0`;
    for (const segment of [0, 1]) await redis().xadd(keysOf(itemId, segment).stream, id, 'uid', String(user));
    await settled(itemId);
    assert.equal(await sold(itemId), 2);
    assert.equal(await remaining(itemId), 8);
    for (const seckillId of [`${itemId}-${id}`, `${itemId}-${id}-1`]) {
      assert.equal((await replica.seckill.getPurchase(seckillId, formatUserId(String(user)))).status, 'PAID');
    }
  });

  it('makes an unreadable entry of one segment a dead letter, and orders of all others', async () => {
    const itemId = await open({ total: 10n });
    const id = await redis().xadd(keysOf(itemId, 2).stream, '*', 'uid', 'not a user');
    assert.deepEqual(count(await kindsOf(itemId, newUsers(10))), { QUEUED: 10 });
    await settled(itemId);
    assert.equal(await sold(itemId), 10);
    const letters = await replica.rows('SELECT id FROM dead_letters WHERE message_id = $1', `${id}-2`);
    assert.equal(letters.length, 1);
  });

  it('settles the purchases of the other segments while one has something else for a stream', async () => {
    const itemId = await open({ total: 40n });
    await redis().del(keysOf(itemId, 1).stream);
    await redis().set(keysOf(itemId, 1).stream, 'not a stream');
    const users = [0, 2, 3].flatMap((home) => newUsers(2, home));
    assert.deepEqual(count(await kindsOf(itemId, users)), { QUEUED: 6 });
    await eventually('they are settled', async () => (await sold(itemId)) === 6);
    await replica.schedule.reconcile();
    assert.equal(await remaining(itemId), 34);
    await replica.saleCache.refresh((await replica.sales.get(itemId)).sale);
    assert.deepEqual(count(await kindsOf(itemId, newUsers(2, 1))), { QUEUED: 2 });
    await settled(itemId);
  });

  it('gets more units and gives fewer back as one sale', async () => {
    const itemId = await open({ total: 10n });
    const update = async (total: bigint) => {
      const { version } = (await replica.sales.get(itemId)).sale;
      return replica.sales.update(itemId, version, { total });
    };
    assert.deepEqual(count(await kindsOf(itemId, newUsers(6, 1))), { QUEUED: 6 });
    assert.equal(Number((await update(21n)).remaining), 15);
    assert.equal(Number((await update(7n)).remaining), 1);
    await settled(itemId);
    await assert.rejects(update(5n), isInvalidArgument);
    assert.equal(await remaining(itemId), 1);
    assert.deepEqual(count(await kindsOf(itemId, newUsers(2, 3))), { QUEUED: 1, SOLD_OUT: 1 });
    await settled(itemId);
  });

  it('takes VIP limits and repeated requests at the user’s home, also after the end', async () => {
    const itemId = await open({ total: 8n });
    const [vip = 0] = newUsers(1, 2);
    const userId = formatUserId(String(vip));
    await replica.sales.setVipLimit({ itemId, userId, limit: 2, version: 0n });
    const bought = [await replica.buy(itemId, vip, 'a'), await replica.buy(itemId, vip, 'b')];
    assert.deepEqual(
      [...bought, await replica.buy(itemId, vip, 'c')].map((o) => o.kind),
      ['QUEUED', 'QUEUED', 'LIMIT_REACHED'],
    );
    await replica.sales.close(itemId);
    await replica.saleCache.refresh((await replica.sales.get(itemId)).sale);
    assert.deepEqual(await replica.buy(itemId, vip, 'a'), bought[0]);
    assert.equal((await replica.buy(itemId, vip, 'd')).kind, 'ENDED');
    for (const segment of segmentsOf(SEGMENTS)) {
      assert.equal(await redis().hget(keysOf(itemId, segment).meta, 'closed'), '1');
    }
    await settled(itemId);
  });

  it('has a waiting room that lets users in while any segment has units', async () => {
    const itemId = await open({ total: 4n, admitRate: 1_000 });
    const { sale } = await replica.sales.get(itemId);
    const ask = async () => {
      const [user = 0] = newUsers(1);
      return (await replica.room.ask(sale, formatUserId(String(user)), { turnMs: 60_000, capacity: 100 })).kind;
    };
    await takeOut(itemId, 0, 1, 1);
    assert.match(await ask(), /READY|WAITING/);
    await replica.seckill.purchaseAll(
      itemId,
      newUsers(4, 3).map((user) => ({
        userId: formatUserId(String(user)),
        quantity: 1,
        requestId: '',
        traceparent: '',
      })),
    );
    assert.equal(await ask(), 'SOLD_OUT');
    await settled(itemId);
  });

  it('leaves nothing that the audit finds', () => holds());
});
