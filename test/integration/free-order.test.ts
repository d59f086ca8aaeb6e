import assert from 'node:assert/strict';
import { isOrderAlreadyPaid, isPriceChanged } from '../../gen/order/v1/errors.js';
import { formatUserId } from '../../internal/biz/identity.js';
import type { CreateGoodsOrder } from '../../internal/biz/order/goods-order.js';
import type { Order } from '../../internal/biz/order/order-state.js';
import { newContent } from '../contract/content.js';
import { violationsOf } from '../support/audit.js';
import { RECEIVER, type SeckillReplica, startReplica } from '../support/seckill.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const FAR = { ...RECEIVER, region: '650000' };
const INVARIANTS = [1, 2, 3, 5, 6, 7, 10, 12, 13, 15, 17];

describe('an order that costs nothing', () => {
  const servers = useServers('postgres', 'redis');
  let replica: SeckillReplica;
  let other: SeckillReplica;

  before(async () => {
    [replica, other] = await Promise.all([startReplica(servers), startReplica(servers)]);
  });
  after(() => Promise.all([replica?.close(), other?.close()]));
  afterEach(async () => {
    await replica.rows('UPDATE freight_rules SET enabled = false');
    assert.deepEqual(await violationsOf(replica.db, replica.redis, INVARIANTS), []);
  });

  let users = 93_000;
  const freshUser = () => formatUserId(String(++users));
  const create = (skuId: bigint, changes: Partial<CreateGoodsOrder> = {}, on = replica) =>
    on.goodsOrders.create({
      ...{ userId: freshUser(), lines: [{ skuId, quantity: 1 }], receiver: RECEIVER, remark: '', requestId: '' },
      ...{ expectedAmountFen: undefined, ...changes },
    });
  /** A sku whose limited-time price is 0. */
  const freeSku = async (limitPerUser?: number) => {
    const { id } = await replica.sku(300n);
    const terms = { kind: 'LIMITED_PRICE' as const, skuId: id, priceFen: 0n, limitPerUser };
    await replica.priceRules.createPromotion({
      ...{ name: 'gift', terms, enabled: true, startsAt: new Date(0), endsAt: undefined },
    });
    return id;
  };
  /** A coupon of the user that takes everything off. */
  const giveCoupon = async (userId: string) => {
    const coupon = await replica.coupons.create({
      ...{ name: 'all of it', value: { kind: 'AMOUNT', offFen: 10_000_000n }, scope: { kind: 'ALL' }, enabled: true },
      ...{ startsAt: new Date(0), endsAt: undefined, total: 100n, limitPerUser: 1 },
    });
    return (await replica.userCoupons.claim(coupon.id, { userId, requestId: '' })).id;
  };
  const couponStatus = async (id: bigint) =>
    (await replica.rows<{ status: string }>('SELECT status FROM user_coupons WHERE id = $1', id))[0]?.status;
  const events = async ({ id }: Order) =>
    (await replica.orders.listEvents(id, undefined)).map((e) => `${e.to} ${e.actor} ${e.reason}`.trim());
  const BY_ITSELF = ['PENDING user', 'PAID system NOTHING_TO_PAY'];
  const paymentsOf = ({ id }: Order) => replica.rows('SELECT id FROM payments WHERE order_id = $1', id);
  const get = ({ id }: Order) => replica.orders.get(id, undefined);
  const refund = async ({ id: orderId, userId }: Order) => {
    const asked = await replica.refundRequests.request({ orderId, userId, reason: 'r', lines: [], requestId: '' });
    if (asked.status === 'REQUESTED') await replica.refunds.approve(asked.id);
    for (const claim of await replica.refunds.claim(100)) assert.equal(await replica.refunds.payOut(claim), 'done');
    assert.equal((await replica.refunds.get(asked.id, undefined)).status, 'DONE');
    assert.equal(replica.provider.paid.has(asked.id), false, 'no provider was asked');
    const messages = `SELECT id FROM outbox WHERE topic = 'order.refund.requested' AND ref_id = $1`;
    assert.deepEqual(await replica.rows(messages, asked.id), []);
  };

  it('of goods is PAID when a coupon takes everything off, and a refund gives units and coupon back', async () => {
    const [userId, { id: skuId }] = [freshUser(), await replica.sku(10n)];
    const couponId = await giveCoupon(userId);
    const wanted = { userId, couponId, requestId: 'once', expectedAmountFen: 0n };
    const order = await create(skuId, wanted);
    assert.deepEqual([order.status, order.amountFen, await couponStatus(couponId)], ['PAID', 0n, 'USED']);
    assert.deepEqual(await replica.levelOf(skuId), [9n, 0n]);
    assert.deepEqual(await events(order), BY_ITSELF);
    assert.deepEqual(await paymentsOf(order), []);
    assert.deepEqual(await create(skuId, wanted, other), order, 'the request again');
    await assert.rejects(replica.paymentSessions.start(order.id, userId, ''), isOrderAlreadyPaid);
    await refund(order);
    assert.deepEqual([(await get(order)).closeReason, await couponStatus(couponId)], ['REFUNDED', 'UNUSED']);
    assert.deepEqual(await replica.levelOf(skuId), [10n, 0n]);
  });

  it('of an instance is PAID with its instance requested', async () => {
    const plan = await replica.plan('gift', 0n);
    const wanted = { userId: freshUser(), productId: plan.id, quantity: 1, requestId: 'once', remark: '' };
    const order = await replica.orders.create(wanted);
    assert.equal(order.status, 'PAID');
    assert.equal((await replica.instances.getRequest(order.instanceId!)).orderId, order.id);
    assert.deepEqual(await events(order), BY_ITSELF);
    assert.deepEqual(await other.orders.create(wanted), order, 'the request again');
    await replica.instances.reportInstance({ instanceId: order.instanceId!, status: 'FAILED', reason: 'no room' });
    for (const claim of await replica.refunds.claim(100)) assert.equal(await replica.refunds.payOut(claim), 'done');
    assert.equal((await get(order)).closeReason, 'REFUNDED');
  });

  it('of a content is COMPLETED with the content open, and a refund closes it', async () => {
    const [userId, content] = [freshUser(), await replica.contents.create(newContent({ priceFen: 0n }))];
    const wanted = { userId, contentId: content.id, quantity: 1, remark: '', requestId: 'once' };
    const order = await replica.contentOrders.create({ ...wanted, expectedAmountFen: undefined });
    const hasAccess = async () => (await replica.entitlements.check({ userId, contentId: content.id })).hasAccess;
    assert.deepEqual([order.status, await hasAccess()], ['COMPLETED', true]);
    assert.deepEqual(await events(order), [...BY_ITSELF, 'COMPLETED system']);
    assert.deepEqual(await other.contentOrders.create({ ...wanted, expectedAmountFen: undefined }), order);
    await refund(order);
    assert.deepEqual([(await get(order)).status, await hasAccess()], ['CANCELLED', false]);
  });

  it('opens a permanent content once when two of its orders race on two replicas', async () => {
    const content = await replica.contents.create(newContent({ priceFen: 0n }));
    const wanted = { userId: freshUser(), contentId: content.id, quantity: 1, remark: '', requestId: '' };
    const raced = await Promise.allSettled(
      [replica, other].map((on) => on.contentOrders.create({ ...wanted, expectedAmountFen: undefined })),
    );
    const made = raced.flatMap((r) => (r.status === 'fulfilled' ? [r.value] : []));
    assert.equal(made.filter((o) => o.status === 'COMPLETED').length, 1);
    for (const claim of await replica.refunds.claim(100)) assert.equal(await replica.refunds.payOut(claim), 'done');
    const statuses = await Promise.all(made.map(async (o) => (await get(o)).status));
    assert.ok(statuses.every((s) => s === 'COMPLETED' || s === 'CANCELLED'));
  });

  it('is PAID among orders of the same sku that must be paid, on two replicas', async () => {
    const [{ id: skuId }, userId] = [await replica.sku(300n), freshUser()];
    const couponId = await giveCoupon(userId);
    const made = await Promise.all(
      Array.from({ length: 60 }, (_, i) =>
        create(skuId, i === 30 ? { userId, couponId } : {}, i % 2 === 0 ? replica : other),
      ),
    );
    assert.deepEqual(
      made.flatMap((o, i) => (o.status === 'PAID' ? [i] : [])),
      [30],
    );
    assert.ok(made.every((o, i) => i === 30 || (o.status === 'PENDING' && o.amountFen > 0n)));
    assert.deepEqual(await replica.levelOf(skuId), [299n, 59n]);
  });

  it('is PAID in batches where the limited-time price is 0, and a buyer above the limit pays', async () => {
    const skuId = await freeSku(1);
    const made = await Promise.all(
      Array.from({ length: 60 }, (_, i) => create(skuId, {}, i % 2 === 0 ? replica : other)),
    );
    assert.ok(made.every((o) => o.status === 'PAID'));
    assert.deepEqual(await replica.levelOf(skuId), [240n, 0n]);
    const again = await create(skuId, { userId: made[0]!.userId });
    assert.equal(again.status, again.amountFen === 0n ? 'PAID' : 'PENDING');
    assert.equal(again.amountFen > 0n, true);
  });

  it('is PAID when the freight that was left to pay falls to 0', async () => {
    for (const [regionPrefix, feeFen] of [
      ['', 0n],
      ['65', 2_000n],
    ] as const) {
      const rule = { regionPrefix, fee: { kind: 'FLAT' as const, feeFen }, freeAboveFen: undefined, enabled: true };
      await replica.priceRules.putFreightRule(rule, 0n);
    }
    const skuId = await freeSku();
    const order = await create(skuId, { receiver: FAR });
    assert.deepEqual([order.status, order.amountFen], ['PENDING', 2_000n]);
    const session = await replica.paymentSessions.start(order.id, undefined, '');
    await assert.rejects(replica.receivers.set(order.id, order.userId, RECEIVER, undefined), isPriceChanged);
    const paid = await replica.receivers.set(order.id, order.userId, RECEIVER, 0n);
    assert.deepEqual([paid.status, paid.amountFen, paid.freightFen], ['PAID', 0n, 0n]);
    assert.deepEqual(await events(order), BY_ITSELF);
    assert.deepEqual(await replica.levelOf(skuId), [299n, 0n]);
    assert.equal((await replica.receivers.set(order.id, order.userId, RECEIVER, 0n)).status, 'PAID', 'again');
    // The payment of the freight is closed.
    const closing = (await replica.paymentSessions.claim(1_000)).find((s) => s.id === session.id);
    assert.equal((await replica.paymentSessions.check(closing!)).kind, 'closed');
  });

  it('of a PAY_LATER sale at 0 fen is PAID when the purchase is settled', async () => {
    const { itemId } = await replica.openSale({ payMode: 'PAY_LATER', priceFen: 0n });
    for (let i = 0; i < 3; i++) await replica.buy(itemId, ++users);
    await replica.startConsumer();
    await eventually('the stream is empty', () => replica.idle(itemId));
    await replica.stopConsumer();
    const orders = await replica.rows<{ id: bigint }>('SELECT id FROM orders WHERE product_id = $1', itemId);
    const settled = await Promise.all(orders.map(({ id }) => replica.orders.get(id, undefined)));
    assert.deepEqual(
      settled.map((o) => [o.status, o.payDeadline, o.instanceId !== undefined]),
      Array.from({ length: 3 }, () => ['PAID', undefined, true]),
    );
    assert.deepEqual(await events(settled[0]!), ['PAID seckill']);
  });

  describe('is reported by the audit', () => {
    /** @param damage what is done, and undone by the second statement */
    const reports = async (damage: string, repair: string, expected: string) => {
      const order = await create(await freeSku());
      await replica.rows(damage, order.id);
      const found = await violationsOf(replica.db, replica.redis, [12]);
      assert.ok(
        found.some((v) => v.startsWith(`12 order ${order.id}`) && v.includes(expected)),
        found.join('\n'),
      );
      await replica.rows(repair, order.id);
    };

    it('when it is PAID, but no event says why it has no payment', () =>
      reports(
        `UPDATE order_events SET actor = 'payment' WHERE order_id = $1 AND version = 2`,
        `UPDATE order_events SET actor = 'system' WHERE order_id = $1 AND version = 2`,
        'has 0 payments',
      ));

    it('when it costs something after all', () =>
      reports(
        'UPDATE orders SET amount = 1, freight_amount = freight_amount + 1 WHERE id = $1',
        'UPDATE orders SET amount = 0, freight_amount = freight_amount - 1 WHERE id = $1',
        'has 0 payments',
      ));

    it('when a payment was applied to it', () =>
      reports(
        `INSERT INTO payments (id, order_id, provider, event_id, amount, outcome) VALUES ($1::bigint, $1, 'p', 'free', 0, 'APPLIED')`,
        'DELETE FROM payments WHERE order_id = $1',
        'has 1 payments',
      ));
  });
});
