import assert from 'node:assert/strict';
import {
  isOrderNotFound,
  isOrderStatusConflict,
  isPaymentAmountMismatch,
  isPriceChanged,
} from '../../gen/order/v1/errors.js';
import { formatUserId } from '../../internal/biz/identity.js';
import type { Order } from '../../internal/biz/order/order-state.js';
import type { KratosError } from '../../internal/kratos/errors/error.js';
import { violationsOf } from '../support/audit.js';
import { RECEIVER, SeckillReplica } from '../support/seckill.js';
import { useServers } from '../support/servers.js';

const FAR = { ...RECEIVER, region: '650000' };

describe('the receiver of an order of goods', () => {
  const servers = useServers('postgres', 'redis');
  let replica: SeckillReplica;
  let users = 71_000;

  before(async () => {
    replica = new SeckillReplica(servers);
    await replica.start();
    for (const [regionPrefix, feeFen] of [
      ['', 500n],
      ['65', 2_000n],
    ] as const) {
      const rule = { regionPrefix, fee: { kind: 'FLAT' as const, feeFen }, freeAboveFen: undefined, enabled: true };
      await replica.priceRules.putFreightRule(rule, 0n);
    }
  });
  after(() => replica?.close());
  afterEach(async () => {
    for (const claim of await replica.refunds.claim(100)) await replica.refunds.payOut(claim);
    assert.deepEqual(await violationsOf(replica.db, replica.redis, [1, 12, 13, 15, 17]), []);
  });

  const place = async (): Promise<Order> =>
    replica.goodsOrders.create({
      ...{ userId: formatUserId(String(++users)), lines: [{ skuId: (await replica.sku(10n)).id, quantity: 2 }] },
      ...{ receiver: RECEIVER, remark: '', requestId: '', expectedAmountFen: undefined },
    });
  const set = ({ id, userId }: Order, receiver = FAR, expectedAmountFen?: bigint) =>
    replica.receivers.set(id, userId, receiver, expectedAmountFen);
  const priceOf = (attempt: Promise<unknown>): Promise<bigint> =>
    attempt.then(
      () => assert.fail('nothing was refused'),
      (err: KratosError) => (isPriceChanged(err) ? BigInt(err.metadata.amount_fen ?? '') : assert.fail(String(err))),
    );

  it('changes at no cost within its region, and where the freight is the same', async () => {
    const order = await place();
    const moved = await set(order, { ...RECEIVER, address: 'elsewhere' });
    assert.deepEqual([moved.receiver?.address, moved.amountFen], ['elsewhere', order.amountFen]);
    const farther = await set(order, { ...RECEIVER, region: '440000' }, order.amountFen);
    assert.deepEqual([farther.receiver?.region, farther.freightFen], ['440000', 500n]);
  });

  it('pays the freight to another region only if the buyer expects the new amount', async () => {
    const order = await place();
    const amountFen = await priceOf(set(order));
    assert.equal(amountFen, order.amountFen + 1_500n);
    assert.deepEqual((await replica.orders.get(order.id, undefined)).receiver, RECEIVER);
    const moved = await set(order, FAR, amountFen);
    assert.deepEqual([moved.amountFen, moved.freightFen, moved.totalFen], [amountFen, 2_000n, order.totalFen]);
    assert.deepEqual(moved.receiver, FAR);
    const back = await set(order, RECEIVER, order.amountFen);
    assert.deepEqual([back.amountFen, back.freightFen], [order.amountFen, order.freightFen]);
    assert.equal(await priceOf(set(order, RECEIVER, 1n)), order.amountFen);
  });

  it('closes the payment of the old amount, and pays it back if the buyer was faster', async () => {
    for (const isFaster of [false, true]) {
      const order = await place();
      const old = await replica.paymentSessions.start(order.id, undefined, '');
      if (isFaster) replica.provider.end(old.id, 'paid');
      const moved = await set(order, FAR, order.amountFen + 1_500n);
      const next = await replica.paymentSessions.start(order.id, undefined, '');
      assert.notEqual(next.id, old.id);
      assert.equal(next.amountFen, moved.amountFen);
      const closing = (await replica.paymentSessions.claim(1_000)).find((s) => s.id === old.id);
      assert.equal((await replica.paymentSessions.check(closing!)).kind, isFaster ? 'paid' : 'closed');
      const { items } = await replica.refunds.list({ orderId: order.id }, { offset: 0, limit: 10 });
      assert.deepEqual(
        items.map((r) => r.amountFen),
        isFaster ? [order.amountFen] : [],
      );
      const notice = { orderId: order.id, userId: undefined, provider: 'p', sessionId: next.id };
      const late = { ...notice, eventId: `late-${next.id}`, amountFen: order.amountFen };
      await assert.rejects(replica.paymentSessions.receive({ ...late, sessionId: undefined }), isPaymentAmountMismatch);
      replica.provider.end(next.id, 'paid');
      const paid = await replica.paymentSessions.receive({
        ...notice,
        ...{ eventId: `p-${next.id}`, amountFen: moved.amountFen },
      });
      assert.equal(paid.status, 'PAID');
    }
  });

  it('does not change the freight of a paid order', async () => {
    const order = await place();
    await replica.orders.markPaid({
      ...{ orderId: order.id, userId: undefined, provider: 'p', eventId: `e-${order.id}`, amountFen: undefined },
    });
    const moved = await set(order);
    assert.deepEqual([moved.receiver, moved.amountFen], [FAR, order.amountFen]);
  });

  it('stays as it is once the order is cancelled, and for another user', async () => {
    const order = await place();
    await assert.rejects(replica.receivers.set(order.id, formatUserId('8'), FAR, undefined), isOrderNotFound);
    await replica.orders.cancel(order.id, order.userId, '');
    await assert.rejects(set(order), isOrderStatusConflict);
  });

  it('and a payment that race leave an order that is paid what it costs', async () => {
    for (let i = 0; i < 6; i++) {
      const order = await place();
      const pay = () =>
        replica.orders.markPaid({
          ...{ orderId: order.id, userId: undefined, provider: 'p', eventId: `r-${order.id}` },
          amountFen: order.amountFen,
        });
      const [moved, paid] = await Promise.allSettled([set(order, FAR, order.amountFen + 1_500n), pay()]);
      const { status, amountFen } = await replica.orders.get(order.id, undefined);
      const isPaid = paid.status === 'fulfilled';
      assert.equal(status, isPaid ? 'PAID' : 'PENDING');
      assert.equal(amountFen, order.amountFen + (isPaid ? 0n : 1_500n));
      assert.equal(moved.status, isPaid ? 'rejected' : 'fulfilled');
    }
  });
});
