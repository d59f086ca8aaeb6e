import assert from 'node:assert/strict';
import { isInvalidArgument } from '../../gen/common/v1/errors.js';
import { isRefundNotPossible, isRefundStatusConflict, isRequestIdReused } from '../../gen/order/v1/errors.js';
import { formatUserId } from '../../internal/biz/identity.js';
import type { Order } from '../../internal/biz/order/order-state.js';
import type { RefundUnits } from '../../internal/biz/order/refund-lines.js';
import type { Refund } from '../../internal/biz/order/refund-state.js';
import { violationsOf } from '../support/audit.js';
import { RECEIVER, type SeckillReplica, startReplica } from '../support/seckill.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

describe('refunds of lines and of shipped goods', () => {
  const servers = useServers('postgres', 'redis');
  let replica: SeckillReplica;
  let other: SeckillReplica;

  before(async () => {
    [replica, other] = await Promise.all([startReplica(servers), startReplica(servers)]);
    await replica.startConsumer();
  });
  after(() => Promise.all([replica?.close(), other?.close()]));
  afterEach(async () => {
    assert.deepEqual(await violationsOf(replica.db, replica.redis, [1, 2, 3, 5, 6, 12, 13, 15]), []);
  });

  let users = 19_000;
  /** A paid order of new skus, which have ten units each. */
  const paidGoods = async (...quantities: readonly number[]): Promise<Order> => {
    const lines: RefundUnits[] = [];
    for (const quantity of quantities) lines.push({ skuId: (await replica.sku(10n)).id, quantity });
    const { id } = await replica.goodsOrders.create({
      ...{ userId: formatUserId(String(++users)), lines, receiver: RECEIVER, remark: '', requestId: '' },
      expectedAmountFen: undefined,
    });
    return replica.pay(id);
  };
  const request = ({ id: orderId, userId }: Order, lines: readonly RefundUnits[] = [], requestId = '', on = replica) =>
    on.refundRequests.request({ orderId, userId, reason: 'r', lines, requestId });
  /** Units of the lines of an order, by their place. */
  const units = ({ items }: Order, ...quantities: readonly number[]): RefundUnits[] =>
    quantities.flatMap((quantity, i) => (quantity === 0 ? [] : [{ skuId: items[i]!.skuId, quantity }]));
  const work = async () => {
    for (const claim of await replica.refunds.claim(100)) assert.equal(await replica.refunds.payOut(claim), 'done');
  };
  const get = ({ id }: Pick<Order, 'id'>) => replica.orders.get(id, undefined);
  const statusOf = async (order: Order) => (await get(order)).status;
  const levelsOf = ({ items }: Order) =>
    Promise.all(items.map(async (i) => Number((await replica.catalog.getSku(i.skuId)).stock)));
  const paidBack = ({ id }: Refund) => replica.provider.paid.get(id)?.amountFen;
  const ship = ({ id: orderId }: Order, on = replica) =>
    on.shipments.ship({ orderId, carrier: 'SF', trackingNumbers: [`SF${orderId}`] });
  const shippedGoods = async (...quantities: readonly number[]) => {
    const order = await paidGoods(...quantities);
    await ship(order);
    return order;
  };

  it('pays back one line of three, puts its units on sale again and leaves the order alone', async () => {
    const order = await paidGoods(1, 2, 3);
    const refund = await request(order, units(order, 0, 2));
    const price = order.items[1]!.priceFen;
    assert.deepEqual([refund.kind, refund.status, refund.amountFen], ['LINES', 'APPROVED', 2n * price]);
    await work();
    const after = await get(order);
    assert.deepEqual([after.status, after.refundedFen, after.keptQuantity], ['PAID', 2n * price, 4]);
    assert.equal(paidBack(refund), 2n * price);
    assert.deepEqual(await levelsOf(order), [9, 10, 7]);
  });

  it('never refunds a unit twice, and ends the order with its last units', async () => {
    const order = await paidGoods(2, 1);
    const refunds = [await request(order, units(order, 1))];
    await assert.rejects(
      request(order, units(order, 2)),
      (err) => isInvalidArgument(err) && err.violations[0]?.field === 'lines[0].quantity',
    );
    refunds.push(await request(order, units(order, 0, 1)));
    const last = await request(order, units(order, 1));
    refunds.push(last);
    assert.equal(last.kind, 'WHOLE');
    await assert.rejects(request(order, units(order, 1)), isRefundNotPossible);
    await work();
    const { status, closeReason, refundedFen, amountFen, keptQuantity } = await get(order);
    assert.deepEqual([status, closeReason, refundedFen, keptQuantity], ['CANCELLED', 'REFUNDED', amountFen, 0]);
    assert.equal(
      refunds.reduce((sum, r) => sum + paidBack(r)!, 0n),
      amountFen,
    );
    assert.deepEqual(await levelsOf(order), [10, 10]);
  });

  it('pays back what is left of an order after a refund of a line', async () => {
    const order = await paidGoods(2, 1);
    const [line, rest] = [await request(order, units(order, 1)), await request(order)];
    assert.deepEqual([rest.kind, rest.amountFen], ['WHOLE', order.amountFen - line.amountFen]);
    await work();
    assert.deepEqual(await levelsOf(order), [10, 10]);
  });

  it('returns the same refund for a repeated request id, and rejects the id for other lines', async () => {
    const order = await paidGoods(3);
    const first = await request(order, units(order, 1), 'once');
    assert.equal((await request(order, units(order, 1), 'once')).id, first.id);
    await assert.rejects(request(order, units(order, 2), 'once'), isRequestIdReused);
    await work();
    assert.equal((await get(order)).keptQuantity, 2);
  });

  it('lets an operator decide once the goods are shipped; refused, the order goes on', async () => {
    const order = await shippedGoods(2);
    const refund = await request(order);
    assert.deepEqual([refund.status, await statusOf(order)], ['REQUESTED', 'REFUNDING']);
    await work();
    for (let i = 0; i < 2; i++) assert.equal((await replica.refunds.refuse(refund.id, 'used')).decision, 'used');
    assert.equal(await statusOf(order), 'SHIPPED');
    await assert.rejects(replica.refunds.approve(refund.id), isRefundStatusConflict);
    const line = await request(order, units(order, 1));
    assert.deepEqual([line.status, await statusOf(order)], ['REQUESTED', 'SHIPPED']);
    // The rest of the order waits for that decision, or it would end while the units of the line are in doubt.
    await assert.rejects(request(order), isRefundNotPossible);
    await replica.refunds.refuse(line.id, 'used');
    // The units of refused refunds can be asked for again.
    const again = await request(order, units(order, 2));
    assert.equal(again.kind, 'WHOLE');
    for (let i = 0; i < 2; i++) assert.equal((await replica.refunds.approve(again.id)).status, 'APPROVED');
    await assert.rejects(replica.refunds.refuse(again.id, 'late'), isRefundStatusConflict);
    await work();
    assert.equal(paidBack(again), order.amountFen);
    assert.equal(await statusOf(order), 'CANCELLED');
    // Nothing came back yet.
    assert.deepEqual(await levelsOf(order), [8]);
  });

  it('puts shipped units on sale again when their return is received, unless they are not to be sold', async () => {
    for (const restock of [true, false]) {
      const order = await shippedGoods(2, 1);
      const line = await request(order, units(order, 0, 1));
      await assert.rejects(replica.refunds.receiveReturn(line.id, restock), isRefundStatusConflict);
      await replica.refunds.approve(line.id);
      // Before the payout, and twice.
      for (let i = 0; i < 2; i++) {
        const { returnedAt, restocked } = await replica.refunds.receiveReturn(line.id, restock);
        assert.ok(returnedAt);
        assert.equal(restocked, restock);
      }
      await assert.rejects(replica.refunds.receiveReturn(line.id, !restock), isRefundStatusConflict);
      assert.deepEqual(await levelsOf(order), restock ? [8, 10] : [8, 9]);
      await work();
      const whole = await request(order);
      await replica.refunds.approve(whole.id);
      await work();
      assert.deepEqual(await levelsOf(order), restock ? [8, 10] : [8, 9]);
      await replica.refunds.receiveReturn(whole.id, restock);
      assert.deepEqual(await levelsOf(order), restock ? [10, 10] : [8, 9]);
      assert.equal((await get(order)).keptQuantity, restock ? 0 : 3);
    }
  });

  it('receives no return of units that were never shipped', async () => {
    const order = await paidGoods(2);
    const refund = await request(order, units(order, 1));
    // What is left may be shipped while the money is on its way.
    await ship(order);
    await assert.rejects(replica.refunds.receiveReturn(refund.id, true), isRefundStatusConflict);
    await work();
    assert.deepEqual(await levelsOf(order), [9]);
  });

  it('takes completed goods back within the time for returns only', async () => {
    const [early, late] = [await shippedGoods(1), await shippedGoods(1)];
    for (const order of [early, late]) await replica.shipments.confirm(order.id, order.userId);
    await replica.rows(
      `UPDATE orders SET paid_at = paid_at - interval '2 min', shipped_at = shipped_at - interval '2 min',
         completed_at = completed_at - interval '61 s' WHERE id = $1`,
      late.id,
    );
    await assert.rejects(request(late), isRefundNotPossible);
    const refund = await request(early);
    await replica.refunds.refuse(refund.id, 'used');
    assert.equal(await statusOf(early), 'COMPLETED');
  });

  it('returns units of a flash-sale order to the sale, to admission and to the limit of their buyer', async () => {
    const { id: skuId } = await replica.sku(5n);
    await replica.openSaleOf(skuId, { total: 5n, payMode: 'PAY_LATER', defaultLimit: 4 });
    const user = ++users;
    await replica.buy(skuId, user, '', '', 4);
    await eventually('the order exists', () => replica.idle(skuId));
    const [row] = await replica.rows<{ id: bigint }>('SELECT id FROM orders WHERE sku_id = $1', skuId);
    const order = await replica.pay(row!.id);
    await request(order, units(order, 1));
    await request(order, units(order, 2));
    await work();
    assert.equal(await replica.relayReturns(), 2);
    assert.equal((await replica.buy(skuId, user, '', '', 4)).kind, 'LIMIT_REACHED');
    assert.equal((await replica.buy(skuId, user, '', '', 3)).kind, 'QUEUED');
    await eventually('the order exists', () => replica.idle(skuId));
    // The shipped unit stays sold while the buyer has it.
    await replica.receivers.set(order.id, order.userId, RECEIVER, undefined);
    await ship(order);
    const last = await request(order);
    await replica.refunds.approve(last.id);
    await work();
    assert.equal((await replica.buy(skuId, ++users)).kind, 'QUEUED');
    assert.equal((await replica.buy(skuId, ++users)).kind, 'SOLD_OUT');
    await replica.refunds.receiveReturn(last.id, true);
    await replica.relayReturns();
    assert.equal((await replica.buy(skuId, users)).kind, 'QUEUED');
    await eventually('the order exists', () => replica.idle(skuId));
  });

  describe('with two replicas', () => {
    const both = <T>(n: number, ask: (on: SeckillReplica) => Promise<T>) =>
      Promise.allSettled(Array.from({ length: n }, (_, i) => ask(i % 2 === 0 ? replica : other)));
    const won = (results: readonly PromiseSettledResult<unknown>[]) =>
      results.filter((r) => r.status === 'fulfilled').length;

    it('grants three of twenty refunds of one unit each where an order has three', async () => {
      const order = await paidGoods(3);
      const results = await both(20, (on) => request(order, units(order, 1), '', on));
      assert.equal(won(results), 3);
      await work();
      assert.equal((await get(order)).refundedFen, order.amountFen);
      assert.deepEqual(await levelsOf(order), [10]);
    });

    it('either approves or refuses a refund', async () => {
      for (let i = 0; i < 5; i++) {
        const order = await shippedGoods(1);
        const { id } = await request(order);
        await Promise.allSettled([replica.refunds.approve(id), other.refunds.refuse(id, 'used')]);
        await work();
        const { status } = await replica.refunds.get(id, undefined);
        assert.equal(await statusOf(order), status === 'DONE' ? 'CANCELLED' : 'SHIPPED');
      }
    });

    it('takes units back once, however many receive their return', async () => {
      const order = await shippedGoods(2);
      const { id } = await request(order);
      await replica.refunds.approve(id);
      assert.equal(won(await both(10, (on) => on.refunds.receiveReturn(id, true))), 10);
      await work();
      assert.deepEqual(await levelsOf(order), [10]);
    });

    it('either ships goods or refunds them before shipping', async () => {
      for (let i = 0; i < 10; i++) {
        const order = await paidGoods(1);
        const [shipped, refund] = await Promise.allSettled([ship(order), request(order, [], '', other)]);
        assert.equal(refund.status, 'fulfilled');
        const before = shipped.status === 'fulfilled';
        assert.equal(refund.value.status, before ? 'REQUESTED' : 'APPROVED');
        if (before) await replica.refunds.refuse(refund.value.id, 'on its way');
        await work();
        assert.equal(await statusOf(order), before ? 'SHIPPED' : 'CANCELLED');
      }
    });
  });
});
