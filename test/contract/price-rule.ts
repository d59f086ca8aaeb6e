import assert from 'node:assert/strict';
import type { FreightRule } from '../../internal/biz/pricing/price-calculator.js';
import type { NewPromotion, PromotionTerms } from '../../internal/biz/pricing/price-rule.js';
import { freshId, insertSku, newGoodsOrder, type OpenBackend, useBackend } from './backend.js';

const BEYOND_DOUBLE = 2n ** 53n + 1n;
const HOUR_MS = 3_600_000;

export function priceRuleRepoContract(name: string, open: OpenBackend): void {
  describe(`PriceRuleRepo ${name}`, () => {
    const backend = useBackend(open);
    const promotion = (terms: PromotionTerms, changes: Partial<NewPromotion> = {}): NewPromotion => ({
      ...{ name: '双十一', terms, enabled: true, startsAt: new Date(Date.now() - HOUR_MS), endsAt: undefined },
      ...changes,
    });
    const insert = (terms: PromotionTerms, changes: Partial<NewPromotion> = {}) =>
      backend.it.priceRules.insertPromotion(promotion(terms, changes));
    const limited = (skuId: bigint): PromotionTerms => ({
      ...{ kind: 'LIMITED_PRICE', skuId, priceFen: BEYOND_DOUBLE, limitPerUser: 3 },
    });
    const reduction = (ids: readonly bigint[], kind: 'CATEGORY' | 'SPU' = 'SPU'): PromotionTerms => ({
      ...{ kind: 'FULL_REDUCTION', scope: { kind, ids } },
      tiers: [{ thresholdFen: BEYOND_DOUBLE, offFen: 7n }],
    });
    const inForce = (subjects: { skuId?: bigint; spuId?: bigint; categoryId?: bigint; region?: string }) => {
      const some = <T>(value: T | undefined) => (value === undefined ? [] : [value]);
      return backend.it.priceRules.findInForce({
        ...{ skuIds: some(subjects.skuId), spuIds: some(subjects.spuId) },
        ...{ categoryIds: some(subjects.categoryId), regions: some(subjects.region) },
      });
    };
    const idsInForce = async (subjects: Parameters<typeof inForce>[0]) =>
      (await inForce(subjects)).promotions.map((p) => p.id);

    it('stores promotions as they were given, and changes them by version', async () => {
      const sku = await insertSku(backend.it, 0n);
      for (const terms of [limited(sku.id), reduction([BEYOND_DOUBLE])]) {
        const given = promotion(terms, { endsAt: new Date(Date.now() + HOUR_MS) });
        const stored = await backend.it.priceRules.insertPromotion(given);
        const { id, version, createdAt, updatedAt, ...rest } = stored;
        assert.deepEqual(rest, given);
        assert.equal(version, 1n);
        assert.ok(createdAt instanceof Date && updatedAt instanceof Date);
        assert.deepEqual(await backend.it.priceRules.findPromotion(id), stored);
        const changed = { ...given, name: 'later', enabled: false, endsAt: undefined };
        const updated = await backend.it.priceRules.updatePromotion(id, 1n, changed);
        assert.deepEqual([updated?.name, updated?.enabled, updated?.endsAt], ['later', false, undefined]);
        assert.equal(await backend.it.priceRules.updatePromotion(id, 1n, given), undefined);
        assert.equal((await backend.it.priceRules.findPromotion(id))?.version, 2n);
      }
      await assert.rejects(insert(limited(freshId())));
    });

    it('finds the promotions that run and may apply to the goods', async () => {
      const sku = await insertSku(backend.it, 0n);
      const categoryId = freshId();
      const ofSku = await insert(limited(sku.id));
      const ofSpu = await insert(reduction([sku.spuId, freshId()]));
      const ofCategory = await insert(reduction([categoryId], 'CATEGORY'));
      await insert(limited(sku.id), { enabled: false });
      await insert(limited(sku.id), { startsAt: new Date(Date.now() + HOUR_MS) });
      await insert(limited(sku.id), { endsAt: new Date(Date.now() - 60_000) });
      assert.deepEqual(await idsInForce({ skuId: sku.id }), [ofSku.id]);
      assert.deepEqual(await idsInForce({ spuId: sku.spuId }), [ofSpu.id]);
      assert.deepEqual(await idsInForce({ categoryId }), [ofCategory.id]);
      const { at, promotions } = await inForce({ skuId: sku.id });
      assert.ok(Math.abs(at.getTime() - Date.now()) < 60_000);
      const { id, name, startsAt, endsAt, terms } = ofSku;
      assert.deepEqual(promotions, [{ id, name, startsAt, endsAt, ...terms }]);
    });

    it('keeps one freight rule for each region prefix, replaced by version, and finds those of a region', async () => {
      const prefix = String(freshId());
      const flat: FreightRule['fee'] = { kind: 'FLAT', feeFen: BEYOND_DOUBLE };
      const rule = { regionPrefix: prefix, fee: flat, freeAboveFen: BEYOND_DOUBLE, enabled: true };
      const first = (await backend.it.priceRules.putFreightRule(rule, 0n))!;
      assert.deepEqual([first.fee, first.freeAboveFen, first.version], [flat, BEYOND_DOUBLE, 1n]);
      assert.equal(await backend.it.priceRules.putFreightRule(rule, 0n), undefined);
      const byUnits = { kind: 'BY_UNITS', firstUnits: 1, firstFeeFen: 2n, furtherUnits: 3, furtherFeeFen: 4n } as const;
      const changed = { ...rule, fee: byUnits, freeAboveFen: undefined };
      assert.equal((await backend.it.priceRules.putFreightRule(changed, 1n))?.version, 2n);
      assert.equal(await backend.it.priceRules.putFreightRule(rule, 1n), undefined);
      const other = { ...rule, regionPrefix: `${prefix}9`, enabled: false };
      await backend.it.priceRules.putFreightRule(other, 0n);
      const found = (await inForce({ region: `${prefix}99` })).freightRules.filter((f) => f.regionPrefix !== '');
      assert.deepEqual(found, [{ id: first.id, regionPrefix: prefix, fee: byUnits, freeAboveFen: undefined }]);
      const { items, total } = await backend.it.priceRules.listFreightRules({ offset: 0, limit: 100 });
      assert.equal(BigInt(items.length), total);
      assert.deepEqual(
        items.filter((f) => f.regionPrefix.startsWith(prefix)).map((f) => [f.regionPrefix, f.enabled]),
        [
          [prefix, true],
          [`${prefix}9`, false],
        ],
      );
    });

    it('counts the units that a user has at a limited-time price, without those of cancelled orders', async () => {
      const sku = await insertSku(backend.it, 100n);
      const { id: ruleId } = await insert(limited(sku.id));
      const userId = newGoodsOrder([[sku, 1]]).userId;
      const orderWith = (units: number) =>
        backend.it.transactions.run(async (tx) => {
          const order = { ...newGoodsOrder([[sku, units]]), userId };
          await backend.it.orders.insertGoods(tx, [order], 'user');
          const discount = { orderId: order.id, userId, rule: 'LIMITED_PRICE', ruleId, name: 'n' } as const;
          await backend.it.priceRules.insertDiscounts(tx, [{ ...discount, skuId: sku.id, amountFen: 5n, units }]);
          return order.id;
        });
      const units = async () =>
        (await backend.it.priceRules.findUnitsAtLimitedPrice([userId], [ruleId])).map((u) => u.units);
      assert.deepEqual(await units(), []);
      await orderWith(2);
      const cancelled = await orderWith(3);
      assert.deepEqual(await units(), [5]);
      await backend.it.transactions.run(async (tx) => {
        const order = (await backend.it.orders.lock(tx, cancelled, undefined))!;
        await backend.it.orders.compareAndSet(tx, order, { to: 'CANCELLED', actor: 'user', reason: '' });
      });
      assert.deepEqual(await units(), [2]);
    });
  });
}
