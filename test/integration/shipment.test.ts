import assert from 'node:assert/strict';
import { isOrderNotFound, isOrderStatusConflict, isReceiverMissing } from '../../gen/order/v1/errors.js';
import { formatUserId } from '../../internal/biz/identity.js';
import type { Order } from '../../internal/biz/order/order-state.js';
import { violationsOf } from '../support/audit.js';
import { RECEIVER, type SeckillReplica, startReplica } from '../support/seckill.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const PARCELS = { carrier: 'SF Express', trackingNumbers: ['SF1', 'SF2'] };

describe('goods on their way to the buyer', () => {
  const servers = useServers('postgres', 'redis');
  let replica: SeckillReplica;
  let other: SeckillReplica;

  before(async () => {
    [replica, other] = await Promise.all([startReplica(servers), startReplica(servers)]);
  });
  after(() => Promise.all([replica?.close(), other?.close()]));
  afterEach(async () => {
    assert.deepEqual(await violationsOf(replica.db, replica.redis, [7, 10, 11, 12, 13]), []);
  });

  let users = 0;
  const paidOrder = async (): Promise<Order> => {
    const { id: skuId } = await replica.sku(10n);
    const order = await replica.goodsOrders.create({
      ...{ userId: formatUserId(String(++users)), lines: [{ skuId, quantity: 1 }], receiver: RECEIVER, remark: '' },
      ...{ requestId: '', expectedAmountFen: undefined },
    });
    return replica.pay(order.id);
  };
  const ship = (orderId: bigint, on = replica) => on.shipments.ship({ orderId, ...PARCELS });
  const statusOf = async (id: bigint) => (await replica.orders.get(id, undefined)).status;
  const makeDue = (...ids: bigint[]) =>
    replica.rows(`UPDATE orders SET confirm_deadline = now() - interval '1 s' WHERE id = ANY ($1)`, ids);

  it('ships a paid order once, and the buyer confirms the receipt', async () => {
    const paid = await paidOrder();
    const { order, shipment } = await ship(paid.id);
    assert.deepEqual(
      [order.status, shipment.carrier, shipment.trackingNumbers],
      ['SHIPPED', 'SF Express', ['SF1', 'SF2']],
    );
    assert.equal(order.confirmDeadline?.getTime(), order.shippedAt!.getTime() + 60_000);
    assert.equal((await ship(paid.id)).order.version, order.version);
    await assert.rejects(
      replica.shipments.ship({ orderId: paid.id, carrier: 'another', trackingNumbers: ['1'] }),
      isOrderStatusConflict,
    );
    assert.deepEqual(await replica.shipments.shipmentOf(order), shipment);
    await assert.rejects(replica.shipments.confirm(paid.id, formatUserId('999999')), isOrderNotFound);
    const done = await replica.shipments.confirm(paid.id, paid.userId);
    assert.equal(done.status, 'COMPLETED');
    assert.equal((await replica.shipments.confirm(paid.id, paid.userId)).version, done.version);
    const events = await replica.orders.listEvents(paid.id, paid.userId);
    assert.deepEqual(
      events.map((e) => [e.to, e.actor]),
      [
        ['PENDING', 'user'],
        ['PAID', 'payment'],
        ['SHIPPED', 'admin'],
        ['COMPLETED', 'user'],
      ],
    );
  });

  it('ships no order that is unpaid, of another type, or without a receiver', async () => {
    const { id: skuId } = await replica.sku(10n);
    const unpaid = await replica.goodsOrders.create({
      ...{ userId: formatUserId('1'), lines: [{ skuId, quantity: 1 }], receiver: RECEIVER, remark: '' },
      ...{ requestId: '', expectedAmountFen: undefined },
    });
    await assert.rejects(ship(unpaid.id), isOrderStatusConflict);
    const plan = await replica.plan();
    const instance = await replica.orders.create({
      ...{ userId: formatUserId('1'), productId: plan.id, quantity: 1, requestId: '', remark: '' },
    });
    await replica.pay(instance.id);
    await assert.rejects(ship(instance.id), isOrderStatusConflict);
    await assert.rejects(replica.receivers.set(instance.id, undefined, RECEIVER, undefined), isOrderStatusConflict);
    await assert.rejects(ship(7n), isOrderNotFound);
    await assert.rejects(replica.shipments.confirm(unpaid.id, unpaid.userId), isOrderStatusConflict);
  });

  it('ships goods of a flash sale after their buyer has named a receiver, who may change until then', async () => {
    const { id: itemId } = await replica.sku(5n);
    await replica.openSaleOf(itemId, { total: 5n });
    await replica.buy(itemId, 7);
    await replica.settle(itemId, await replica.deliveries(itemId));
    const userId = formatUserId('7');
    const [bought] = (await replica.orders.list(userId, {}, { offset: 0, limit: 1 })).items;
    const orderId = bought!.id;
    await assert.rejects(ship(orderId), isReceiverMissing);
    await replica.receivers.set(orderId, userId, RECEIVER, undefined);
    const moved = await replica.receivers.set(orderId, userId, { ...RECEIVER, address: 'elsewhere' }, undefined);
    assert.equal(moved.receiver?.address, 'elsewhere');
    await assert.rejects(replica.receivers.set(orderId, formatUserId('8'), RECEIVER, undefined), isOrderNotFound);
    await ship(orderId);
    await assert.rejects(replica.receivers.set(orderId, userId, RECEIVER, undefined), isOrderStatusConflict);
    assert.equal((await replica.shipments.confirm(orderId, userId)).status, 'COMPLETED');
    await replica.redis.commands.flushdb();
  });

  it('confirms overdue orders on its own, each once by one of two replicas', async () => {
    const orders = await Promise.all(Array.from({ length: 12 }, paidOrder));
    const ids = orders.map((o) => o.id);
    for (const id of ids) await ship(id);
    assert.equal((await replica.shipments.confirmOverdue(100)).moved, 0);
    await makeDue(...ids);
    const rounds = await Promise.all([replica, other, replica, other].map((on) => on.shipments.confirmOverdue(5)));
    await replica.shipments.confirmOverdue(100);
    assert.ok(rounds.every((r) => r.failures.length === 0));
    assert.deepEqual(new Set(await Promise.all(ids.map(statusOf))), new Set(['COMPLETED']));
    const last = (await replica.orders.listEvents(ids[0]!, undefined)).at(-1);
    assert.deepEqual([last?.actor, last?.reason], ['confirmer', 'CONFIRM_TIMEOUT']);
    assert.equal((await replica.shipments.confirmOverdue(100)).moved, 0);
  });

  it('sets an order that cannot be confirmed aside, and confirms the others', async () => {
    const ids = (await Promise.all(Array.from({ length: 4 }, paidOrder))).map((o) => o.id);
    for (const id of ids) await ship(id);
    await makeDue(...ids);
    const poisoned = ids[1]!;
    // The next event of this order exists already.
    await replica.rows(
      'INSERT INTO order_events (order_id, version, to_status, actor) VALUES ($1, 4, 0, $2)',
      poisoned,
      'x',
    );
    const { moved, failures } = await replica.shipments.confirmOverdue(100);
    assert.deepEqual([moved, failures.map((f) => [f.orderId, f.first])], [3, [[poisoned, true]]]);
    assert.deepEqual(await replica.shipments.confirmOverdue(100), { moved: 0, failures: [] });
    assert.equal(await statusOf(poisoned), 'SHIPPED');
    await replica.db.pool.query('UPDATE orders SET version = version + 1 WHERE id = $1', [poisoned]);
    await eventually('the repaired order is confirmed', async () => {
      await replica.shipments.confirmOverdue(100);
      return (await statusOf(poisoned)) === 'COMPLETED';
    });
  });

  it('lets exactly one win when two replicas confirm, ship and refund the same order at once', async () => {
    for (let i = 0; i < 15; i++) {
      const { id, userId } = await paidOrder();
      const [shipped, refunded] = await Promise.allSettled([
        ship(id, i % 2 ? replica : other),
        (i % 2 ? other : replica).refundRequests.request({
          orderId: id,
          userId,
          reason: 'no',
          lines: [],
          requestId: '',
        }),
      ]);
      // The loser of the two sees the order as the winner left it.
      assert.equal(refunded.status, 'fulfilled');
      assert.equal(refunded.value.status, shipped.status === 'fulfilled' ? 'REQUESTED' : 'APPROVED');
      if (shipped.status === 'rejected') continue;
      await replica.refunds.refuse(refunded.value.id, 'on its way');
      assert.equal(await statusOf(id), 'SHIPPED');
      await makeDue(id);
      const [, confirmed] = await Promise.all([
        replica.shipments.confirmOverdue(10),
        other.shipments.confirm(id, userId),
      ]);
      assert.equal(confirmed.status, 'COMPLETED');
      const events = await replica.orders.listEvents(id, undefined);
      assert.equal(events.filter((e) => e.to === 'COMPLETED').length, 1);
    }
    await eventually('the refunds are paid out', async () => {
      for (const claim of await replica.refunds.claim(20)) await replica.refunds.payOut(claim);
      const [open] = await replica.rows<{ n: bigint }>(
        `SELECT count(*) AS n FROM refunds WHERE status NOT IN ('DONE', 'REFUSED')`,
      );
      return open?.n === 0n;
    });
  });

  it('hides a finished order from its owner, who can still be paid back', async () => {
    const order = await paidOrder();
    await assert.rejects(replica.orders.delete(order.id, order.userId), isOrderStatusConflict);
    await ship(order.id);
    await replica.shipments.confirm(order.id, order.userId);
    await assert.rejects(replica.orders.delete(order.id, formatUserId('999999')), isOrderNotFound);
    await replica.orders.delete(order.id, order.userId);
    await replica.orders.delete(order.id, order.userId);
    await assert.rejects(replica.orders.get(order.id, order.userId), isOrderNotFound);
    await assert.rejects(replica.orders.listEvents(order.id, order.userId), isOrderNotFound);
    assert.equal((await replica.orders.list(order.userId, {}, { offset: 0, limit: 9 })).total, 0n);
    assert.equal(await statusOf(order.id), 'COMPLETED');
    // A payment that arrives for it all the same is recorded and refunded.
    await assert.rejects(
      replica.orders.markPaid({
        ...{ orderId: order.id, userId: undefined, provider: 'p', eventId: `again-${order.id}`, amountFen: undefined },
      }),
    );
    const { total } = await replica.refunds.list({ orderId: order.id }, { offset: 0, limit: 9 });
    assert.equal(total, 1n);
  });
});
