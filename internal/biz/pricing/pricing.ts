import type { Goods } from '../catalog/catalog.js';
import type { Transaction } from '../transaction.js';
import { freightOf, PriceCalculator, type PricedLine, type Promotion, type Quote } from './price-calculator.js';
import type { OrderDiscount, PriceRuleRepo, RulesInForce, RunningLimitedPrice } from './price-rule.js';
import { type CouponHold, quotedCouponOf, type UserCoupon, type UserCouponRepo } from './user-coupon.js';

/** Lines that a user wants to have priced. */
export interface PricedRequest {
  readonly userId: string;
  /** A sku has one line. */
  readonly lines: readonly { readonly skuId: bigint; readonly quantity: number }[];
  /** undefined: not known yet; freight is 0. */
  readonly region: string | undefined;
  /** The user's coupon; undefined: none. */
  readonly couponId?: bigint | undefined;
}

/** What a request costs. */
export type PricedQuote =
  | { readonly kind: 'quoted'; readonly quote: Quote }
  /** The user has no such coupon. */
  | { readonly kind: 'unknown-coupon'; readonly couponId: bigint };

/**
 * Prices requests by the rules in force. The rules are read once for a batch of requests, in its transaction when it has
 * one. They are not cached: the read costs a batch one round trip, only rules that may apply to its goods are read, and a
 * change by an operator applies from the next order on, in every replica.
 */
export class Pricing {
  constructor(
    private readonly rules: PriceRuleRepo,
    private readonly userCoupons: UserCouponRepo,
  ) {}

  /**
   * @param goods those of the requests' lines; requests with other skus cannot be quoted
   * @param tx has locked the skus, so that no other order of a user counts towards the same limit per user. The coupons of
   * the requests are locked as well
   */
  async open(
    requests: readonly PricedRequest[],
    goods: ReadonlyMap<bigint, Goods>,
    tx?: Transaction,
  ): Promise<PriceSession> {
    const couponIds = distinct(requests.flatMap(({ couponId }) => (couponId === undefined ? [] : [couponId])));
    const coupons = await this.findCoupons(couponIds, tx);
    const rules = await this.rules.findInForce(
      {
        skuIds: [...goods.keys()],
        spuIds: distinct([...goods.values()].map((g) => g.sku.spuId)),
        categoryIds: distinct([...goods.values()].map((g) => g.spu.categoryId)),
        regions: distinct(requests.flatMap(({ region }) => (region === undefined ? [] : [region]))),
      },
      tx,
    );
    const limited = rules.promotions.flatMap((p) => (isLimited(p) && p.limitPerUser !== undefined ? [p.id] : []));
    const users = distinct(requests.map((r) => r.userId));
    const had = limited.length === 0 ? [] : await this.rules.findUnitsAtLimitedPrice(users, limited, tx);
    const units = new Map(had.map((u) => [unitsKey(u.userId, u.promotionId), u.units]));
    return new PriceSession(rules, goods, units, new Map(coupons.map((c) => [c.id, c])));
  }

  /** Freight of an order by the rules in force, after its discounts. */
  async freight(
    tx: Transaction,
    { region, units, goodsFen }: { readonly region: string; readonly units: number; readonly goodsFen: bigint },
  ): Promise<bigint> {
    const subjects = { skuIds: [], spuIds: [], categoryIds: [], regions: [region] };
    const { freightRules } = await this.rules.findInForce(subjects, tx);
    return freightOf(freightRules, region, units, goodsFen).feeFen;
  }

  /** Stores the discounts of the orders that a session has placed, and lets them hold their coupons. */
  async store(tx: Transaction, { discounts, holds }: PriceSession): Promise<void> {
    await this.rules.insertDiscounts(tx, discounts);
    if (holds.length > 0) await this.userCoupons.hold(tx, holds);
  }

  private findCoupons(ids: readonly bigint[], tx: Transaction | undefined): Promise<readonly UserCoupon[]> {
    if (ids.length === 0) return Promise.resolve([]);
    return tx === undefined ? this.userCoupons.findAll(ids) : this.userCoupons.lockAll(tx, ids);
  }
}

