import assert from 'node:assert/strict';
import { unavailable } from '../../gen/common/v1/errors.js';
import { isPurchaseNotFound, isSaleUnavailable } from '../../gen/seckill/v1/errors.js';
import { formatUserId } from '../../internal/biz/identity.js';
import type { SettledEntry } from '../../internal/biz/seckill/purchase-stream.js';
import type { PurchaseOutcome } from '../../internal/biz/seckill/seckill.js';
import type { PreparedEntries } from '../../internal/biz/seckill/settlement.js';
import { RedisPurchaseConsumer } from '../../internal/data/redis/purchase-consumer.js';
import { consumersKey, saleKeys } from '../../internal/data/redis/seckill-keys.js';
import type { SeckillConsumer } from '../../internal/server/seckill-consumer.js';
import { SeckillOrderService } from '../../internal/service/seckill.js';
import { type SeckillReplica, startReplica } from '../support/seckill.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

describe('The seckill consumer on PostgreSQL and Redis', () => {
  const servers = useServers('postgres', 'redis');
  let replica: SeckillReplica;
  let running: SeckillConsumer[] = [];

  before(async () => {
    replica = await startReplica(servers);
  });
  after(() => replica?.close());
  afterEach(async () => {
    await Promise.all(running.map((c) => c.stop(AbortSignal.timeout(10_000))));
    running = [];
  });

  const run = async (consumer: SeckillConsumer) => {
    running.push(consumer);
    await consumer.start();
    return consumer;
  };
  const settled = (itemId: bigint) => eventually('the stream is empty', () => replica.idle(itemId));
  const holds = async (itemId: bigint) => assert.deepEqual(await replica.faultsOf(itemId), []);
  const idOf = (outcome: PurchaseOutcome) => {
    assert.ok(outcome.kind === 'QUEUED');
    return outcome.seckillId;
  };
  const status = async (seckillId: string, user: number) =>
    (await replica.seckill.getPurchase(seckillId, formatUserId(String(user)))).status;
  const add = (itemId: bigint, ...fields: string[]) => replica.add(itemId, ...fields);
  const deliveries = (itemId: bigint, count?: number) => replica.deliveries(itemId, count);
  /** A service whose transactions on this item begin when the test says so, as on a slow database. */
  const slowService = (itemId: bigint) => {
    let open = () => {};
    const opened = new Promise<void>((resolve) => {
      open = resolve;
    });
    const waiting: string[] = [];
    class Slow extends SeckillOrderService {
      override async handleSeckillOrder(prepared: PreparedEntries, before: Promise<unknown>) {
        if (prepared.stream.itemId === itemId) {
          waiting.push(...prepared.entries.map((e) => e.entry.streamId));
          await opened;
        }
        return super.handleSeckillOrder(prepared, before);
      }
    }
    return { service: new Slow(replica.settlements), open: () => open(), waiting };
  };
  /** Lets the time pass in which consumers report after Redis lost its data. */
  const passReportTime = async () => {
    const since = Number(await replica.redis.commands.hget(consumersKey(''), 'since'));
    await replica.redis.commands.hset(consumersKey(''), 'since', String(since - 10_000));
  };

  it('changes nothing when it settles entries again that were committed and not removed', async () => {
    const { itemId } = await replica.openSale();
    await Promise.all([1, 2, 3].map((user) => replica.buy(itemId, user)));
    await add(itemId, 'uid', '4');
    await add(itemId, 'uid', '4');
    const batch = await deliveries(itemId);
    const first = await replica.settle(itemId, batch);
    const second = await replica.settle(itemId, [...batch, ...batch].reverse());
    assert.deepEqual(second.settled, first.settled);
    // The process died here. Another one finds the entries and removes them.
    await run(replica.consumer('a'));
    await settled(itemId);
    await holds(itemId);
    const [count] = await replica.rows<{ n: bigint }>('SELECT count(*) AS n FROM orders WHERE product_id = $1', itemId);
    assert.equal(count?.n, 4n);
  });

  it('settles each entry once when several processes race for it', async () => {
    const { itemId } = await replica.openSale({ total: 60n });
    await Promise.all(Array.from({ length: 60 }, (_, i) => replica.buy(itemId, i)));
    const batch = await deliveries(itemId);
    await Promise.all(Array.from({ length: 6 }, () => replica.settle(itemId, batch)));
    await run(replica.consumer('a'));
    await settled(itemId);
    await holds(itemId);
    assert.equal((await replica.sales.get(itemId)).sale.sold, 60n);
  });

  it('finds the entries it left unfinished by its name', async () => {
    const { itemId } = await replica.openSale();
    const before = replica.streamConsumer('stable');
    await replica.redis.ready(5_000);
    await before.join([itemId]);
    const seckillId = idOf(await replica.buy(itemId, 1));
    const { deliveries: read } = await before.read([{ itemId, from: 'new' }], 10, 100);
    assert.equal(read.get(itemId)?.length, 1);
    before.interrupt();
    await run(replica.consumer('stable'));
    await settled(itemId);
    assert.equal(await status(seckillId, 1), 'PAID');
  });

  it('claims the entries that another consumer left', async () => {
    const { itemId } = await replica.openSale();
    const dead = replica.streamConsumer('dead');
    await replica.redis.ready(5_000);
    await dead.join([itemId]);
    const seckillId = idOf(await replica.buy(itemId, 1));
    await dead.read([{ itemId, from: 'new' }], 10, 100);
    dead.interrupt();
    await run(replica.consumer('alive', { claimIdleMs: 50 }));
    await settled(itemId);
    assert.equal(await status(seckillId, 1), 'PAID');
    await holds(itemId);
  });

  it('loses no entry while the database is away', async () => {
    const { itemId } = await replica.openSale();
    let failures = 3;
    class Flaky extends SeckillOrderService {
      override handleSeckillOrder(prepared: PreparedEntries, before: Promise<unknown>) {
        if (prepared.stream.itemId === itemId && failures-- > 0) return Promise.reject(unavailable('away'));
        return super.handleSeckillOrder(prepared, before);
      }
    }
    await Promise.all([1, 2, 3].map((user) => replica.buy(itemId, user)));
    await run(replica.consumer('a', {}, new Flaky(replica.settlements)));
    await settled(itemId);
    assert.ok(failures < 0);
    await holds(itemId);
  });

  it('takes units off the stock for orders whose entries Redis lost after they were read', async () => {
    const { itemId } = await replica.openSale({ total: 6n });
    for (const user of [1, 2]) await replica.buy(itemId, user);
    await add(itemId, 'uid', '3');
    const read = await deliveries(itemId);
    await replica.redis.commands.flushdb();
    // The load finds no entry that waits, and nothing sold.
    await replica.loader.load(itemId);
    assert.equal((await replica.sales.get(itemId)).remaining, 6n);
    const { settled: entries, counts } = await replica.settle(itemId, read);
    assert.equal(counts.ORDER, 3);
    const consumer = replica.streamConsumer('a');
    await consumer.finish(itemId, entries);
    await consumer.finish(itemId, entries);
    consumer.interrupt();
    assert.equal((await replica.sales.get(itemId)).remaining, 3n);
    assert.equal((await replica.buy(itemId, 1)).kind, 'LIMIT_REACHED');
    await holds(itemId);
  });

  it('creates its group again after Redis lost it, and goes on', async () => {
    const { itemId } = await replica.openSale();
    await run(replica.consumer('a'));
    await replica.buy(itemId, 1);
    await settled(itemId);
    await replica.redis.commands.flushdb();
    await assert.rejects(replica.buy(itemId, 2), isSaleUnavailable);
    await replica.sales.open(itemId);
    const seckillId = idOf(await replica.buy(itemId, 2));
    await eventually('the order is there', async () => (await status(seckillId, 2)) === 'PAID');
    await settled(itemId);
    await holds(itemId);
  });

  it('goes on after its connections were closed by the server', async () => {
    const { itemId } = await replica.openSale();
    await run(replica.consumer('a'));
    await replica.buy(itemId, 1);
    await settled(itemId);
    const database = servers.redisUrl.split('/').at(-1);
    const clients = String(await replica.redis.commands.client('LIST')).split('\n');
    for (const line of clients.filter((l) => l.includes(' name=kaimai') && l.includes(` db=${database} `))) {
      await replica.redis.commands.client('KILL', 'ID', /^id=(\d+)/.exec(line)![1]!).catch(() => {});
    }
    const seckillId = await eventually('admission is back', async () => {
      const outcome = await replica.buy(itemId, 2, 'r').catch(() => undefined);
      return outcome?.kind === 'QUEUED' && outcome.seckillId;
    });
    await eventually('the order is there', async () => (await status(seckillId, 2)) === 'PAID');
    await settled(itemId);
    await holds(itemId);
  });

  it('corrects the stock of a sale that is loaded after a flush while its entries are settled slowly', async () => {
    const { itemId } = await replica.openSale({ total: 6n });
    const { service, open, waiting } = slowService(itemId);
    let refused = () => {};
    const loadMayEnd = new Promise<void>((resolve) => {
      refused = resolve;
    });
    class Watched extends RedisPurchaseConsumer {
      override async finish(id: bigint, entries: readonly SettledEntry[]) {
        const later = await super.finish(id, entries);
        if (id === itemId && later.size === 2) refused();
        return later;
      }
    }
    await run(replica.consumer('a', {}, service, new Watched(replica.redis, async () => 'a')));
    const ids = [idOf(await replica.buy(itemId, 1)), idOf(await replica.buy(itemId, 2))];
    await eventually('both entries are in memory', async () => waiting.length === 2);
    await replica.redis.commands.flushdb();
    // The load takes the next epoch in PostgreSQL, the entries are committed under it, and Redis is loaded after that.
    const leaseLoad = replica.admission.leaseLoad.bind(replica.admission);
    replica.admission.leaseLoad = async (id) => {
      const lease = await leaseLoad(id);
      assert.ok(lease);
      return {
        ...lease,
        load: async (state) => {
          open();
          await loadMayEnd;
          return lease.load(state);
        },
      };
    };
    try {
      await replica.loader.load(itemId);
    } finally {
      replica.admission.leaseLoad = leaseLoad;
    }
    await eventually('the stock is corrected', async () => (await replica.sales.get(itemId)).remaining === 4n);
    assert.deepEqual(await Promise.all(ids.map((id, i) => status(id, i + 1))), ['PAID', 'PAID']);
    await holds(itemId);
  });

  it('answers NOT_KNOWN_YET for a purchase in its memory that Redis lost, and PAID when it is an order', async () => {
    const { itemId } = await replica.openSale({ total: 6n });
    const { service, open, waiting } = slowService(itemId);
    await run(replica.consumer('a', { batchSize: 1 }, service));
    const bought = idOf(await replica.buy(itemId, 1));
    await eventually('the entry is in memory', async () => waiting.length === 1);
    await replica.redis.commands.flushdb();
    const never = `${itemId}-${Date.now()}-0`;
    assert.equal(await status(bought, 1), 'NOT_KNOWN_YET');
    assert.equal(await status(never, 1), 'NOT_KNOWN_YET', 'it might be in memory too');
    const settledSinceLoss = async () => {
      const [since, report] = await replica.redis.commands.hmget(consumersKey(''), 'since', 'consumer:a');
      return report == null ? undefined : Number(report.split(' ')[0]) >= Number(since);
    };
    await eventually('the consumer reports', async () => (await settledSinceLoss()) !== undefined);
    assert.equal(await settledSinceLoss(), false);
    open();
    await eventually('the purchase is an order', async () => (await status(bought, 1)) === 'PAID');
    await eventually('the consumer has settled what it had in memory', settledSinceLoss);
    await passReportTime();
    await assert.rejects(status(never, 1), isPurchaseNotFound);
  });

  it('counts a consumer that stopped as holding no purchase, and one that hangs as dead after a minute', async () => {
    const consumer = await run(replica.consumer('a'));
    const field = 'consumer:a';
    const reported = () => replica.redis.commands.hget(consumersKey(''), field);
    await replica.redis.commands.del(consumersKey(''));
    await eventually('a report', reported);
    await consumer.stop(AbortSignal.timeout(10_000));
    assert.equal(await reported(), null);
    const never = `1001-${Date.now()}-0`;
    await passReportTime();
    await assert.rejects(status(never, 1), isPurchaseNotFound);
    const hangsSince = (ms: number) =>
      replica.redis.commands.hset(consumersKey(''), field, `${Date.now() - 120_000} ${Date.now() - ms}`);
    await hangsSince(50_000);
    assert.equal(await status(never, 1), 'NOT_KNOWN_YET');
    await hangsSince(70_000);
    await assert.rejects(status(never, 1), isPurchaseNotFound);
    assert.equal(await reported(), null);
  });

  it('takes data on another server for lost, as after a failover', async () => {
    const never = `1001-${Date.now()}-0`;
    const keys = consumersKey('');
    await replica.redis.commands.hset(keys, 'server', 'another', 'since', String(Date.now() - 60_000));
    assert.equal(await status(never, 1), 'NOT_KNOWN_YET');
    assert.match((await replica.redis.commands.hget(keys, 'server')) ?? '', /^[0-9a-f]{40}$/);
    await replica.redis.commands.set(keys, 'not a hash');
    assert.equal(await status(never, 1), 'NOT_KNOWN_YET');
    await passReportTime();
    await assert.rejects(status(never, 1), isPurchaseNotFound);
  });

  it('sets aside an item whose stream key is of another type, and settles the others', async () => {
    const [broken, sound] = [await replica.plan(), await replica.plan()];
    await replica.redis.commands.set(saleKeys('', broken.id).stream, 'not a stream');
    await run(replica.consumer('a'));
    const ordered = async (itemId: bigint) =>
      (await replica.rows('SELECT FROM orders WHERE product_id = $1', itemId)).length;
    await add(sound.id, 'uid', '1');
    await eventually('the other item is settled', async () => (await ordered(sound.id)) === 1);
    // A key that changes its type while it is read fails one read of all items.
    await replica.redis.commands.del(saleKeys('', broken.id).stream);
    await add(broken.id, 'uid', '1');
    await eventually('the repaired item is settled', async () => (await ordered(broken.id)) === 1);
    await settled(broken.id);
    await replica.redis.commands.del(saleKeys('', broken.id).stream);
    await replica.redis.commands.set(saleKeys('', broken.id).stream, 'not a stream');
    await add(sound.id, 'uid', '2');
    await eventually('the other item is settled again', async () => (await ordered(sound.id)) === 2);
    assert.equal((await replica.streamConsumer('b').backlog()).units, 0);
  });

  it('settles an entry whose stream id another user has already, as after a failover to a slower clock', async () => {
    const plan = await replica.plan();
    await run(replica.consumer('a'));
    const streamId = await add(plan.id, 'uid', '1', 'req_id', '5');
    const seckillId = `${plan.id}-${streamId}`;
    await eventually('the first order', async () => (await status(seckillId, 1).catch(() => '')) === 'PAID');
    await settled(plan.id);
    await replica.redis.commands.flushdb();
    await replica.redis.commands.xadd(saleKeys('', plan.id).stream, streamId, 'uid', '2', 'req_id', '5');
    await eventually('the second order', async () => (await status(seckillId, 2).catch(() => '')) === 'PAID');
    assert.equal(await status(seckillId, 1), 'PAID');
    await settled(plan.id);
    // The entry comes a third time, as a redelivery to each of its users would.
    await replica.redis.commands.flushdb();
    await replica.redis.commands.xadd(saleKeys('', plan.id).stream, streamId, 'uid', '2', 'req_id', '5');
    await settled(plan.id);
    const orders = await replica.rows<{ user_id: string }>(
      'SELECT user_id FROM orders WHERE product_id = $1 ORDER BY user_id',
      plan.id,
    );
    assert.deepEqual(
      orders.map((o) => o.user_id),
      [formatUserId('1'), formatUserId('2')],
    );
    await holds(plan.id);
  });

  it('loses no entry that gets the id of another one while that is being finished, as in a failover to a slower clock', async () => {
    const plan = await replica.plan();
    const { stream } = saleKeys('', plan.id);
    const redis = replica.redis;
    class FailsOver extends RedisPurchaseConsumer {
      private again = false;

      override async finish(itemId: bigint, entries: readonly SettledEntry[]): Promise<ReadonlySet<string>> {
        if (!this.again) {
          // The new server has missed the entry, and its clock gives the same id to another buyer.
          await redis.commands.del(stream);
          await redis.commands.xadd(stream, entries[0]!.streamId, 'uid', '2');
          this.again = true;
        }
        return super.finish(itemId, entries);
      }
    }
    const streamId = await add(plan.id, 'uid', '1');
    const streams = new FailsOver(redis, async () => 'a');
    await run(replica.consumer('a', {}, undefined, streams));
    const seckillId = `${plan.id}-${streamId}`;
    for (const user of [1, 2]) {
      await eventually(
        `the order of buyer ${user}`,
        async () => (await status(seckillId, user).catch(() => '')) === 'PAID',
      );
    }
    await settled(plan.id);
    await holds(plan.id);
  });

  it('leaves units of a reloaded sale for a waiting entry whose stream id another user has already', async () => {
    const { itemId } = await replica.openSale({ total: 5n });
    const { stream } = saleKeys('', itemId);
    const seckillId = idOf(await replica.buy(itemId, 1));
    await replica.settle(itemId, await deliveries(itemId));
    await replica.redis.commands.flushdb();
    const streamId = seckillId.slice(`${itemId}-`.length);
    const { epoch } = (await replica.sales.get(itemId)).sale;
    await replica.redis.commands.xadd(stream, streamId, 'uid', formatUserId('2'), 'qty', '1', 'epoch', String(epoch));
    await replica.loader.load(itemId);
    assert.equal((await replica.sales.get(itemId)).remaining, 3n);
    await run(replica.consumer('a'));
    await settled(itemId);
    assert.equal(await status(seckillId, 2), 'PAID');
    assert.equal((await replica.sales.get(itemId)).remaining, 3n);
    await holds(itemId);
  });
});
