import type { Page, PageRequest } from '../../../internal/biz/page.js';
import type { Scope } from '../../../internal/biz/pricing/price-calculator.js';
import {
  type NewFreightRule,
  type NewPromotion,
  type OrderDiscount,
  PriceRuleRepo,
  type PromotionTerms,
  type RuleSubjects,
  type RulesInForce,
  type RunningPromotion,
  type StoredFreightRule,
  type StoredPromotion,
  type UnitsAtLimitedPrice,
} from '../../../internal/biz/pricing/price-rule.js';
import type { Transaction } from '../../../internal/biz/transaction.js';
import type { MemoryCatalogRepo } from './catalog.js';
import type { MemoryOrderRepo } from './order.js';
import { ConstraintViolation, type MemoryStore, MemoryTable } from './store.js';

export class MemoryPriceRuleRepo extends PriceRuleRepo {
  private readonly promotions: MemoryTable<StoredPromotion>;
  private readonly freightRules: MemoryTable<StoredFreightRule>;
  readonly discounts: MemoryTable<OrderDiscount>;
  private lastId = 0n;

  constructor(
    private readonly store: MemoryStore,
    private readonly catalog: MemoryCatalogRepo,
    private readonly orders: MemoryOrderRepo,
  ) {
    super();
    this.promotions = new MemoryTable(store, 'promotions', (p) => String(p.id));
    this.freightRules = new MemoryTable(store, 'freight_rules', (f) => f.regionPrefix);
    this.discounts = new MemoryTable(store, 'order_discounts', (d) => `${d.orderId} ${d.rule} ${d.ruleId} ${d.skuId}`);
  }

  override insertPromotion(promotion: NewPromotion): Promise<StoredPromotion> {
    return this.store.statement('promotion.insert', undefined, async (tx) => {
      const { terms } = promotion;
      if (terms.kind === 'LIMITED_PRICE' && !this.catalog.skus.find(String(terms.skuId), tx)) {
        throw new ConstraintViolation(`promotions: no sku ${terms.skuId}`);
      }
      const at = this.store.now();
      const stored = { ...promotion, id: ++this.lastId, version: 1n, createdAt: at, updatedAt: at };
      await this.promotions.insert(tx, stored);
      return stored;
    });
  }

  override updatePromotion(id: bigint, version: bigint, promotion: NewPromotion): Promise<StoredPromotion | undefined> {
    return this.store.statement('promotion.update', undefined, (tx) =>
      this.promotions.update(tx, String(id), (p) =>
        p.version === version ? { ...p, ...promotion, version: version + 1n, updatedAt: this.store.now() } : undefined,
      ),
    );
  }

  override findPromotion(id: bigint): Promise<StoredPromotion | undefined> {
    return this.store.statement('promotion.find', undefined, async () => this.promotions.find(String(id)));
  }

  override listPromotions({ offset, limit }: PageRequest): Promise<Page<StoredPromotion>> {
    return this.store.statement('promotion.list', undefined, async () => {
      const all = this.promotions.rows().sort((a, b) => (a.id < b.id ? -1 : 1));
      return { items: all.slice(offset, offset + limit), total: BigInt(all.length) };
    });
  }

  override putFreightRule(rule: NewFreightRule, version: bigint): Promise<StoredFreightRule | undefined> {
    return this.store.statement('freight_rule.put', undefined, async (tx) => {
      const updatedAt = this.store.now();
      if (version === 0n) {
        const stored = { ...rule, id: ++this.lastId, version: 1n, updatedAt };
        return (await this.freightRules.insert(tx, stored, 'primary key')) ? undefined : stored;
      }
      return this.freightRules.update(tx, rule.regionPrefix, (f) =>
        f.version === version ? { ...f, ...rule, version: version + 1n, updatedAt } : undefined,
      );
    });
  }

  override listFreightRules({ offset, limit }: PageRequest): Promise<Page<StoredFreightRule>> {
    return this.store.statement('freight_rule.list', undefined, async () => {
      const all = this.freightRules.rows().sort((a, b) => (a.regionPrefix < b.regionPrefix ? -1 : 1));
      return { items: all.slice(offset, offset + limit), total: BigInt(all.length) };
    });
  }

  override findInForce(subjects: RuleSubjects, tx?: Transaction): Promise<RulesInForce> {
    return this.store.statement('price_rules.inForce', tx, async () => {
      const at = this.store.now();
      const running = this.promotions
        .rows()
        .filter((p) => p.enabled && p.startsAt <= at && (p.endsAt === undefined || at < p.endsAt))
        .filter((p) => isAbout(p.terms, subjects));
      const freightRules = this.freightRules
        .rows()
        .filter((f) => f.enabled && subjects.regions.some((r) => r.startsWith(f.regionPrefix)))
        .map(({ id, regionPrefix, fee, freeAboveFen }) => ({ id, regionPrefix, fee, freeAboveFen }));
      const promotions = running.map(
        ({ id, name, startsAt, endsAt, terms }): RunningPromotion => ({ id, name, startsAt, endsAt, ...terms }),
      );
      return { at, promotions, freightRules };
    });
  }

  override findUnitsAtLimitedPrice(
    userIds: readonly string[],
    promotionIds: readonly bigint[],
    tx?: Transaction,
  ): Promise<readonly UnitsAtLimitedPrice[]> {
    return this.store.statement('limited_price.units', tx, async () => {
      const found = new Map<string, UnitsAtLimitedPrice>();
      for (const { rule, ruleId: promotionId, userId, orderId, units } of this.discounts.rows(tx)) {
        if (rule !== 'LIMITED_PRICE' || !promotionIds.includes(promotionId) || !userIds.includes(userId)) continue;
        if (this.orders.orders.find(String(orderId), tx)?.status === 'CANCELLED') continue;
        const key = `${userId} ${promotionId}`;
        found.set(key, { userId, promotionId, units: (found.get(key)?.units ?? 0) + units });
      }
      return [...found.values()];
    });
  }

  override insertDiscounts(tx: Transaction, discounts: readonly OrderDiscount[]): Promise<void> {
    if (discounts.length === 0) return Promise.resolve();
    return this.store.statement('order_discounts.insert', tx, async () => {
      for (const discount of discounts) await this.discounts.insert(tx, discount);
    });
  }
}

function isAbout(terms: PromotionTerms, { skuIds, spuIds, categoryIds }: RuleSubjects): boolean {
  if (terms.kind === 'LIMITED_PRICE') return skuIds.includes(terms.skuId);
  const { scope } = terms;
  if (scope.kind === 'ALL') return true;
  const ids: Readonly<Record<Exclude<Scope['kind'], 'ALL'>, readonly bigint[]>> = {
    ...{ SKU: skuIds, SPU: spuIds, CATEGORY: categoryIds },
  };
  return scope.ids.some((id) => ids[scope.kind].includes(id));
}