/**
 * Prices one request after the other by the same rules; an order that is placed counts towards limits of the next, and
 * holds its coupon.
 */
export class PriceSession {
  /** Of the orders that were placed. */
  readonly discounts: OrderDiscount[] = [];
  readonly holds: CouponHold[] = [];
  private readonly calculator = new PriceCalculator();
  private readonly limited: ReadonlyMap<bigint, RunningLimitedPrice>;

  constructor(
    private readonly rules: RulesInForce,
    private readonly goods: ReadonlyMap<bigint, Goods>,
    /** Units that users have at limited-time prices. */
    private readonly had: Map<string, number>,
    private readonly coupons: Map<bigint, UserCoupon>,
  ) {
    this.limited = new Map(rules.promotions.filter(isLimited).map((p) => [p.id, p]));
  }

  quote({ userId, lines, region, couponId }: PricedRequest): PricedQuote {
    const coupon = couponId === undefined ? undefined : this.coupons.get(couponId);
    if (couponId !== undefined && coupon?.userId !== userId) return { kind: 'unknown-coupon', couponId };
    const quote = this.calculator.quote({
      lines: lines.map((line) => this.pricedLine(line)),
      region,
      coupon: coupon && quotedCouponOf(coupon),
      promotions: this.rules.promotions.map((p): Promotion => (isLimited(p) ? this.limitedPrice(p, userId) : p)),
      freightRules: this.rules.freightRules,
      at: this.rules.at,
    });
    return { kind: 'quoted', quote };
  }

  /** An order was placed for what `quote` says: the next quotes take it into account. */
  place(orderId: bigint, { userId }: PricedRequest, quote: Quote): void {
    const coupon = quote.coupon?.refusal === undefined ? this.coupons.get(quote.coupon?.id ?? 0n) : undefined;
    if (coupon) {
      this.coupons.set(coupon.id, { ...coupon, state: 'HELD', orderId });
      this.holds.push({ id: coupon.id, orderId });
    }
    const quantities = new Map(quote.lines.map((l) => [l.skuId, l.quantity]));
    const discounts = quote.discounts.flatMap(({ rule, id: ruleId, name, lines }) =>
      lines.map(({ skuId, amountFen }): OrderDiscount => {
        const limited = rule === 'LIMITED_PRICE' ? this.limited.get(ruleId) : undefined;
        const units = limited ? this.unitsAt(limited, skuId, amountFen) : (quantities.get(skuId) ?? 0);
        if (limited) {
          const key = unitsKey(userId, ruleId);
          this.had.set(key, (this.had.get(key) ?? 0) + units);
        }
        return { orderId, userId, rule, ruleId, name, skuId, amountFen, units };
      }),
    );
    this.discounts.push(...discounts);
  }

  private unitsAt({ priceFen }: RunningLimitedPrice, skuId: bigint, offFen: bigint): number {
    const listPriceFen = (this.goods.get(skuId) ?? unknownSku(skuId)).sku.priceFen;
    return Number(offFen / (listPriceFen - priceFen));
  }

  private limitedPrice({ limitPerUser, ...promotion }: RunningLimitedPrice, userId: string): Promotion {
    const had = this.had.get(unitsKey(userId, promotion.id)) ?? 0;
    return { ...promotion, unitsLeft: limitPerUser === undefined ? undefined : Math.max(0, limitPerUser - had) };
  }

  private pricedLine({ skuId, quantity }: { readonly skuId: bigint; readonly quantity: number }): PricedLine {
    const { sku, spu } = this.goods.get(skuId) ?? unknownSku(skuId);
    return { skuId, quantity, spuId: sku.spuId, categoryId: spu.categoryId, priceFen: sku.priceFen };
  }
}

function isLimited(promotion: RulesInForce['promotions'][number]): promotion is RunningLimitedPrice {
  return promotion.kind === 'LIMITED_PRICE';
}

function unitsKey(userId: string, promotionId: bigint): string {
  return `${userId} ${promotionId}`;
}

function distinct<T>(values: readonly T[]): readonly T[] {
  return [...new Set(values)];
}

function unknownSku(skuId: bigint): never {
  throw new Error(`sku ${skuId} is not among the goods to be priced`);
}
