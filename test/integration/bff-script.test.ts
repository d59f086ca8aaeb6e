import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { formatUserId } from '../../internal/biz/identity.js';
import type { SeckillConsumer } from '../../internal/server/seckill-consumer.js';
import { SALE_INVARIANTS, violationsOf } from '../support/audit.js';
import { Bff, type ScriptPurchase as Purchase, uuidOf as uid } from '../support/bff.js';
import { type SeckillReplica, startReplica } from '../support/seckill.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const UNITS = 300;
const BUYERS = 900;

describe('A BFF that runs the admission script itself', () => {
  const servers = useServers('postgres', 'redis');
  let replica: SeckillReplica;
  let consumer: SeckillConsumer;
  let bff: Bff;
  let itemId: bigint;

  before(async () => {
    replica = await startReplica(servers);
    consumer = replica.consumer('a');
    await consumer.start();
    ({ itemId } = await replica.openSale({ total: BigInt(UNITS), defaultLimit: 2 }));
    bff = new Bff(servers.redisUrl, String(itemId));
    await bff.learnEpoch();
  });
  after(async () => {
    bff?.close();
    await consumer?.stop(AbortSignal.timeout(10_000));
    await replica?.close();
  });

  it('sells one sale together with the service, without a unit too many', async () => {
    /** Buyers who got QUEUED, with the purchase id to poll. */
    const queued: { user: string; seckillId: string }[] = [];
    let soldOut = 0;
    let limited = 0;
    const byScript = async (purchases: readonly Purchase[]) => {
      const outcomes = await bff.buy(purchases);
      assert.equal(outcomes.length, purchases.length);
      outcomes.forEach((outcome, i) => {
        const [word, streamId] = outcome.split(' ');
        if (word === 'QUEUED') queued.push({ user: purchases[i]!.uid, seckillId: `${itemId}-${streamId}` });
        else if (word === 'SOLD_OUT') soldOut += 1;
        else if (word === 'LIMIT_REACHED') limited += 1;
        else assert.fail(outcome);
      });
      return outcomes;
    };
    const byService = async (user: string, requestId: string) => {
      const outcome = await eventually('the service answers', () =>
        replica.buy(itemId, user, requestId).catch(() => undefined),
      );
      if (outcome.kind === 'QUEUED') queued.push({ user, seckillId: outcome.seckillId });
      else if (outcome.kind === 'SOLD_OUT') soldOut += 1;
      else if (outcome.kind === 'LIMIT_REACHED') limited += 1;
      else assert.fail(outcome.kind);
      return outcome;
    };

    // One click sent both ways is one purchase, whichever way is first.
    const both = { uid: uid(1), requestId: 'one-click' };
    const [first] = await byScript([both]);
    const second = await byService('1', both.requestId);
    assert.ok(second.kind === 'QUEUED' && second.seckillId === `${itemId}-${first!.split(' ')[1]}`);

    // Redis forgets the script and the sale is loaded under another epoch: before any other client sends the script again.
    await replica.redis.commands.script('FLUSH');
    await replica.loader.load(itemId);
    assert.deepEqual(await byScript([both]), [first]);
    assert.deepEqual([bff.unavailable, bff.unknownScript > 0], [1, true]);

    // Users 2 to BUYERS click three times: through the script, through the service, and through the script again. Ten
    // users click at a time, in several groups side by side.
    let next = 2;
    const lane = async () => {
      while (next <= BUYERS) {
        const group = Array.from({ length: 10 }, (_, i) => next + i);
        next += 10;
        // The same in the middle of the rush.
        if (group[0] === 102) await replica.redis.commands.script('FLUSH').then(() => replica.loader.load(itemId));
        await Promise.all([
          byScript(group.map((n) => ({ uid: uid(n), requestId: `s-${n}` }))),
          ...group.map((n) => byService(String(n), '')),
          byScript(group.map((n) => ({ uid: uid(n), requestId: '' }))),
        ]);
      }
    };
    await Promise.all(Array.from({ length: 6 }, lane));
    assert.ok(bff.unavailable > 1 && soldOut > 0 && limited > 0);

    await eventually('the stream is empty', () => replica.idle(itemId));
    assert.deepEqual((await violationsOf(replica.db, replica.redis, SALE_INVARIANTS)).slice(0, 10), []);
    const { sale, remaining, availability } = await replica.sales.get(itemId);
    assert.deepEqual([sale.sold, remaining, availability], [BigInt(UNITS), 0n, 'SOLD_OUT']);
    const ids = new Map(queued.map((q) => [q.seckillId, q.user]));
    assert.equal(ids.size, UNITS);
    const held = new Map<string, number>();
    for (const [seckillId, user] of ids) {
      const { status } = await replica.seckill.getPurchase(seckillId, formatUserId(user));
      assert.equal(status, 'PAID', seckillId);
      held.set(formatUserId(user), (held.get(formatUserId(user)) ?? 0) + 1);
    }
    assert.ok([...held.values()].every((units) => units <= 2));
  });

  it('buys in the home segment of its user, by the keys that the guide gives a segment', async () => {
    const SEGMENTS = 2;
    const { itemId: split } = await replica.openSale({ total: 4n, segments: SEGMENTS });
    let user = 1;
    while (crc32(uid(user)) % SEGMENTS !== 1) user += 1;
    const client = new Bff(servers.redisUrl, `${split}#1`);
    try {
      await client.learnEpoch();
      const [outcome = ''] = await client.buy([{ uid: uid(user), requestId: 'mine' }]);
      const [, streamId] = /^QUEUED (\d+-\d+)$/.exec(outcome) ?? [];
      const seckillId = `${split}-${streamId}-1`;
      assert.deepEqual(await replica.buy(split, user, 'mine'), { kind: 'QUEUED', seckillId }, outcome);
      await eventually('it is an order', async () => {
        return (await replica.seckill.getPurchase(seckillId, uid(user))).status === 'PAID';
      });
      await eventually('the audit finds nothing', async () => {
        return (await violationsOf(replica.db, replica.redis, SALE_INVARIANTS)).length === 0;
      });
    } finally {
      client.close();
    }
  });

  it('learns the outcome of a call whose reply it lost by repeating the request id', async () => {
    const { itemId: other } = await replica.openSale({ total: 5n });
    const client = new Bff(servers.redisUrl, String(other));
    try {
      await client.learnEpoch();
      const wish = { uid: randomUUID(), requestId: 'mine' };
      const lost = client.buy([wish]);
      client.cut();
      await Promise.allSettled([lost]);
      const [again] = await eventually('the connection is back', () => client.buy([wish]).catch(() => undefined));
      assert.match(again!, /^QUEUED \d+-\d+$/);
      assert.deepEqual(await client.buy([wish]), [again]);
      await eventually('the stream is empty', () => replica.idle(other));
      assert.equal((await replica.sales.get(other)).sale.sold, 1n);
      assert.deepEqual(await violationsOf(replica.db, replica.redis, SALE_INVARIANTS), []);
    } finally {
      client.close();
    }
  });
});
