import assert from 'node:assert/strict';
import { isInvalidArgument } from '../../gen/common/v1/errors.js';
import { isProductNotFound } from '../../gen/product/v1/errors.js';
import {
  isPurchaseNotFound,
  isSaleExists,
  isSaleNotFound,
  isSaleStatusConflict,
  isSaleUnavailable,
} from '../../gen/seckill/v1/errors.js';
import { formatUserId } from '../../internal/biz/identity.js';
import type { PurchaseOutcome } from '../../internal/biz/seckill/seckill.js';
import { saleKeys } from '../../internal/data/redis/seckill-keys.js';
import type { SeckillConsumer } from '../../internal/server/seckill-consumer.js';
import { MAX_DELIVERIES, type SeckillReplica, startReplica } from '../support/seckill.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

describe('A flash sale on PostgreSQL and Redis', () => {
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
  const inbox = (itemId: bigint) =>
    replica.rows<{ stream_id: string; outcome: string; reason: string; user_id: string | null }>(
      'SELECT stream_id, outcome, reason, user_id FROM stream_inbox WHERE item_id = $1 ORDER BY stream_id',
      itemId,
    );
  const add = (itemId: bigint, ...fields: string[]) => replica.add(itemId, ...fields);
  const deliveries = (itemId: bigint, count?: number) => replica.deliveries(itemId, count);

  describe('of an item', () => {
    it('takes missing values from the item, and an item has one open sale at a time', async () => {
      const plan = await replica.plan('gpu', 555n);
      const wanted = {
        itemId: plan.id,
        name: '',
        startsAt: undefined,
        endsAt: undefined,
        total: 3n,
        priceFen: undefined,
        payMode: 'PREPAID',
        payTimeoutMs: undefined,
        defaultLimit: undefined,
      } as const;
      const { sale, remaining } = await replica.sales.create(wanted);
      assert.deepEqual(
        [sale.name, sale.priceFen, sale.status, sale.defaultLimit, sale.sold, remaining],
        ['gpu', 555n, 'SCHEDULED', 1, 0n, 0n],
      );
      await assert.rejects(replica.sales.create(wanted), isSaleExists);
      await assert.rejects(replica.sales.create({ ...wanted, itemId: 999_999n }), isProductNotFound);
      await assert.rejects(replica.sales.create({ ...wanted, endsAt: new Date(0) }), isInvalidArgument);
      assert.equal((await replica.buy(plan.id, 1)).kind, 'NOT_STARTED');
      await replica.sales.close(plan.id);
      await assert.rejects(replica.sales.open(plan.id), isSaleStatusConflict);
      assert.equal((await replica.sales.create(wanted)).sale.status, 'SCHEDULED');
      await assert.rejects(replica.sales.get(999_999n), isSaleNotFound);
      await assert.rejects(replica.buy(999_999n, 1), isSaleNotFound);
    });

    it('opens once, however often it is opened', async () => {
      const { itemId } = await replica.openSale();
      await replica.buy(itemId, 1);
      const again = await replica.sales.open(itemId);
      assert.deepEqual([again.sale.epoch > 0n, again.remaining], [true, 9n]);
    });

    it('opens after an opening that failed midway, without the units that are sold or waiting', async () => {
      const { itemId } = await replica.openSale({ defaultLimit: 2 });
      await replica.buy(itemId, 1);
      await replica.settle(itemId, await deliveries(itemId));
      await replica.buy(itemId, 2);
      await add(itemId, 'uid', '3');
      await add(itemId, 'nonsense', 'x');
      const before = (await replica.sales.get(itemId)).sale;
      // Redis lost everything but the stream.
      await replica.redis.commands.del(saleKeys('', itemId).meta, saleKeys('', itemId).stock);
      await assert.rejects(replica.buy(itemId, 4), isSaleUnavailable);
      const { sale, remaining } = await replica.sales.open(itemId);
      assert.ok(sale.epoch > before.epoch);
      assert.equal(remaining, 7n);
      assert.equal(sale.firstEpoch, before.firstEpoch);
      assert.equal((await replica.buy(itemId, 4)).kind, 'QUEUED');
      await run(replica.consumer('a'));
      await settled(itemId);
      await holds(itemId);
      assert.equal((await replica.sales.get(itemId)).remaining, 6n);
    });

    it('admits no purchases after it is closed, and turns earlier ones into orders', async () => {
      const { itemId } = await replica.openSale();
      const seckillId = idOf(await replica.buy(itemId, 1, 'r1'));
      await replica.sales.close(itemId);
      await replica.sales.close(itemId);
      await eventually('the sale is over', async () => (await replica.buy(itemId, 2)).kind === 'ENDED');
      assert.equal(idOf(await replica.buy(itemId, 1, 'r1')), seckillId);
      await run(replica.consumer('a'));
      await settled(itemId);
      assert.equal(await status(seckillId, 1), 'PAID');
      await holds(itemId);
    });

    it('counts the units of two sales of one item separately', async () => {
      const { itemId } = await replica.openSale({ total: 2n });
      await replica.buy(itemId, 1);
      await replica.sales.close(itemId);
      const first = (await replica.sales.get(itemId)).sale;
      await replica.sales.create({
        itemId,
        name: 'second',
        startsAt: new Date(Date.now() - 1),
        endsAt: undefined,
        total: 5n,
        priceFen: 1n,
        payMode: 'PREPAID',
        payTimeoutMs: undefined,
        defaultLimit: 1,
      });
      assert.equal((await replica.sales.open(itemId)).remaining, 5n);
      await replica.saleCache.refresh(first);
      idOf(await replica.buy(itemId, 1));
      await run(replica.consumer('a'));
      await settled(itemId);
      const sold = await replica.rows<{ sold: bigint }>('SELECT sold FROM sales WHERE item_id = $1', itemId);
      assert.deepEqual(
        sold.map((s) => s.sold),
        [1n, 1n],
      );
      await holds(itemId);
    });
  });

  describe('turns a purchase', () => {
    it('into a paid order with an instance, which only its buyer can follow', async () => {
      const { itemId } = await replica.openSale();
      const seckillId = idOf(await replica.buy(itemId, 1));
      assert.match(seckillId, new RegExp(`^${itemId}-[0-9]+-[0-9]+$`));
      assert.equal(await status(seckillId, 1), 'QUEUED');
      await assert.rejects(status(seckillId, 2), isPurchaseNotFound);
      await run(replica.consumer('a'));
      await eventually('the order is there', async () => (await status(seckillId, 1)) === 'PAID');
      await assert.rejects(status(seckillId, 2), isPurchaseNotFound);
      await assert.rejects(status(`${itemId}-1-1`, 1), isPurchaseNotFound);
      await assert.rejects(status('99999999999999999999-1-1', 1), isPurchaseNotFound);
      await settled(itemId);
      const record = await replica.seckill.getPurchase(seckillId, formatUserId('1'));
      const order = await replica.orders.get(record.orderId ?? 0n, formatUserId('1'));
      assert.deepEqual(
        [order.status, order.source, order.amountFen, order.productName, order.reqId >> 32n],
        ['PAID', 'SECKILL', 100n, 'plan', (await replica.sales.get(itemId)).sale.epoch],
      );
      const request = await replica.instances.getRequest(order.instanceId ?? 0n);
      assert.deepEqual([request.source, `${itemId}-${request.sourceId}`], ['SECKILL', seckillId]);
      await holds(itemId);
    });

    it('of several instances into an INVALID_ARGUMENT', async () => {
      const { itemId } = await replica.openSale({ defaultLimit: 5 });
      const request = { itemId, userId: formatUserId('1'), requestId: '', traceparent: '', token: '' };
      await assert.rejects(replica.seckill.purchase({ ...request, quantity: 2 }), (err) => {
        assert.ok(isInvalidArgument(err));
        assert.deepEqual(err.violations[0]?.field, 'quantity');
        return true;
      });
    });

    it('into an order as often as there are units, however many users ask at once', async () => {
      const { itemId } = await replica.openSale({ total: 40n });
      await run(replica.consumer('a', { batchSize: 7 }));
      await run(replica.consumer('b', { batchSize: 7 }));
      const outcomes = await Promise.all(Array.from({ length: 300 }, (_, i) => replica.buy(itemId, i % 150)));
      assert.equal(outcomes.filter((o) => o.kind === 'QUEUED').length, 40);
      await settled(itemId);
      const { sale } = await replica.sales.get(itemId);
      assert.equal(sale.sold, 40n);
      await holds(itemId);
    });

    it('into an unpaid order where the sale says so, whose unit returns once when it is cancelled', async () => {
      const { itemId } = await replica.openSale({ payMode: 'PAY_LATER', total: 2n });
      const ids = [idOf(await replica.buy(itemId, 1)), idOf(await replica.buy(itemId, 2))];
      assert.equal((await replica.buy(itemId, 3)).kind, 'SOLD_OUT');
      await run(replica.consumer('a'));
      await settled(itemId);
      assert.equal(await status(ids[0]!, 1), 'AWAIT_PAY');
      const [first, second] = await Promise.all(
        ids.map(async (id, i) => (await replica.seckill.getPurchase(id, formatUserId(String(i + 1)))).orderId ?? 0n),
      );
      await replica.orders.cancel(first!, formatUserId('1'), '');
      assert.equal(await status(ids[0]!, 1), 'CANCELLED');
      await replica.relayReturns();
      await holds(itemId);
      assert.equal((await replica.sales.get(itemId)).remaining, 1n);
      const third = idOf(await replica.buy(itemId, 3));
      const pay = { userId: undefined, provider: '', eventId: '', amountFen: undefined };
      const paid = await replica.orders.markPaid({ orderId: second!, ...pay });
      const request = await replica.instances.getRequest(paid.instanceId ?? 0n);
      assert.deepEqual([request.source, `${itemId}-${request.sourceId}`], ['SECKILL', ids[1]]);
      await settled(itemId);
      await replica.rows(`UPDATE orders SET pay_deadline = now() - interval '1 s' WHERE product_id = $1`, itemId);
      await replica.orders.sweepOverdue(10);
      assert.equal(await status(third, 3), 'TIMED_OUT');
      await replica.relayReturns();
      await holds(itemId);
    });

    it('back into a unit for sale under the epoch of its cancellation', async () => {
      const { itemId } = await replica.openSale({ payMode: 'PAY_LATER', total: 3n });
      const ids = [1, 2].map((user) => replica.buy(itemId, user));
      await Promise.all(ids);
      await run(replica.consumer('a'));
      await settled(itemId);
      const orders = await replica.rows<{ id: bigint; user_id: string }>(
        'SELECT id, user_id FROM orders WHERE product_id = $1 ORDER BY id',
        itemId,
      );
      // One order is cancelled before the reload, one after it; both returns are relayed after both.
      await replica.orders.cancel(orders[0]!.id, orders[0]!.user_id, '');
      await replica.loader.load(itemId);
      await replica.orders.cancel(orders[1]!.id, orders[1]!.user_id, '');
      assert.equal(await replica.relayReturns(), 2);
      await holds(itemId);
    });
  });

  describe('settles an entry that another client added', () => {
    it('without a sale, exactly as document 001 adds it', async () => {
      const plan = await replica.plan('direct', 700n);
      await run(replica.consumer('a'));
      const streamId = await add(plan.id, 'uid', '123', 'ts', '1234567890');
      const seckillId = `${plan.id}-${streamId}`;
      await eventually('it is an order', async () =>
        replica.seckill.getPurchase(seckillId, formatUserId('123')).then(
          (p) => p.status === 'PAID',
          () => false,
        ),
      );
      const [order] = await replica.rows<{ amount: bigint; req_id: bigint; sale_id: bigint | null; user_id: string }>(
        'SELECT amount, req_id, sale_id, user_id FROM orders WHERE product_id = $1',
        plan.id,
      );
      assert.ok(order);
      assert.deepEqual([order.amount, order.sale_id], [700n, null]);
      assert.equal(order.user_id, '00000000-0000-8000-8000-00000000007b');
      assert.ok(order.req_id < 0n);
      await settled(plan.id);
      await holds(plan.id);
    });

    it('under its own request number, once', async () => {
      const plan = await replica.plan();
      await run(replica.consumer('a'));
      for (const [uid, reqId] of [
        ['1', '5'],
        ['1', '5'],
        ['2', '5'],
        ['2', '6'],
      ] as const) {
        await add(plan.id, 'uid', uid, 'req_id', reqId, 'ts', '1');
      }
      await settled(plan.id);
      const orders = await replica.rows<{ req_id: bigint }>(
        'SELECT req_id FROM orders WHERE product_id = $1 ORDER BY req_id DESC',
        plan.id,
      );
      assert.deepEqual(orders.map((o) => o.req_id).slice(0, 2), [6n, 5n]);
      assert.equal(orders.length, 3);
      assert.deepEqual(
        (await inbox(plan.id)).map((r) => r.reason),
        ['', 'DUPLICATE_REQ_ID', '', ''],
      );
    });

    it('against the cap, the limits and the stock of an open sale', async () => {
      const { itemId } = await replica.openSale({ total: 3n });
      await add(itemId, 'uid', '1');
      await add(itemId, 'uid', '1');
      await run(replica.consumer('a'));
      await settled(itemId);
      assert.deepEqual(
        (await inbox(itemId)).map((r) => r.reason),
        ['', 'LIMIT_REACHED'],
      );
      assert.equal((await replica.sales.get(itemId)).remaining, 2n);
      assert.equal((await replica.buy(itemId, 1)).kind, 'LIMIT_REACHED');
      await holds(itemId);
      await Promise.all([
        replica.buy(itemId, 2),
        replica.buy(itemId, 3),
        add(itemId, 'uid', '4'),
        add(itemId, 'uid', '5'),
      ]);
      await settled(itemId);
      assert.equal((await replica.sales.get(itemId)).sale.sold, 3n);
      assert.equal((await inbox(itemId)).filter((r) => r.reason === 'SOLD_OUT').length, 2);
      await holds(itemId);
    });
  });

  describe('turns an entry that can never become an order', () => {
    it('into a dead letter with its reason, and the valid entries beside it into orders', async () => {
      const { itemId } = await replica.openSale();
      await add(itemId, 'ts', '1');
      await add(itemId, 'uid', 'no-uuid');
      await add(itemId, 'uid', '1', 'qty', '-3');
      await add(itemId, 'uid', '1', 'qty', '2');
      await add(itemId, 'uid', '1', 'epoch', '77777');
      await add(itemId, 'uid', '1\0', '__proto__', 'x', 'constructor', 'y\0');
      const good = idOf(await replica.buy(itemId, 9));
      await run(replica.consumer('a'));
      await settled(itemId);
      assert.equal(await status(good, 9), 'PAID');
      const letters = await replica.rows<{ reason: string; message_id: string; payload: unknown }>(
        'SELECT reason, message_id, payload FROM dead_letters WHERE origin = $1 ORDER BY id',
        `stream:seckill:${itemId}`,
      );
      assert.deepEqual(
        letters.map((l) => l.reason),
        [
          'uid is missing',
          'uid must be a UUID or a decimal int64',
          'qty must be a decimal from 1 to 999999999',
          'qty must be 1 for an instance plan',
          'no sale of the item had epoch 77777',
          'uid must be a UUID or a decimal int64',
        ],
      );
      assert.deepEqual(letters[0]?.payload, [['ts', '1']]);
      assert.equal((await inbox(itemId)).filter((r) => r.outcome === 'DEAD').length, 6);
      await holds(itemId);
    });

    it('of an unknown or disabled product into a dead letter, and returns its unit', async () => {
      const { itemId, plan } = await replica.openSale();
      const seckillId = idOf(await replica.buy(itemId, 1));
      await replica.products.update(itemId, plan.version, { status: 'DISABLED' });
      await add(987_654n, 'uid', '1');
      await run(replica.consumer('a'));
      await settled(itemId);
      await settled(987_654n);
      const record = await replica.seckill.getPurchase(seckillId, formatUserId('1'));
      assert.deepEqual([record.status, record.reason], ['REJECTED', 'PRODUCT_DISABLED']);
      assert.deepEqual(
        (await inbox(987_654n)).map((r) => [r.outcome, r.reason]),
        [['DEAD', 'unknown product']],
      );
      // Its unit has returned to admission.
      assert.equal((await replica.sales.get(itemId)).remaining, 10n);
      await holds(itemId);
    });

    it('into a dead letter after halving its batch and the last of its deliveries', async () => {
      const { itemId } = await replica.openSale({ total: 8n });
      for (let user = 1; user <= 8; user++) await replica.buy(itemId, user);
      const batch = await deliveries(itemId);
      const poison = batch[5]!;
      // Another user has the instance of this stream id, which no retry can change.
      await replica.instances.createInstance({
        productId: itemId,
        userId: formatUserId('77'),
        source: 'SECKILL',
        sourceId: poison.streamId,
      });
      const first = await replica.settle(itemId, batch);
      assert.deepEqual([first.counts.ORDER, first.failed.map((f) => f.streamId)], [7, [poison.streamId]]);
      const again = await replica.settle(itemId, [{ ...poison, deliveries: MAX_DELIVERIES - 1 }]);
      assert.equal(again.failed.length, 1);
      const last = await replica.settle(itemId, [{ ...poison, deliveries: MAX_DELIVERIES }]);
      assert.equal(last.counts.DEAD, 1);
      const row = (await inbox(itemId)).find((r) => r.stream_id === poison.streamId);
      assert.match(row?.reason ?? '', /^gave up: .*already has an instance/);
      await run(replica.consumer('a'));
      await settled(itemId);
      assert.equal((await replica.sales.get(itemId)).remaining, 1n);
    });
  });

  it('sells no more units than it has when Redis counts too many', async () => {
    const { itemId } = await replica.openSale({ total: 5n });
    // As after a failover to a replica that missed the last purchases: stock, buyers and counter are old.
    await Promise.all([1, 2, 3].map((user) => replica.buy(itemId, user)));
    await run(replica.consumer('a'));
    await settled(itemId);
    const keys = saleKeys('', itemId);
    const { sale } = await replica.sales.get(itemId);
    await replica.redis.commands.mset(keys.stock, '5', keys.req, String(sale.epoch << 32n));
    await replica.redis.commands.del(keys.buyers);
    const outcomes = await Promise.all([1, 4, 5, 6, 7].map((user) => replica.buy(itemId, user)));
    assert.ok(outcomes.every((o) => o.kind === 'QUEUED'));
    await settled(itemId);
    const rows = await inbox(itemId);
    assert.equal(rows.filter((r) => r.outcome === 'ORDER').length, 5);
    assert.deepEqual(
      rows.filter((r) => r.outcome === 'REJECTED').map((r) => r.reason),
      ['DUPLICATE_REQ_ID', 'SOLD_OUT', 'SOLD_OUT'],
    );
    assert.equal((await replica.sales.get(itemId)).sale.sold, 5n);
    assert.equal(await status(idOf(outcomes[4]!), 7), 'REJECTED');
  });
});
