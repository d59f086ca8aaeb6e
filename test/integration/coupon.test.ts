import assert from 'node:assert/strict';
import { isInvalidArgument } from '../../gen/common/v1/errors.js';
import { isRequestIdReused } from '../../gen/order/v1/errors.js';
import { isCouponNotFound, isCouponUnavailable, isCouponVersionConflict } from '../../gen/pricing/v1/errors.js';
import { formatUserId } from '../../internal/biz/identity.js';
import type { CreateGoodsOrder } from '../../internal/biz/order/goods-order.js';
import type { NewCoupon } from '../../internal/biz/pricing/coupon.js';
import { violationsOf } from '../support/audit.js';
import { SeckillReplica } from '../support/seckill.js';
import { useServers } from '../support/servers.js';

const RECEIVER = { name: '张三', phone: '13800000000', region: '310115', address: 'Century Avenue 1' };
const PAGE = { offset: 0, limit: 100 };

describe('coupons', () => {
  const servers = useServers('postgres', 'redis');
  let replica: SeckillReplica;
  let other: SeckillReplica;
  let users = 61_000;

  before(async () => {
    replica = new SeckillReplica(servers);
    other = new SeckillReplica(servers);
    await Promise.all([replica.start(), other.start()]);
  });
  after(() => Promise.all([replica?.close(), other?.close()]));
  afterEach(async () => {
    assert.deepEqual(await violationsOf(replica.db, replica.redis, [1, 7, 12, 13, 15, 17]), []);
  });

  const buyer = () => formatUserId(String(++users));
  const newCoupon = (changes: Partial<NewCoupon> = {}) =>
    replica.coupons.create({
      ...{ name: '10 off', value: { kind: 'AMOUNT', offFen: 1_000n }, scope: { kind: 'ALL' }, enabled: true },
      ...{ startsAt: new Date(0), endsAt: undefined, total: 100n, limitPerUser: 1 },
      ...changes,
    });
  /** A user with a coupon. */
  const owner = async (changes: Partial<NewCoupon> = {}) => {
    const userId = buyer();
    const coupon = await newCoupon(changes);
    return { userId, coupon, mine: await replica.userCoupons.claim(coupon.id, { userId, requestId: '' }) };
  };
  const order = (
    userId: string,
    couponId: bigint | undefined,
    skuId: bigint,
    { on = replica, ...changes }: Partial<CreateGoodsOrder> & { on?: SeckillReplica } = {},
  ) =>
    on.goodsOrders.create({
      ...{ userId, couponId, lines: [{ skuId, quantity: 1 }], receiver: RECEIVER, remark: '', requestId: '' },
      ...{ expectedAmountFen: undefined, ...changes },
    });
  const pay = ({ id: orderId }: { readonly id: bigint }) =>
    replica.orders.markPaid({
      orderId,
      userId: undefined,
      provider: 'p',
      eventId: `pay-${orderId}`,
      amountFen: undefined,
    });
  const stateOf = async (id: bigint, userId: string) => {
    const { items } = await replica.userCoupons.list(userId, undefined, PAGE);
    const found = items.find((c) => c.id === id);
    return [found?.state, found?.orderId];
  };
  const refundWhole = async (orderId: bigint, userId: string) => {
    await replica.refundRequests.request({ orderId, userId, reason: 'r', lines: [], requestId: '' });
    for (const claim of await replica.refunds.claim(10)) await replica.refunds.payOut(claim);
    assert.equal((await replica.orders.get(orderId, userId)).closeReason, 'REFUNDED');
  };
  /** The reason for which a coupon is refused. */
  const reasonOf = (attempt: Promise<unknown>) =>
    attempt.then(
      () => assert.fail('nothing was refused'),
      (err: unknown) => (isCouponUnavailable(err) ? err.metadata.reason : assert.fail(String(err))),
    );
  const endNow = (couponId: bigint) => replica.rows(`UPDATE coupons SET ends_at = now() WHERE id = $1`, couponId);

  it('costs what the quote with the coupon says, in the order, its lines and its discounts', async () => {
    const { userId, mine } = await owner();
    const { id: skuId, priceFen } = await replica.sku(10n);
    const lines = [{ skuId, quantity: 2 }];
    const quote = await replica.quotes.quote({ userId, lines, region: RECEIVER.region, couponId: mine.id });
    assert.deepEqual(quote.coupon, { id: mine.id, refusal: undefined, savedFen: 1_000n });
    assert.equal(quote.amountFen, 2n * priceFen - 1_000n);
    const placed = await order(userId, mine.id, skuId, { lines, expectedAmountFen: quote.amountFen });
    assert.deepEqual([placed.amountFen, placed.promotionFen], [quote.amountFen, 1_000n]);
    assert.equal(placed.items[0]?.promotionFen, 1_000n);
    const discounts = await replica.rows(
      'SELECT rule, rule_id, amount FROM order_discounts WHERE order_id = $1',
      placed.id,
    );
    assert.deepEqual(discounts, [{ rule: 'COUPON', rule_id: mine.id, amount: 1_000n }]);
    assert.deepEqual(await stateOf(mine.id, userId), ['HELD', placed.id]);
  });

  it('is used by the payment, and given back by a refund of the whole order while it is valid', async () => {
    for (const ends of [false, true]) {
      const { userId, mine, coupon } = await owner();
      const { id: skuId } = await replica.sku(10n);
      const placed = await order(userId, mine.id, skuId);
      await pay(placed);
      assert.deepEqual(await stateOf(mine.id, userId), ['USED', placed.id]);
      if (ends) await endNow(coupon.id);
      await refundWhole(placed.id, userId);
      assert.deepEqual(await stateOf(mine.id, userId), ends ? ['USED', placed.id] : ['UNUSED', undefined]);
    }
  });

  it('stays used when only a part of the order is refunded', async () => {
    const { userId, mine } = await owner();
    const { id: skuId } = await replica.sku(10n);
    const placed = await order(userId, mine.id, skuId, { lines: [{ skuId, quantity: 2 }] });
    await pay(placed);
    const lines = [{ skuId, quantity: 1 }];
    await replica.refundRequests.request({ orderId: placed.id, userId, reason: 'r', lines, requestId: '' });
    for (const claim of await replica.refunds.claim(10)) await replica.refunds.payOut(claim);
    assert.deepEqual(await stateOf(mine.id, userId), ['USED', placed.id]);
  });

  it('is free again when the order is cancelled or times out, and can be used by the next one', async () => {
    const { userId, mine } = await owner();
    const { id: skuId } = await replica.sku(10n);
    const cancelled = await order(userId, mine.id, skuId);
    await replica.orders.cancel(cancelled.id, userId, '');
    assert.deepEqual(await stateOf(mine.id, userId), ['UNUSED', undefined]);
    const late = await order(userId, mine.id, skuId);
    await replica.rows(`UPDATE orders SET pay_deadline = now() - interval '1 s' WHERE id = $1`, late.id);
    await replica.orders.sweepOverdue(100);
    assert.deepEqual(await stateOf(mine.id, userId), ['UNUSED', undefined]);
    assert.equal((await order(userId, mine.id, skuId)).promotionFen, 1_000n);
  });

  it('keeps its discount when it ends while an unpaid order holds it, and is EXPIRED when that order is cancelled', async () => {
    const [paid, cancelled] = [await owner(), await owner()];
    const { id: skuId } = await replica.sku(10n);
    const orders = [];
    for (const { userId, mine, coupon } of [paid, cancelled]) {
      orders.push(await order(userId, mine.id, skuId));
      await endNow(coupon.id);
    }
    const settled = await pay(orders[0]!);
    assert.deepEqual([settled.status, settled.promotionFen], ['PAID', 1_000n]);
    assert.deepEqual(await stateOf(paid.mine.id, paid.userId), ['USED', settled.id]);
    await replica.orders.cancel(orders[1]!.id, cancelled.userId, '');
    assert.deepEqual(await stateOf(cancelled.mine.id, cancelled.userId), ['EXPIRED', undefined]);
  });

  it('creates no order with a coupon that ended after the quote, and reserves nothing for it', async () => {
    const { userId, mine, coupon } = await owner();
    const { id: skuId } = await replica.sku(10n);
    const lines = [{ skuId, quantity: 1 }];
    const quote = await replica.quotes.quote({ userId, lines, region: undefined, couponId: mine.id });
    await endNow(coupon.id);
    assert.equal(await reasonOf(order(userId, mine.id, skuId, { expectedAmountFen: quote.amountFen })), 'EXPIRED');
    assert.equal((await replica.catalog.getSku(skuId)).lockStock, 0n);
    const after = await replica.quotes.quote({ userId, lines, region: undefined, couponId: mine.id });
    assert.deepEqual(after.coupon, { id: mine.id, refusal: 'EXPIRED', savedFen: 0n });
    assert.equal(after.amountFen, quote.amountFen + 1_000n);
  });

  it('says why a coupon does not apply to an order', async () => {
    const { id: skuId, priceFen } = await replica.sku(10n);
    const refusals: [Partial<NewCoupon>, string][] = [
      [{ value: { kind: 'THRESHOLD', thresholdFen: priceFen + 1n, offFen: 1n } }, 'BELOW_THRESHOLD'],
      [{ scope: { kind: 'SKU', ids: [skuId + 1_000_000n] } }, 'NOTHING_IN_SCOPE'],
    ];
    for (const [changes, reason] of refusals) {
      const { userId, mine } = await owner(changes);
      assert.equal(await reasonOf(order(userId, mine.id, skuId)), reason);
    }
    const { userId, mine, coupon } = await owner();
    await replica.coupons.update(coupon.id, coupon.version, { enabled: false });
    assert.equal(await reasonOf(order(userId, mine.id, skuId)), 'DISABLED');
  });

  it('does not know the coupon of another user', async () => {
    const { mine } = await owner();
    const { id: skuId } = await replica.sku(10n);
    const stranger = buyer();
    const lines = [{ skuId, quantity: 1 }];
    await assert.rejects(order(stranger, mine.id, skuId), isCouponNotFound);
    await assert.rejects(
      replica.quotes.quote({ userId: stranger, lines, region: undefined, couponId: mine.id }),
      isCouponNotFound,
    );
    assert.equal((await replica.userCoupons.list(stranger, undefined, PAGE)).total, 0n);
  });

  it('returns the same order for a repeated request, and refuses the request id with another coupon', async () => {
    const { userId, mine } = await owner();
    const { id: skuId } = await replica.sku(10n);
    const same = { requestId: 'once' };
    const [first, second] = await Promise.all([
      order(userId, mine.id, skuId, same),
      order(userId, mine.id, skuId, { ...same, on: other }),
    ]);
    assert.equal(first.id, second.id);
    await assert.rejects(order(userId, undefined, skuId, same), isRequestIdReused);
  });

  it('is held by one of many orders that race for it, of one sku and of several, on two replicas', async () => {
    const { userId, mine } = await owner();
    const skus = [await replica.sku(100n), await replica.sku(100n), await replica.sku(100n)];
    const attempts = Array.from({ length: 30 }, (_, i) =>
      order(userId, mine.id, skus[i % 3]!.id, { on: i % 2 === 0 ? replica : other }),
    );
    const outcomes = await Promise.allSettled(attempts);
    const placed = outcomes.filter((o) => o.status === 'fulfilled');
    assert.equal(placed.length, 1);
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') assert.equal(await reasonOf(Promise.reject(outcome.reason)), 'HELD');
    }
    assert.deepEqual(await stateOf(mine.id, userId), ['HELD', placed[0]!.value.id]);
    const levels = await Promise.all(skus.map(async (s) => (await replica.catalog.getSku(s.id)).lockStock));
    assert.equal(
      levels.reduce((a, b) => a + b),
      1n,
    );
  });

  it('lets an order with a refused coupon leave the other orders of its sku alone', async () => {
    const { id: skuId } = await replica.sku(100n);
    const { userId, mine } = await owner();
    await order(userId, mine.id, skuId);
    const outcomes = await Promise.allSettled(
      Array.from({ length: 20 }, (_, i) =>
        i === 7 ? order(userId, mine.id, skuId) : order(buyer(), undefined, skuId),
      ),
    );
    assert.deepEqual(
      outcomes.flatMap((o, i) => (o.status === 'rejected' ? [i] : [])),
      [7],
    );
  });

  it('gives out exactly its total in a rush on two replicas, and no user more than the limit', async () => {
    const coupon = await newCoupon({ total: 60n, limitPerUser: 2 });
    const crowd = Array.from({ length: 80 }, buyer);
    const outcomes = await Promise.allSettled(
      Array.from({ length: 400 }, (_, i) =>
        (i % 2 === 0 ? replica : other).userCoupons.claim(coupon.id, { userId: crowd[i % 80]!, requestId: '' }),
      ),
    );
    const given = outcomes.flatMap((o) => (o.status === 'fulfilled' ? [o.value] : []));
    assert.equal(given.length, 60);
    assert.equal(new Set(given.map((c) => c.id)).size, 60);
    for (const user of crowd) assert.ok(given.filter((c) => c.userId === user).length <= 2);
    const reasons = new Set<unknown>();
    for (const o of outcomes) if (o.status === 'rejected') reasons.add(await reasonOf(Promise.reject(o.reason)));
    assert.ok(reasons.has('SOLD_OUT'));
    const [row] = await replica.rows('SELECT claimed FROM coupons WHERE id = $1', coupon.id);
    assert.deepEqual(row, { claimed: 60n });
    assert.equal(await reasonOf(replica.userCoupons.claim(coupon.id, { userId: buyer(), requestId: '' })), 'SOLD_OUT');
  });

  it('is claimed once for a request id, however often it is sent, and within the limit per user', async () => {
    const coupon = await newCoupon({ limitPerUser: 2 });
    const userId = buyer();
    const claim = (requestId: string, on = replica) => on.userCoupons.claim(coupon.id, { userId, requestId });
    const claimed = await Promise.all([claim('a'), claim('a', other), claim('a'), claim('b'), claim('b', other)]);
    assert.equal(new Set(claimed.map((c) => c.id)).size, 2);
    assert.equal(await reasonOf(claim('c')), 'LIMIT_REACHED');
    assert.equal((await claim('a')).id, claimed[0]?.id);
  });

  it('is claimed from its start to its end only, while it is enabled', async () => {
    const later = await newCoupon({ startsAt: new Date(Date.now() + 60_000) });
    const ended = await newCoupon();
    await endNow(ended.id);
    const disabled = await newCoupon({ enabled: false });
    const claim = (id: bigint) => replica.userCoupons.claim(id, { userId: buyer(), requestId: '' });
    assert.equal(await reasonOf(claim(later.id)), 'NOT_STARTED');
    assert.equal(await reasonOf(claim(ended.id)), 'EXPIRED');
    assert.equal(await reasonOf(claim(disabled.id)), 'DISABLED');
    await assert.rejects(claim(2n ** 62n), isCouponNotFound);
  });

  it('is granted to each of several users or to none, once for a request id, besides the limit per user', async () => {
    const coupon = await newCoupon({ total: 3n, startsAt: new Date(Date.now() + 60_000) });
    const [a, b, c] = [buyer(), buyer(), buyer()];
    const granted = await replica.userCoupons.grant(coupon.id, [a, b], 'first');
    assert.deepEqual(
      granted.map((g) => [g.userId, g.granted]),
      [a, b].map((userId) => [userId, true]),
    );
    const repeated = await other.userCoupons.grant(coupon.id, [a, b], 'first');
    assert.deepEqual(
      repeated.map((g) => g.id),
      granted.map((g) => g.id),
    );
    assert.equal(await reasonOf(replica.userCoupons.grant(coupon.id, [a, c], '')), 'SOLD_OUT');
    assert.equal((await replica.userCoupons.list(c, undefined, PAGE)).total, 0n);
    await replica.coupons.update(coupon.id, coupon.version, { startsAt: new Date(0) });
    await replica.userCoupons.claim(coupon.id, { userId: a, requestId: '' });
    assert.equal((await replica.userCoupons.list(a, 'UNUSED', PAGE)).total, 2n);
  });

  it('tries the coupons of a user with some lines, and says what each saves or why it does not apply', async () => {
    const userId = buyer();
    const { id: skuId, priceFen } = await replica.sku(10n);
    const claim = async (changes: Partial<NewCoupon>) =>
      (await replica.userCoupons.claim((await newCoupon(changes)).id, { userId, requestId: '' })).id;
    const half = await claim({ value: { kind: 'PERCENT', percent: 50, capFen: undefined } });
    const high = await claim({ value: { kind: 'THRESHOLD', thresholdFen: 10n * priceFen, offFen: 5n } });
    const held = await claim({});
    await order(userId, held, skuId);
    const request = { userId, lines: [{ skuId, quantity: 1 }], region: undefined };
    const { items, total } = await replica.quotes.tryCoupons(request, undefined, PAGE);
    assert.equal(total, 3n);
    assert.deepEqual(
      items.map(({ use }) => use),
      [
        { id: held, refusal: 'HELD', savedFen: 0n },
        { id: high, refusal: 'BELOW_THRESHOLD', savedFen: 0n },
        { id: half, refusal: undefined, savedFen: priceFen / 2n },
      ],
    );
  });

  it('is changed by version, and its total never falls below what was given out', async () => {
    const { coupon } = await owner();
    const { id, version } = coupon;
    const changed = await replica.coupons.update(id, version, {
      total: 1n,
      name: 'new',
      endsAt: new Date('2999-01-01'),
    });
    assert.deepEqual([changed.total, changed.name, changed.claimed], [1n, 'new', 1n]);
    await assert.rejects(replica.coupons.update(id, version, { total: 2n }), isCouponVersionConflict);
    const fields = await replica.coupons.update(id, changed.version, { total: 0n }).then(
      () => assert.fail('nothing was refused'),
      (err: unknown) => (isInvalidArgument(err) ? err.violations.map((v) => v.field) : assert.fail(String(err))),
    );
    assert.deepEqual(fields, ['total']);
    assert.equal((await replica.coupons.update(id, changed.version, { endsAt: 'never' })).endsAt, undefined);
  });
});
