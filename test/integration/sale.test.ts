import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { isInvalidArgument } from '../../gen/common/v1/errors.js';
import {
  isSaleNotFound,
  isSaleStatusConflict,
  isSaleUnavailable,
  isSaleVersionConflict,
} from '../../gen/seckill/v1/errors.js';
import { formatUserId } from '../../internal/biz/identity.js';
import { PurchaseCollector } from '../../internal/biz/seckill/purchase-collector.js';
import type { CreateSale, SaleView } from '../../internal/biz/seckill/sale.js';
import { ADMIT } from '../../internal/data/redis/lua-script.js';
import { saleKeys } from '../../internal/data/redis/seckill-keys.js';
import { SeckillService } from '../../internal/service/seckill.js';
import { publishedScript } from '../support/bff.js';
import { type SeckillReplica, startReplica } from '../support/seckill.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const ALICE = formatUserId('1');

describe('A sale', () => {
  const servers = useServers('postgres', 'redis');
  let replica: SeckillReplica;

  before(async () => {
    replica = await startReplica(servers);
    await replica.startConsumer();
  });
  after(() => replica?.close());

  const settled = (itemId: bigint) => eventually('the stream is empty', () => replica.idle(itemId));
  const holds = async (itemId: bigint) => assert.deepEqual(await replica.faultsOf(itemId), []);
  const view = async (itemId: bigint) => {
    const { sale, remaining, availability } = await replica.sales.get(itemId);
    return [sale.status, remaining, availability];
  };
  const plan = async (change: Partial<CreateSale>) => {
    const item = await replica.plan();
    const wanted = {
      itemId: item.id,
      name: '',
      startsAt: undefined,
      endsAt: undefined,
      total: 5n,
      priceFen: undefined,
      payMode: 'PREPAID',
      payTimeoutMs: undefined,
      defaultLimit: 1,
      ...change,
    } as const;
    await replica.sales.create(wanted);
    return item.id;
  };
  /** Lets an open sale begin and end so long from now, for both servers. */
  const moveWindow = async (itemId: bigint, startsInMs: number, endsInMs: number) => {
    const [startsMs, endsMs] = [Date.now() + startsInMs, Date.now() + endsInMs];
    const moved = 'UPDATE sales SET starts_at = $2, ends_at = $3 WHERE item_id = $1';
    await replica.rows(moved, itemId, new Date(startsMs), new Date(endsMs));
    await replica.redis.commands.hset(saleKeys('', itemId).meta, 'starts_ms', startsMs, 'ends_ms', endsMs);
  };
  const keptFaults = async () => (await replica.schedule.reconcile()).failures.map((f) => f.cause);

  describe('on its schedule', () => {
    it('opens a moment before its start, admits no buyer before it, and closes at its end', async () => {
      const later = await plan({ startsAt: new Date(Date.now() + 3_600_000) });
      const soon = await plan({ startsAt: new Date(Date.now() + 4_000), endsAt: new Date(Date.now() + 3_600_000) });
      assert.deepEqual(await keptFaults(), []);
      assert.deepEqual(await view(later), ['SCHEDULED', 0n, 'NOT_STARTED']);
      assert.deepEqual(await view(soon), ['OPEN', 5n, 'NOT_STARTED']);
      assert.equal((await replica.buy(soon, 1)).kind, 'NOT_STARTED');
      await moveWindow(soon, -1_000, 3_600_000);
      await eventually('it has started', async () => (await replica.buy(soon, 1)).kind === 'QUEUED');
      assert.equal((await view(soon))[2], 'AVAILABLE');
      await moveWindow(soon, -2_000, -1_000);
      await eventually('it is over', async () => (await replica.buy(soon, 1)).kind === 'ENDED');
      await eventually('it is closed', async () => {
        assert.deepEqual(await keptFaults(), []);
        return (await view(soon))[0] === 'CLOSED';
      });
      await settled(soon);
      assert.equal((await replica.sales.get(soon)).sale.sold, 1n);
    });

    it('is opened once when two replicas look at the same time', async () => {
      const itemId = await plan({});
      const both = await Promise.all([replica.schedule.reconcile(), replica.schedule.reconcile()]);
      assert.deepEqual(
        both.flatMap((k) => k.failures),
        [],
      );
      assert.deepEqual(await view(itemId), ['OPEN', 5n, 'AVAILABLE']);
      const { epoch, firstEpoch } = (await replica.sales.get(itemId)).sale;
      assert.equal(epoch, firstEpoch);
    });

    it('is opened by a caller as soon as the process that loads it is done', async () => {
      const itemId = await plan({});
      const lease = await replica.admission.leaseLoad(itemId, 1);
      assert.ok(lease);
      await assert.rejects(replica.sales.open(itemId), isSaleUnavailable);
      const opened = replica.sales.open(itemId, 60_000);
      await sleep(100);
      await lease.release();
      assert.equal((await opened).sale.status, 'OPEN');
    });

    it('is loaded again when Redis has lost any of its keys or is another server', async () => {
      const itemId = await plan({});
      await replica.sales.open(itemId);
      const keys = saleKeys('', itemId);
      await replica.buy(itemId, 1);
      await settled(itemId);
      const loss: (() => Promise<unknown>)[] = [
        () => replica.redis.commands.flushdb(),
        () => replica.redis.commands.del(keys.stock),
        () => replica.redis.commands.del(keys.req),
        () => replica.redis.commands.del(keys.meta),
        // A failover: everything is there, but it is another server, which may have missed the last writes.
        () => replica.redis.commands.hset(keys.meta, 'server', 'another'),
      ];
      for (const lose of loss) {
        const before = (await replica.sales.get(itemId)).sale.epoch;
        await lose();
        assert.deepEqual(await keptFaults(), []);
        const { sale, remaining } = await replica.sales.get(itemId);
        assert.ok(sale.epoch > before, String(lose));
        assert.equal(remaining, 4n);
        await holds(itemId);
      }
      const { epoch } = (await replica.sales.get(itemId)).sale;
      await replica.schedule.reconcile();
      assert.equal((await replica.sales.get(itemId)).sale.epoch, epoch);
    });

    it('counts the entries of a stream that survived', async () => {
      const itemId = await plan({ total: 3n });
      await replica.sales.open(itemId);
      await replica.stopConsumer();
      try {
        await Promise.all([replica.buy(itemId, 1), replica.buy(itemId, 2)]);
        await replica.redis.commands.del(saleKeys('', itemId).meta);
        assert.deepEqual(await keptFaults(), []);
        assert.equal((await replica.sales.get(itemId)).remaining, 1n);
        assert.equal((await replica.buy(itemId, 1)).kind, 'LIMIT_REACHED');
        assert.equal((await replica.buy(itemId, 3)).kind, 'QUEUED');
        assert.equal((await replica.buy(itemId, 4)).kind, 'SOLD_OUT');
      } finally {
        await replica.startConsumer();
      }
      await settled(itemId);
      await holds(itemId);
    });
  });

  it('distinguishes "none left now" from "sold out"', async () => {
    const itemId = await plan({ total: 1n, payMode: 'PAY_LATER' });
    await replica.sales.open(itemId);
    await replica.buy(itemId, 1);
    await settled(itemId);
    assert.deepEqual(await view(itemId), ['OPEN', 0n, 'NONE_LEFT_NOW']);
    await eventually('it is known', async () => {
      const refused = await replica.buy(itemId, 2);
      return refused.kind === 'SOLD_OUT' && refused.mayReturn;
    });
    const [order] = await replica.rows<{ id: bigint; user_id: string }>(
      'SELECT id, user_id FROM orders WHERE product_id = $1',
      itemId,
    );
    assert.ok(order);
    await replica.orders.cancel(order.id, order.user_id, '');
    await replica.relayReturns();
    assert.deepEqual(await view(itemId), ['OPEN', 1n, 'AVAILABLE']);
    // Known in process as sold out for a moment, and then not any more.
    await eventually('it can be bought again', async () => (await replica.buy(itemId, 2)).kind === 'QUEUED');
    await settled(itemId);
    const [second] = await replica.rows<{ id: bigint }>(
      'SELECT id FROM orders WHERE product_id = $1 AND status = 0',
      itemId,
    );
    assert.ok(second);
    await replica.orders.markPaid({
      orderId: second.id,
      userId: undefined,
      provider: '',
      eventId: '',
      amountFen: undefined,
    });
    assert.deepEqual(await view(itemId), ['OPEN', 0n, 'SOLD_OUT']);
    await eventually('it is over for good', async () => {
      const refused = await replica.buy(itemId, 3);
      return refused.kind === 'SOLD_OUT' && !refused.mayReturn;
    });
    await holds(itemId);
  });

  it('answers SOLD_OUT without asking Redis, except for repeated requests', async () => {
    const itemId = await plan({ total: 1n });
    await replica.sales.open(itemId);
    const first = await replica.buy(itemId, 1, 'r');
    assert.equal((await replica.buy(itemId, 2)).kind, 'SOLD_OUT');
    const commands = async () => {
      const stats = await replica.redis.commands.info('commandstats');
      return Number(/cmdstat_evalsha:calls=(\d+)/.exec(stats)?.[1]);
    };
    const before = await commands();
    const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => replica.buy(itemId, 3 + i)));
    assert.ok(answers.every((a) => a.kind === 'SOLD_OUT'));
    // The consumer's own calls stand beside; fifty purchases would have been more than these.
    assert.ok((await commands()) - before < 10);
    assert.deepEqual(await replica.buy(itemId, 1, 'r'), first);
  });

  describe('has limits that', () => {
    it('change for one user while it runs, once for each version', async () => {
      const itemId = await plan({ total: 10n });
      const set = (limit: number, version: bigint) =>
        replica.sales.setVipLimit({ itemId, userId: ALICE, limit, version });
      assert.deepEqual(await set(2, 0n), { limit: 2, left: 2, version: 1n });
      await replica.sales.open(itemId);
      await replica.buy(itemId, 1);
      await replica.buy(itemId, 1);
      assert.equal((await replica.buy(itemId, 1)).kind, 'LIMIT_REACHED');
      await settled(itemId);
      assert.deepEqual(await set(3, 1n), { limit: 3, left: 1, version: 2n });
      assert.deepEqual(await set(3, 1n), { limit: 3, left: 1, version: 2n });
      await assert.rejects(set(9, 1n), isSaleVersionConflict);
      await assert.rejects(set(9, 0n), isSaleVersionConflict);
      assert.equal((await replica.buy(itemId, 1)).kind, 'QUEUED');
      assert.equal((await replica.buy(itemId, 1)).kind, 'LIMIT_REACHED');
      await settled(itemId);
      assert.equal((await replica.sales.get(itemId)).sale.sold, 3n);
      assert.deepEqual(await replica.sales.limitOf(itemId, ALICE), { limit: 3, left: 0, version: 2n });
      assert.deepEqual(await replica.sales.limitOf(itemId, formatUserId('2')), { limit: 1, left: 1, version: 0n });
      await assert.rejects(replica.sales.limitOf(999_999n, ALICE), isSaleNotFound);
      // ReconcileResult over a load from PostgreSQL.
      await replica.loader.load(itemId);
      assert.equal(await replica.redis.commands.hget(saleKeys('', itemId).vip, ALICE), '3');
      assert.equal((await set(0, 2n)).left, 0);
      await holds(itemId);
    });

    it('may be lower for one user than the default, even none', async () => {
      const itemId = await plan({ defaultLimit: 5 });
      await replica.sales.open(itemId);
      await replica.sales.setVipLimit({ itemId, userId: ALICE, limit: 0, version: 0n });
      assert.equal((await replica.buy(itemId, 1)).kind, 'LIMIT_REACHED');
      assert.equal((await replica.buy(itemId, 2)).kind, 'QUEUED');
      // PostgreSQL holds it too, for entries that admission did not see.
      await replica.redis.commands.xadd(saleKeys('', itemId).stream, '*', 'uid', '1');
      await settled(itemId);
      assert.equal((await replica.sales.get(itemId)).sale.sold, 1n);
    });

    it('change for all users while it runs', async () => {
      const itemId = await plan({});
      await replica.sales.open(itemId);
      await replica.buy(itemId, 1);
      assert.equal((await replica.buy(itemId, 1)).kind, 'LIMIT_REACHED');
      await settled(itemId);
      const { version } = (await replica.sales.get(itemId)).sale;
      const changed = await replica.sales.update(itemId, version, { defaultLimit: 2 });
      assert.deepEqual([changed.sale.defaultLimit, changed.sale.version], [2, version + 1n]);
      await assert.rejects(replica.sales.update(itemId, version, { defaultLimit: 3 }), isSaleVersionConflict);
      assert.equal((await replica.buy(itemId, 1)).kind, 'QUEUED');
      await settled(itemId);
      assert.equal((await replica.sales.get(itemId)).sale.sold, 2n);
      await replica.sales.close(itemId);
      await assert.rejects(replica.sales.update(itemId, version + 1n, { defaultLimit: 3 }), isSaleStatusConflict);
      await assert.rejects(replica.sales.update(999_999n, 1n, { defaultLimit: 3 }), isSaleNotFound);
    });

    it('are in Redis as PostgreSQL has them when many callers change them at once', async () => {
      const itemId = await plan({});
      await replica.sales.open(itemId);
      let version = 0n;
      const changes = Array.from({ length: 20 }, async (_, i) => {
        for (;;) {
          try {
            version = (await replica.sales.setVipLimit({ itemId, userId: ALICE, limit: i, version })).version;
            return;
          } catch (err) {
            if (!isSaleVersionConflict(err)) throw err;
            version = BigInt(err.metadata.version ?? 0);
          }
        }
      });
      await Promise.all(changes);
      const [row] = await replica.rows<{ units: number; version: bigint }>(
        'SELECT units, version FROM vip_limits WHERE user_id = $1 ORDER BY created_at DESC LIMIT 1',
        ALICE,
      );
      assert.equal(row?.version, 20n);
      assert.equal(await replica.redis.commands.hget(saleKeys('', itemId).vip, ALICE), String(row.units));
    });
  });

  describe('takes many purchases in one call that', () => {
    it('are answered one by one in their order', async () => {
      const itemId = await plan({ total: 2n });
      await replica.sales.open(itemId);
      const { sales, watches, seckill, waitingRoom } = replica;
      const collector = new PurchaseCollector(seckill);
      const service = new SeckillService(sales, watches, seckill, waitingRoom, collector, { window: 1 });
      const ctx = { metadata: () => undefined } as never;
      const purchase = (userId: string, quantity = 1, requestId = '') => ({ userId, quantity, requestId });
      const { results } = await service.purchaseBatch(
        {
          itemId,
          purchases: [
            purchase('1', 1, 'r'),
            purchase('1'),
            purchase('2', 2),
            purchase('1', 1, 'r'),
            purchase('3'),
            purchase('4'),
          ],
        },
        ctx,
      );
      assert.deepEqual(
        results.map((r) => [r.code, r.reason]),
        [
          [1, ''],
          [5, ''],
          [0, 'INVALID_ARGUMENT'],
          [1, ''],
          [1, ''],
          [2, ''],
        ],
      );
      assert.equal(results[0]?.seckillId, results[3]?.seckillId);
      await settled(itemId);
      await holds(itemId);
      await assert.rejects(service.purchaseBatch({ itemId, purchases: [purchase('x')] }, ctx), isInvalidArgument);
    });

    it('may be more than one script call takes', async () => {
      const itemId = await plan({ total: 300n });
      await replica.sales.open(itemId);
      const requests = Array.from({ length: 1_000 }, (_, i) => ({
        userId: formatUserId(String(i)),
        quantity: 1,
        requestId: '',
        traceparent: '',
      }));
      const outcomes = await replica.seckill.purchaseAll(itemId, requests);
      assert.ok(outcomes.slice(0, 300).every((o) => o.kind === 'QUEUED'));
      assert.ok(outcomes.slice(300).every((o) => o.kind === 'SOLD_OUT'));
      await settled(itemId);
      await holds(itemId);
    });
  });

  it('can be watched by many callers until it is over', async () => {
    const itemId = await plan({ total: 2n });
    const stop = new AbortController();
    const seen: SaleView[][] = [[], []];
    const watching = seen.map(async (views) => {
      for await (const v of replica.watches.watch(itemId, stop.signal)) views.push(v);
    });
    const last = (what: string, of: (v: SaleView) => unknown, value: unknown) =>
      eventually(what, () => seen.every((views) => views.length > 0 && of(views.at(-1)!) === value));
    await last('the first look', (v) => v.availability, 'NOT_STARTED');
    await replica.sales.open(itemId);
    await last('it opened', (v) => v.availability, 'AVAILABLE');
    await replica.buy(itemId, 1);
    await last('one is sold', (v) => v.sale.sold, 1n);
    await replica.buy(itemId, 2);
    await last('sold out', (v) => v.availability, 'SOLD_OUT');
    await replica.sales.close(itemId);
    // A sale that is over changes no more: the watch ends by itself.
    await Promise.all(watching);
    assert.deepEqual(
      seen.map((views) => views.at(-1)?.availability),
      ['ENDED', 'ENDED'],
    );
    await assert.rejects(replica.watches.watch(999_999n, stop.signal).next(), isSaleNotFound);
    stop.abort();
  });

  it('leaves a record of each purchase with its state', async () => {
    const itemId = await plan({ total: 3n, payMode: 'PAY_LATER' });
    await replica.sales.open(itemId);
    for (const user of [1, 2, 3]) await replica.buy(itemId, user);
    await replica.redis.commands.xadd(saleKeys('', itemId).stream, '*', 'uid', '4');
    await settled(itemId);
    const orders = await replica.rows<{ id: bigint; user_id: string }>(
      'SELECT id, user_id FROM orders WHERE product_id = $1 ORDER BY id',
      itemId,
    );
    await replica.orders.cancel(orders[0]!.id, orders[0]!.user_id, '');
    await replica.rows(`UPDATE orders SET pay_deadline = now() - interval '1 s' WHERE id = $1`, orders[1]!.id);
    await replica.orders.sweepOverdue(10);
    const records = await replica.rows<{ seckill_id: string; status: string; reason: string; user_id: string }>(
      'SELECT * FROM seckill_records WHERE item_id = $1 ORDER BY created_at, seckill_id',
      itemId,
    );
    assert.deepEqual(
      records.map((r) => [r.status, r.reason]),
      [
        ['CANCELLED', 'USER_CANCELLED'],
        ['TIMED_OUT', 'PAY_TIMEOUT'],
        ['AWAIT_PAY', ''],
        ['REJECTED', 'SOLD_OUT'],
      ],
    );
    for (const r of records) {
      const told = await replica.seckill.getPurchase(r.seckill_id, r.user_id);
      assert.deepEqual([told.status, told.reason], [r.status, r.reason]);
    }
  });

  it('sells the same units to a caller that runs the published script', async () => {
    const itemId = await plan({ total: 2n });
    await replica.sales.open(itemId);
    const { script, keys } = publishedScript(String(itemId));
    assert.deepEqual(
      keys,
      ADMIT.keys.map((key) => saleKeys('', itemId)[key]),
    );
    const epoch = await replica.redis.commands.hget(keys[0]!, 'epoch');
    const uids = [1, 1, 2, 3].map((user) => formatUserId(String(user)));
    const args = uids.flatMap((uid, i) => [uid, '1', `request-${i}`, '']);
    const run = () => replica.redis.commands.eval(script, keys.length, ...keys, epoch!, ...args) as Promise<string[]>;
    const [status, , left, ...outcomes] = await run();
    assert.deepEqual([status, left], ['OK', 0]);
    assert.deepEqual(
      outcomes.slice(1).map((o) => o.split(' ')[0]),
      ['LIMIT_REACHED', 'QUEUED', 'SOLD_OUT'],
    );
    const first = outcomes[0]!.split(' ');
    assert.equal(first[0], 'QUEUED');
    await settled(itemId);
    assert.equal((await replica.seckill.getPurchase(`${itemId}-${first[1]}`, ALICE)).status, 'PAID');
    // Beside the service: both see what the other took.
    assert.equal((await replica.buy(itemId, 1)).kind, 'SOLD_OUT');
    assert.equal((await run())[3], outcomes[0]);
    await holds(itemId);
  });
});
