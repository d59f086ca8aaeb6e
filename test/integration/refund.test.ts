import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import {
  isOrderNotFound,
  isRefundNotFound,
  isRefundNotPossible,
  isRefundStatusConflict,
} from '../../gen/order/v1/errors.js';
import { RefundRequested } from '../../gen/order/v1/event.js';
import { formatUserId } from '../../internal/biz/identity.js';
import { TOPIC_INSTANCE_REMOVED as REMOVED } from '../../internal/biz/order/instance-removal.js';
import type { Order } from '../../internal/biz/order/order-state.js';
import { TOPIC_REFUND_REQUESTED } from '../../internal/biz/order/refund.js';
import type { Refund } from '../../internal/biz/order/refund-state.js';
import { projectRoot } from '../../internal/local/project.js';
import { violationsOf } from '../support/audit.js';
import { RECEIVER, type SeckillReplica, startReplica } from '../support/seckill.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

describe('refunds', () => {
  const servers = useServers('postgres', 'redis');
  let replica: SeckillReplica;

  before(async () => {
    replica = await startReplica(servers);
    await replica.startConsumer();
  });
  after(() => replica?.close());
  afterEach(async () => {
    replica.provider.faults.length = 0;
    assert.deepEqual(await violationsOf(replica.db, replica.redis, [1, 2, 3, 5, 6, 12, 13, 15]), []);
  });

  let users = 9_000;
  const newUser = () => formatUserId(String(++users));
  const orderGoods = async (skuId: bigint, quantity = 1) =>
    replica.goodsOrders.create({
      ...{ userId: newUser(), lines: [{ skuId, quantity }], receiver: RECEIVER, remark: '', requestId: '' },
      expectedAmountFen: undefined,
    });
  const paidGoods = async (skuId: bigint, quantity = 1) => replica.pay((await orderGoods(skuId, quantity)).id);
  const requestWhole = ({ id: orderId, userId }: Order, reason: string) =>
    replica.refundRequests.request({ orderId, userId, reason, lines: [], requestId: '' });
  const refundOf = async (orderId: bigint): Promise<Refund> => {
    const { items } = await replica.refunds.list({ orderId }, { offset: 0, limit: 10 });
    assert.equal(items.length, 1);
    return items[0]!;
  };
  /** What the worker does, once for each refund that is due. */
  const work = async () => {
    const outcomes: string[] = [];
    for (const claim of await replica.refunds.claim(100)) outcomes.push(await replica.refunds.payOut(claim));
    return outcomes;
  };
  /** What `work` would do later. */
  const due = (id: bigint) => replica.rows('UPDATE refunds SET next_attempt_at = now() WHERE id = $1', id);
  const statusOf = async (orderId: bigint) => {
    const { status, closeReason } = await replica.orders.get(orderId, undefined);
    return [status, closeReason];
  };
  const paidBack = (refundId: bigint) => replica.provider.paid.get(refundId)?.amountFen;

  function kaimai(...args: string[]): Promise<string> {
    const command = [join(projectRoot, 'dist/cmd/kaimai/main.js'), 'refunds', ...args];
    return new Promise((resolve) => {
      execFile(process.execPath, command, { env: { ...process.env, ...servers.env() } }, (_, out, err) =>
        resolve(`${out}${err}`.trimEnd()),
      );
    });
  }

  it('pays a buyer of goods back before shipping, and puts the units on sale again', async () => {
    const { id: skuId, priceFen } = await replica.sku(10n);
    const order = await paidGoods(skuId, 3);
    assert.deepEqual(await replica.levelOf(skuId), [7n, 0n]);
    const refund = await requestWhole(order, 'no need');
    assert.deepEqual([refund.status, refund.kind, refund.amountFen], ['APPROVED', 'WHOLE', 3n * priceFen]);
    assert.deepEqual(await statusOf(order.id), ['REFUNDING', 'no need']);
    // Asking again is the same refund.
    const again = await requestWhole(order, 'again');
    assert.equal(again.id, refund.id);
    await work();
    assert.equal(paidBack(refund.id), 3n * priceFen);
    assert.deepEqual(await statusOf(order.id), ['CANCELLED', 'REFUNDED']);
    assert.equal((await replica.refunds.get(refund.id, order.userId)).status, 'DONE');
    assert.deepEqual(await replica.levelOf(skuId), [10n, 0n]);
    await assert.rejects(replica.refunds.get(refund.id, newUser()), isRefundNotFound);
  });

  it('refuses refunds of orders that are unpaid, cancelled, another’s or no goods', async () => {
    const { id: skuId } = await replica.sku(10n);
    const order = await orderGoods(skuId);
    const request = (orderId: bigint, userId: string) =>
      replica.refundRequests.request({ orderId, userId, reason: 'r', lines: [], requestId: '' });
    await assert.rejects(request(order.id, order.userId), isRefundNotPossible);
    await assert.rejects(request(order.id, newUser()), isOrderNotFound);
    await replica.orders.cancel(order.id, order.userId, '');
    await assert.rejects(request(order.id, order.userId), isRefundNotPossible);
  });

  it('gives the unit of an instance that failed back to its sale, and to the limit of its buyer', async () => {
    const { itemId: plan } = await replica.openSale({ total: 1n, payMode: 'PAY_LATER', defaultLimit: 1 });
    const bought = await replica.buy(plan, users + 1);
    assert.equal(bought.kind, 'QUEUED');
    await eventually('the order exists', () => replica.idle(plan));
    const [row] = await replica.rows<{ id: bigint }>('SELECT id FROM orders WHERE product_id = $1', plan);
    const paid = await replica.pay(row!.id);
    assert.equal((await replica.buy(plan, users + 2)).kind, 'SOLD_OUT');
    await replica.instances.reportInstance({ instanceId: paid.instanceId!, status: 'FAILED', reason: 'no capacity' });
    const refund = await refundOf(paid.id);
    assert.deepEqual([refund.status, refund.requestedBy], ['APPROVED', 'resource']);
    await work();
    assert.equal(paidBack(refund.id), paid.amountFen);
    assert.deepEqual(await statusOf(paid.id), ['CANCELLED', 'REFUNDED']);
    await replica.relayReturns();
    const [record] = await replica.rows<{ status: string }>(
      'SELECT status FROM seckill_records WHERE order_id = $1',
      paid.id,
    );
    assert.equal(record?.status, 'REFUNDED');
    // The same buyer may buy again, and gets the unit.
    assert.equal((await replica.buy(plan, users + 1)).kind, 'QUEUED');
    await eventually('the order exists', () => replica.idle(plan));
  });

  it('lets an operator decide about the refund of an instance, which runs until the approval', async () => {
    const { itemId: plan } = await replica.openSale({ total: 1n, payMode: 'PAY_LATER', defaultLimit: 1 });
    await replica.buy(plan, users + 1);
    await eventually('the order exists', () => replica.idle(plan));
    const [row] = await replica.rows<{ id: bigint }>('SELECT id FROM orders WHERE product_id = $1', plan);
    const paid = await replica.pay(row!.id);
    const instanceId = paid.instanceId!;
    await assert.rejects(requestWhole(paid, 'too early'), isRefundNotPossible);
    await replica.instances.reportInstance({ instanceId, status: 'SUCCESS', reason: '' });
    const removals = () => replica.rows('SELECT * FROM outbox WHERE topic = $1 AND ref_id = $2', REMOVED, instanceId);
    const refund = await requestWhole(paid, 'too slow');
    assert.deepEqual([refund.status, refund.kind, refund.amountFen], ['REQUESTED', 'WHOLE', paid.amountFen]);
    // A report that is repeated meanwhile changes nothing.
    await replica.instances.reportInstance({ instanceId, status: 'SUCCESS', reason: '' });
    assert.deepEqual(await statusOf(paid.id), ['REFUNDING', 'too slow']);
    assert.equal((await removals()).length, 0);
    await replica.refunds.refuse(refund.id, 'it is fast');
    assert.deepEqual(await statusOf(paid.id), ['COMPLETED', '']);
    const second = await requestWhole(paid, 'it is slow');
    for (let i = 0; i < 2; i++) assert.equal((await replica.refunds.approve(second.id)).status, 'APPROVED');
    assert.equal((await removals()).length, 1);
    await work();
    assert.equal(paidBack(second.id), paid.amountFen);
    assert.deepEqual(await statusOf(paid.id), ['CANCELLED', 'REFUNDED']);
    await replica.relayReturns();
    // The unit is on sale again, also for this buyer.
    assert.equal((await replica.buy(plan, users + 1)).kind, 'QUEUED');
    await eventually('the order exists', () => replica.idle(plan));
  });

  it('pays late, double and wrong payments back, and leaves their order alone', async () => {
    const { id: skuId } = await replica.sku(10n);
    const order = await paidGoods(skuId);
    await assert.rejects(replica.pay(order.id, `second-${order.id}`));
    const cancelled = await orderGoods(skuId);
    await replica.orders.cancel(cancelled.id, undefined, '');
    await assert.rejects(replica.pay(cancelled.id));
    await work();
    for (const { id, amountFen } of [order, cancelled]) {
      const refund = await refundOf(id);
      assert.deepEqual([refund.kind, refund.status], ['PAYMENT', 'DONE']);
      assert.equal(paidBack(refund.id), amountFen);
    }
    assert.deepEqual(await statusOf(order.id), ['PAID', '']);
  });

  it('pays once however often the provider fails, and however the reply is lost', async () => {
    const { id: skuId } = await replica.sku(10n);
    const order = await paidGoods(skuId);
    const refund = await requestWhole(order, 'r');
    // Nothing was paid back yet.
    await assert.rejects(replica.refunds.complete(refund.id), isRefundStatusConflict);
    replica.provider.faults.push('unreachable', 'lost');
    assert.deepEqual(await work(), ['retry']);
    assert.match((await refundOf(order.id)).lastError, /connection refused/);
    await due(refund.id);
    assert.deepEqual(await work(), ['retry']);
    await due(refund.id);
    assert.deepEqual(await work(), ['done']);
    assert.equal(paidBack(refund.id), order.amountFen);
    assert.deepEqual(await replica.levelOf(skuId), [10n, 0n]);
    // A worker that wakes up late finds it done.
    await replica.refunds.complete(refund.id);
    assert.deepEqual(await replica.levelOf(skuId), [10n, 0n]);
  });

  it('lets one of two workers have a refund, and a second one after the lease of a dead one', async () => {
    const { id: skuId } = await replica.sku(10n);
    const order = await paidGoods(skuId);
    const refund = await requestWhole(order, 'r');
    const claims = (await Promise.all(Array.from({ length: 10 }, () => replica.refunds.claim(10)))).flat();
    assert.deepEqual(
      claims.map((c) => c.refund.id),
      [refund.id],
    );
    // The first one paid and died before it could write it down.
    const { payment } = claims[0]!;
    const key = { refundId: refund.id, orderId: order.id, eventId: payment!.eventId, amountFen: refund.amountFen };
    await replica.provider.refund(key);
    await due(refund.id);
    assert.deepEqual(await work(), ['done']);
    assert.deepEqual(await statusOf(order.id), ['CANCELLED', 'REFUNDED']);
    assert.deepEqual(await replica.levelOf(skuId), [10n, 0n]);
  });

  it('gives up after the last attempt, and pays when an operator starts it again', async () => {
    const { id: skuId } = await replica.sku(10n);
    const order = await paidGoods(skuId);
    const { id } = await requestWhole(order, 'r');
    replica.provider.faults.push('refused', 'refused', 'refused');
    for (const outcome of ['retry', 'retry', 'failed']) {
      assert.deepEqual(await work(), [outcome]);
      await due(id);
    }
    const failed = await refundOf(order.id);
    assert.deepEqual([failed.status, failed.lastError], ['FAILED', 'the account is closed']);
    assert.deepEqual(await statusOf(order.id), ['REFUNDING', 'r']);
    assert.match((await violationsOf(replica.db, replica.redis, [15])).join(), new RegExp(`refund ${id}`));
    assert.deepEqual(await work(), []);
    assert.match(await kaimai('list'), new RegExp(`^${id} +ORD${order.id} .* FAILED .* the account is closed$`, 'm'));
    assert.equal(await kaimai('retry', String(id)), `${id}: started again`);
    assert.deepEqual(await work(), ['done']);
    await assert.rejects(replica.refunds.retry(id), isRefundStatusConflict);
  });

  it('sends refunds of money from outside to their queue, and ends them when they are reported', async () => {
    const { itemId: plan } = await replica.openSale({ total: 1n, payMode: 'PREPAID' });
    await replica.buy(plan, users + 1);
    await eventually('the order exists', () => replica.idle(plan));
    const [row] = await replica.rows<{ id: bigint; instance_id: bigint; amount: bigint; user_id: string }>(
      'SELECT id, instance_id, amount, user_id FROM orders WHERE product_id = $1',
      plan,
    );
    await replica.instances.reportInstance({ instanceId: row!.instance_id, status: 'FAILED', reason: 'x' });
    assert.deepEqual(await work(), ['waiting']);
    await replica.relay(TOPIC_REFUND_REQUESTED);
    const refund = await refundOf(row!.id);
    const messages = replica.refundQueue.messages.map((m) => RefundRequested.decode(m.payload));
    assert.deepEqual(
      messages.filter((m) => m.refundId === refund.id),
      [{ refundId: refund.id, orderId: row!.id, userId: row!.user_id, amountFen: row!.amount }],
    );
    for (let i = 0; i < 2; i++) assert.equal((await replica.refunds.complete(refund.id)).status, 'DONE');
    assert.deepEqual(await statusOf(row!.id), ['CANCELLED', 'REFUNDED']);
    await replica.relayReturns();
    const [sale] = await replica.rows<{ sold: bigint }>('SELECT sold FROM sales WHERE item_id = $1', plan);
    assert.equal(sale?.sold, 0n);
  });
});
