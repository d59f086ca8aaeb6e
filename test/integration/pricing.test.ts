import assert from 'node:assert/strict';
import { isInvalidArgument } from '../../gen/common/v1/errors.js';
import { isPriceChanged } from '../../gen/order/v1/errors.js';
import { isPromotionVersionConflict } from '../../gen/pricing/v1/errors.js';
import { type CreatePromotionRequest, Scope_Kind as ScopeKind } from '../../gen/pricing/v1/pricing.js';
import { formatUserId } from '../../internal/biz/identity.js';
import type { CreateGoodsOrder } from '../../internal/biz/order/goods-order.js';
import type { OrderLine } from '../../internal/biz/order/goods-order-refusal.js';
import type { NewPromotion } from '../../internal/biz/pricing/price-rule.js';
import { PricingService } from '../../internal/service/pricing.js';
import { violationsOf } from '../support/audit.js';
import { type SeckillReplica, startReplica } from '../support/seckill.js';
import { useServers } from '../support/servers.js';

const REGION = '310115';
const RECEIVER = { name: '张三', phone: '13800000000', region: REGION, address: 'Century Avenue 1' };

describe('prices of orders of goods', () => {
  const servers = useServers('postgres', 'redis');
  let replica: SeckillReplica;
  let users = 7_000;

  before(async () => {
    replica = await startReplica(servers);
  });
  after(() => replica?.close());
  afterEach(async () => {
    await replica.rows('UPDATE promotions SET enabled = false');
    await replica.rows('UPDATE freight_rules SET enabled = false');
    const unequal = `SELECT o.id FROM orders o LEFT JOIN order_discounts d ON d.order_id = o.id WHERE o.order_type = 'GOODS'
      GROUP BY o.id HAVING o.promotion_amount <> coalesce(sum(d.amount), 0)`;
    assert.deepEqual(await replica.rows(unequal), []);
    assert.deepEqual(await violationsOf(replica.db, replica.redis, [1, 5, 6, 7, 12, 13]), []);
  });

  const buyer = () => formatUserId(String(++users));
  const create = (lines: readonly OrderLine[], changes: Partial<CreateGoodsOrder> = {}) =>
    replica.goodsOrders.create({
      ...{ userId: buyer(), lines, receiver: RECEIVER, remark: '', requestId: '', expectedAmountFen: undefined },
      ...changes,
    });
  const promote = (terms: NewPromotion['terms']) =>
    replica.priceRules.createPromotion({
      ...{ name: 'Double 11', terms, enabled: true, startsAt: new Date(0), endsAt: undefined },
    });
  const discountsOf = (orderId: bigint) =>
    replica.rows(
      `SELECT rule, sku_id::text AS sku, amount::int AS amount, units FROM order_discounts WHERE order_id = $1 ORDER BY 1, 2`,
      orderId,
    );

  it('stores an order with the parts and line shares that the quote said', async () => {
    const [a, b] = [await replica.sku(10n), await replica.sku(10n)];
    await promote({ kind: 'LIMITED_PRICE', skuId: a.id, priceFen: a.priceFen - 7n, limitPerUser: undefined });
    const tiers = [{ thresholdFen: 1n, offFen: 11n }];
    await promote({ kind: 'FULL_REDUCTION', scope: { kind: 'SPU', ids: [b.spuId] }, tiers });
    await replica.priceRules.putFreightRule(
      { regionPrefix: '31', fee: { kind: 'FLAT', feeFen: 600n }, freeAboveFen: undefined, enabled: true },
      0n,
    );
    const lines = [
      { skuId: a.id, quantity: 2 },
      { skuId: b.id, quantity: 1 },
    ];
    const userId = buyer();
    const quote = await replica.quotes.quote({ userId, lines, region: REGION });
    assert.deepEqual([quote.promotionFen, quote.freightFen], [25n, 600n]);
    const order = await create(lines, { userId, expectedAmountFen: quote.amountFen });
    assert.deepEqual(
      [order.totalFen, order.freightFen, order.promotionFen, order.amountFen],
      [quote.totalFen, quote.freightFen, quote.promotionFen, quote.amountFen],
    );
    assert.deepEqual(
      order.items.map((i) => [i.skuId, i.promotionFen]),
      [
        [a.id, 14n],
        [b.id, 11n],
      ],
    );
    assert.deepEqual(await discountsOf(order.id), [
      { rule: 'FULL_REDUCTION', sku: String(b.id), amount: 11, units: 1 },
      { rule: 'LIMITED_PRICE', sku: String(a.id), amount: 14, units: 2 },
    ]);
  });

  it('refuses an order whose rules have changed since its quote, and leaves orders that exist as they are', async () => {
    const sku = await replica.sku(10n);
    const terms = {
      kind: 'LIMITED_PRICE',
      skuId: sku.id,
      priceFen: sku.priceFen - 5n,
      limitPerUser: undefined,
    } as const;
    const promotion = await promote(terms);
    const lines = [{ skuId: sku.id, quantity: 1 }];
    const quote = await replica.quotes.quote({ userId: buyer(), lines, region: REGION });
    const before = await create(lines, { expectedAmountFen: quote.amountFen });
    await replica.priceRules.updatePromotion(promotion.id, promotion.version, { priceFen: sku.priceFen - 2n });
    await assert.rejects(create(lines, { expectedAmountFen: quote.amountFen }), isPriceChanged);
    assert.equal((await replica.orders.get(before.id, undefined)).amountFen, quote.amountFen);
    assert.equal((await create(lines)).promotionFen, 2n);
    await assert.rejects(
      replica.priceRules.updatePromotion(promotion.id, promotion.version, { enabled: false }),
      isPromotionVersionConflict,
    );
  });

  describe('as RPCs', () => {
    const service = () =>
      new PricingService(replica.quotes, replica.priceRules, replica.coupons, replica.userCoupons, replica.carts);
    const create = (change: Partial<CreatePromotionRequest>) =>
      service().createPromotion({
        ...{ name: 'p', startsAt: undefined, endsAt: undefined, enabled: undefined },
        ...{ limitedPrice: undefined, fullReduction: undefined, ...change },
      });
    const fieldsOf = (attempt: Promise<unknown>) =>
      attempt.then(
        () => assert.fail('nothing was refused'),
        (err: unknown) => (isInvalidArgument(err) ? err.violations.map((v) => v.field) : assert.fail(String(err))),
      );
    const tiers = [{ thresholdFen: 1n, offFen: 1n }];

    it('show rules as they were given, and change the listed fields alone', async () => {
      const { id: skuId } = await replica.sku(1n);
      const endsAt = new Date(Date.now() + 60_000);
      const limitedPrice = { skuId, priceFen: 9n, limitPerUser: 2 };
      const created = await create({ limitedPrice, endsAt });
      assert.deepEqual([created.limitedPrice?.limitPerUser, created.fullReduction], [2, undefined]);
      assert.deepEqual([created.enabled, created.endsAt], [true, endsAt]);
      const updateMask = ['ends_at', 'limit_per_user'];
      const none = { name: undefined, enabled: undefined, startsAt: undefined, endsAt: undefined };
      const updated = await service().updatePromotion({
        ...{ id: created.id, version: created.version, ...none, tiers: [], updateMask },
        ...{ priceFen: undefined, limitPerUser: undefined },
      });
      assert.deepEqual([updated.endsAt, updated.limitedPrice?.limitPerUser, updated.version], [undefined, 0, 2n]);
      assert.equal(updated.limitedPrice?.priceFen, 9n);
      const scope = { kind: ScopeKind.CATEGORY, ids: [5n] };
      assert.deepEqual((await create({ fullReduction: { scope, tiers } })).fullReduction, { scope, tiers });
    });

    it('name the field of a rule that makes no sense', async () => {
      const { id: skuId } = await replica.sku(1n);
      const limitedPrice = { skuId, priceFen: 1n, limitPerUser: 0 };
      const none = { kind: ScopeKind.SPU, ids: [] };
      assert.deepEqual(await fieldsOf(create({})), ['limited_price']);
      const all = { scope: { kind: ScopeKind.ALL, ids: [] }, tiers };
      assert.deepEqual(await fieldsOf(create({ limitedPrice, fullReduction: all })), ['limited_price']);
      assert.deepEqual(await fieldsOf(create({ fullReduction: { scope: none, tiers } })), ['full_reduction.scope.ids']);
      assert.deepEqual(await fieldsOf(create({ limitedPrice, endsAt: new Date(0) })), ['ends_at']);
      const fee = { firstFeeFen: 1n, firstUnits: 1, furtherFeeFen: 1n, furtherUnits: 0 };
      const rule = { regionPrefix: '9', fee, freeAboveFen: undefined, enabled: undefined, version: 0n };
      assert.deepEqual(await fieldsOf(service().putFreightRule(rule)), ['fee.further_units']);
    });
  });

  it('sells one user no more units at a limited-time price than its limit, however many orders race', async () => {
    const sku = await replica.sku(100n);
    await promote({ kind: 'LIMITED_PRICE', skuId: sku.id, priceFen: sku.priceFen - 1n, limitPerUser: 5 });
    const [one, other] = [buyer(), buyer()];
    const lines = [{ skuId: sku.id, quantity: 2 }];
    const orders = await Promise.all([one, one, one, one, other].map((userId) => create(lines, { userId })));
    const offFor = (userId: string) =>
      orders.filter((o) => o.userId === userId).reduce((sum, o) => sum + o.promotionFen, 0n);
    assert.deepEqual([offFor(one), offFor(other)], [5n, 2n]);
    const discounted = orders.find((o) => o.userId === one && o.promotionFen === 2n)!;
    await replica.orders.cancel(discounted.id, one, '');
    assert.equal((await create(lines, { userId: one })).promotionFen, 2n);
  });
});
