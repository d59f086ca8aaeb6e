import assert from 'node:assert/strict';
import { isInvalidArgument, isUnavailable } from '../../gen/common/v1/errors.js';
import {
  isOrderAlreadyPaid,
  isOrderCancelled,
  isOrderNotFound,
  isOrderStatusConflict,
  isPaymentAmountMismatch,
  isRequestIdReused,
} from '../../gen/order/v1/errors.js';
import { formatUserId } from '../../internal/biz/identity.js';
import type { Order } from '../../internal/biz/order/order-state.js';
import type { PaymentSession } from '../../internal/biz/order/payment-session-state.js';
import { violationsOf } from '../support/audit.js';
import { RECEIVER, SeckillReplica } from '../support/seckill.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

describe('payments', () => {
  const servers = useServers('postgres', 'redis');
  let replica: SeckillReplica;
  let other: SeckillReplica;

  before(async () => {
    replica = new SeckillReplica(servers);
    // Both replicas reach the same provider.
    other = new SeckillReplica(servers, 5_000, 10_000, replica.provider);
    await Promise.all([replica.start(), other.start()]);
    await replica.startConsumer();
  });
  after(() => Promise.all([replica?.close(), other?.close()]));
  afterEach(async () => {
    replica.provider.faults.length = 0;
    for (const claim of await replica.refunds.claim(100)) await replica.refunds.payOut(claim);
    assert.deepEqual(await violationsOf(replica.db, replica.redis, [1, 2, 3, 5, 6, 7, 12, 13, 15]), []);
  });

  let users = 29_000;
  const orderGoods = async (): Promise<Order> =>
    replica.goodsOrders.create({
      ...{ userId: formatUserId(String(++users)), lines: [{ skuId: (await replica.sku(10n)).id, quantity: 2 }] },
      ...{ receiver: RECEIVER, remark: '', requestId: '', expectedAmountFen: undefined },
    });
  const orderInstance = async (): Promise<Order> =>
    replica.orders.create({
      ...{ userId: formatUserId(String(++users)), productId: (await replica.plan()).id, quantity: 1 },
      ...{ requestId: '', remark: '' },
    });
  const buyInSale = async (): Promise<Order> => {
    const { id: itemId } = await replica.sku(10n);
    await replica.openSaleOf(itemId, { total: 2n, payMode: 'PAY_LATER' });
    await replica.buy(itemId, ++users);
    await eventually('the order exists', () => replica.idle(itemId));
    const [row] = await replica.rows<{ id: bigint }>('SELECT id FROM orders WHERE sku_id = $1', itemId);
    return replica.orders.get(row!.id, undefined);
  };
  const start = ({ id }: Order, on = replica) => on.paymentSessions.start(id, undefined, '');
  /** The buyer pays, and the provider calls back. */
  const callBack = ({ id, orderId, amountFen }: PaymentSession, changes: { amountFen?: bigint } = {}, on = replica) => {
    const eventId = `p-${id}`;
    return on.paymentSessions.receive({
      ...{ orderId, userId: undefined, provider: 'p', eventId, amountFen, sessionId: id, ...changes },
    });
  };
  const statusOf = async ({ id }: Order) => (await replica.orders.get(id, undefined)).status;
  const sessionStatus = async ({ id }: PaymentSession) =>
    (await replica.rows<{ status: string }>('SELECT status FROM payment_sessions WHERE id = $1', id))[0]?.status;
  const refundsOf = async ({ id }: Order) =>
    (await replica.refunds.list({ orderId: id }, { offset: 0, limit: 10 })).items;
  /** What the checker does, for this session alone. */
  const check = async ({ id }: PaymentSession) => {
    await replica.rows('UPDATE payment_sessions SET next_look_up_at = now() WHERE id = $1', id);
    const claimed = await replica.paymentSessions.claim(1_000);
    return (await replica.paymentSessions.check(claimed.find((s) => s.id === id)!)).kind;
  };
  /** As if the time to pay had passed. */
  const expire = async ({ id }: Order) => {
    await replica.rows(`UPDATE orders SET pay_deadline = now() - interval '1 s' WHERE id = $1`, id);
    await replica.rows(`UPDATE payment_sessions SET expires_at = now() WHERE order_id = $1`, id);
  };
  const sweep = (order: Order) =>
    eventually('the order is cancelled', async () => {
      await replica.orders.sweepOverdue(100);
      return (await statusOf(order)) === 'CANCELLED';
    });

  it('starts one payment of an order, however often it is asked, and by two replicas at once', async () => {
    const order = await orderGoods();
    const sessions = await Promise.all(Array.from({ length: 10 }, (_, i) => start(order, i % 2 ? replica : other)));
    assert.equal(new Set(sessions.map((s) => s.id)).size, 1);
    assert.ok(sessions.every((s) => s.payUrl === `https://pay.test/${s.id}` && s.amountFen === order.amountFen));
    assert.deepEqual(sessions[0]!.expiresAt, order.payDeadline);
    assert.equal((await callBack(sessions[0]!)).status, 'PAID');
    assert.equal(await sessionStatus(sessions[0]!), 'PAID');
  });

  it('starts the same payment again when the process died after the provider was asked', async () => {
    for (const fault of ['lost', 'unreachable'] as const) {
      const order = await orderGoods();
      replica.provider.faults.push(fault);
      await assert.rejects(start(order), isUnavailable);
      const [row] = await replica.rows<{ id: bigint }>('SELECT id FROM payment_sessions WHERE order_id = $1', order.id);
      assert.equal((await start(order, other)).id, row?.id);
    }
  });

  it('starts no payment of an order that is paid, cancelled, overdue or of another user', async () => {
    const [paid, cancelled, overdue] = [await orderGoods(), await orderGoods(), await orderGoods()];
    await callBack(await start(paid));
    await assert.rejects(start(paid), isOrderAlreadyPaid);
    await replica.orders.cancel(cancelled.id, undefined, '');
    await assert.rejects(start(cancelled), isOrderCancelled);
    await expire(overdue);
    await assert.rejects(start(overdue), isOrderStatusConflict);
    await sweep(overdue);
    await assert.rejects(replica.paymentSessions.start(paid.id, formatUserId('1'), ''), isOrderNotFound);
    await assert.rejects(
      replica.paymentSessions.start(paid.id, undefined, 'nopay'),
      (err) => isInvalidArgument(err) && err.violations[0]?.field === 'provider',
    );
  });

  it('starts another payment after the buyer closed the first one', async () => {
    const order = await orderGoods();
    const first = await start(order);
    replica.provider.end(first.id, 'closed');
    const notice = { orderId: order.id, userId: undefined, provider: 'p', eventId: 'e', amountFen: undefined };
    await replica.paymentSessions.close({ ...notice, sessionId: first.id });
    const second = await start(order);
    assert.notEqual(second.id, first.id);
    assert.equal(await statusOf(order), 'PENDING');
    await callBack(second);
  });

  const kinds: readonly (readonly [name: string, make: () => Promise<Order>])[] = [
    ['goods', orderGoods],
    ['an instance', orderInstance],
    ['goods of a sale', buyInSale],
  ];
  for (const [name, make] of kinds) {
    describe(`for ${name}`, () => {
      it('finds a payment whose callback was lost, and pays the order', async () => {
        const order = await make();
        const session = await start(order);
        assert.equal(await check(session), 'open');
        replica.provider.end(session.id, 'paid');
        replica.provider.faults.push('unreachable');
        assert.equal(await check(session), 'failed');
        assert.equal(await check(session), 'paid');
        assert.equal(await statusOf(order), 'PAID');
        assert.equal(await sessionStatus(session), 'PAID');
        // The callback arrives after all.
        assert.equal((await callBack(session)).status, 'PAID');
        assert.equal((await refundsOf(order)).length, 0);
      });

      it('pays back a payment that is found after the order has timed out', async () => {
        const order = await make();
        const session = await start(order);
        replica.provider.end(session.id, 'paid');
        await expire(order);
        await sweep(order);
        assert.equal(await check(session), 'paid');
        const [refund] = await refundsOf(order);
        assert.deepEqual([refund?.kind, refund?.amountFen], ['PAYMENT', order.amountFen]);
      });

      it('pays back the second of two payments, and one of a wrong amount', async () => {
        const order = await make();
        const first = await start(order);
        await assert.rejects(callBack(first, { amountFen: order.amountFen + 1n }), isPaymentAmountMismatch);
        await replica.rows(`UPDATE payment_sessions SET status = 'CLOSED', ended_at = now() WHERE id = $1`, first.id);
        const second = await start(order);
        const third = await start(order);
        assert.equal(third.id, second.id);
        assert.equal((await callBack(second)).status, 'PAID');
        // A replay of either changes nothing.
        assert.equal((await callBack(second, {}, other)).status, 'PAID');
        await assert.rejects(callBack(first, { amountFen: order.amountFen + 1n }));
        const [refund, ...more] = await refundsOf(order);
        assert.deepEqual([refund?.amountFen, more.length], [order.amountFen + 1n, 0]);
        const another = await make();
        await assert.rejects(callBack({ ...second, orderId: another.id }), isRequestIdReused);
      });

      it('pays the order or pays back, when a payment, its look-up, a cancellation and the timeout race', async () => {
        for (let i = 0; i < 4; i++) {
          const order = await make();
          const session = await start(order);
          replica.provider.end(session.id, 'paid');
          await replica.rows(`UPDATE orders SET pay_deadline = now() - interval '1 s' WHERE id = $1`, order.id);
          await Promise.allSettled([
            callBack(session, {}, other),
            check(session),
            other.orders.sweepOverdue(100),
            replica.orders.cancel(order.id, undefined, ''),
          ]);
          const refunds = await refundsOf(order);
          const status = await statusOf(order);
          assert.ok(status === 'PAID' || status === 'CANCELLED', status);
          assert.equal(refunds.length, status === 'PAID' ? 0 : 1);
        }
      });
    });
  }

  it('closes the payment of a cancelled order at the provider, however often that fails', async () => {
    const order = await orderGoods();
    const session = await start(order);
    await replica.orders.cancel(order.id, undefined, '');
    assert.equal(replica.provider.started.get(session.id)?.state, 'open');
    replica.provider.faults.push('unreachable', 'lost');
    assert.equal(await check(session), 'failed');
    assert.equal(await check(session), 'failed');
    assert.equal(await check(session), 'closed');
    assert.equal(replica.provider.started.get(session.id)?.state, 'closed');
    assert.equal(await sessionStatus(session), 'CLOSED');
    assert.equal((await refundsOf(order)).length, 0);
  });

  it('pays back a payment that was made before the provider could close it', async () => {
    const order = await orderGoods();
    const session = await start(order);
    replica.provider.end(session.id, 'paid');
    await replica.orders.cancel(order.id, undefined, '');
    assert.equal(await check(session), 'paid');
    const [refund, ...more] = await refundsOf(order);
    assert.deepEqual([refund?.kind, refund?.amountFen, more.length], ['PAYMENT', order.amountFen, 0]);
  });

  it('does not let a buyer pay an order that is cancelled while the provider is asked', async () => {
    const order = await orderGoods();
    const begin = replica.provider.start.bind(replica.provider);
    replica.provider.start = async (wanted) => {
      replica.provider.start = begin;
      await other.orders.cancel(order.id, undefined, '');
      return begin(wanted);
    };
    await assert.rejects(start(order), isOrderCancelled);
    const [session] = await replica.rows<PaymentSession>(
      'SELECT id FROM payment_sessions WHERE order_id = $1',
      order.id,
    );
    assert.equal(await check(session!), 'closed');
    assert.equal(replica.provider.started.get(session!.id)?.state, 'closed');
  });

  it('sets aside a payment that cannot be recorded, without holding up others', async () => {
    const [order, another] = [await orderGoods(), await orderGoods()];
    const session = await start(another);
    // The provider gave its event id to another payment before.
    await callBack({ ...session, orderId: order.id, amountFen: order.amountFen });
    replica.provider.end(session.id, 'paid');
    assert.equal(await check(session), 'rejected');
    assert.equal(await sessionStatus(session), 'OPEN');
    await replica.orders.cancel(another.id, undefined, '');
  });

  it('ends a session that the provider closed or never knew, once it has expired', async () => {
    const [closed, unknown] = [await orderGoods(), await orderGoods()];
    const first = await start(closed);
    replica.provider.end(first.id, 'closed');
    assert.equal(await check(first), 'closed');
    replica.provider.faults.push('unreachable');
    await assert.rejects(start(unknown), isUnavailable);
    const [row] = await replica.rows<{ id: bigint }>('SELECT id FROM payment_sessions WHERE order_id = $1', unknown.id);
    const session = { id: row!.id } as PaymentSession;
    assert.equal(await check(session), 'open');
    await expire(unknown);
    assert.equal(await check(session), 'closed');
    await sweep(unknown);
  });
});
