/** A line to be priced. A sku has one line. */
export interface PricedLine {
  readonly skuId: bigint;
  readonly spuId: bigint;
  readonly categoryId: bigint;
  /** List price of a unit, fen. */
  readonly priceFen: bigint;
  readonly quantity: number;
}

/** Which goods a promotion or a coupon is about. */
export type Scope =
  | { readonly kind: 'ALL' }
  | { readonly kind: 'CATEGORY' | 'SPU' | 'SKU'; readonly ids: readonly bigint[] };

/** When a rule is in force. */
export interface Window {
  readonly startsAt: Date;
  /** Exclusive; undefined: open-ended. */
  readonly endsAt: Date | undefined;
}

/** A lower price of one sku for a limited time. */
export interface LimitedPrice extends Window {
  readonly kind: 'LIMITED_PRICE';
  readonly id: bigint;
  readonly name: string;
  readonly skuId: bigint;
  readonly priceFen: bigint;
  /** Units that this buyer may still have at this price; undefined: any number. */
  readonly unitsLeft: number | undefined;
}

/** The highest tier that the goods in scope reach takes `offFen` off them. */
export interface FullReduction extends Window {
  readonly kind: 'FULL_REDUCTION';
  readonly id: bigint;
  readonly name: string;
  readonly scope: Scope;
  readonly tiers: readonly { readonly thresholdFen: bigint; readonly offFen: bigint }[];
}

export type Promotion = LimitedPrice | FullReduction;

/** What a coupon takes off the goods in its scope. */
export type CouponValue =
  | { readonly kind: 'AMOUNT'; readonly offFen: bigint }
  | { readonly kind: 'THRESHOLD'; readonly thresholdFen: bigint; readonly offFen: bigint }
  /** `percent` of 1 to 100 is what the buyer saves; `capFen` undefined: no cap. */
  | { readonly kind: 'PERCENT'; readonly percent: number; readonly capFen: bigint | undefined };

/** A coupon that the buyer wants to use. */
export interface QuotedCoupon extends Window {
  /** The buyer's own copy of the coupon. */
  readonly id: bigint;
  readonly name: string;
  readonly scope: Scope;
  readonly value: CouponValue;
  /** Only an UNUSED one can be used. DISABLED: by an operator. */
  readonly state: 'UNUSED' | 'HELD' | 'USED' | 'EXPIRED' | 'DISABLED';
}

/** Freight of one order to regions that begin with `regionPrefix`; the empty prefix is every region. */
export interface FreightRule {
  readonly id: bigint;
  readonly regionPrefix: string;
  readonly fee:
    | { readonly kind: 'FLAT'; readonly feeFen: bigint }
    | {
        readonly kind: 'BY_UNITS';
        readonly firstUnits: number;
        readonly firstFeeFen: bigint;
        readonly furtherUnits: number;
        readonly furtherFeeFen: bigint;
      };
  /** Goods after discounts that reach this amount travel free; undefined: never free. */
  readonly freeAboveFen: bigint | undefined;
}

export interface PriceRequest {
  readonly lines: readonly PricedLine[];
  /** Where the goods go; undefined: not known yet, freight is 0. */
  readonly region: string | undefined;
  readonly coupon: QuotedCoupon | undefined;
  readonly promotions: readonly Promotion[];
  readonly freightRules: readonly FreightRule[];
  readonly at: Date;
}

export type CouponRefusal =
  | 'NOT_STARTED'
  | 'EXPIRED'
  | 'HELD'
  | 'USED'
  | 'DISABLED'
  | 'NOTHING_IN_SCOPE'
  | 'BELOW_THRESHOLD'
  /** The goods would drop below the amount that travels free, and freight would cost more than the coupon saves. */
  | 'NO_BENEFIT';

/** What one rule takes off, in all and by line. */
export interface Discount {
  readonly rule: 'LIMITED_PRICE' | 'FULL_REDUCTION' | 'COUPON';
  readonly id: bigint;
  readonly name: string;
  readonly amountFen: bigint;
  readonly lines: readonly { readonly skuId: bigint; readonly amountFen: bigint }[];
}

export interface QuotedLine {
  readonly skuId: bigint;
  readonly quantity: number;
  readonly priceFen: bigint;
  /** priceFen × quantity. */
  readonly totalFen: bigint;
  /** Its share of all discounts. */
  readonly promotionFen: bigint;
  /** totalFen - promotionFen. */
  readonly amountFen: bigint;
}

export interface Quote {
  /** Σ list price × quantity. */
  readonly totalFen: bigint;
  readonly freightFen: bigint;
  /** All discounts together, the coupon's included. */
  readonly promotionFen: bigint;
  /** To pay: total + freight - promotion. */
  readonly amountFen: bigint;
  /** By sku id. */
  readonly lines: readonly QuotedLine[];
  /** In the order in which they applied. */
  readonly discounts: readonly Discount[];
  readonly freightRuleId: bigint | undefined;
  /** What became of the coupon of the request. */
  readonly coupon: CouponUse | undefined;
}

export interface CouponUse {
  readonly id: bigint;
  /** undefined: it applies. */
  readonly refusal: CouponRefusal | undefined;
  /** What the request would cost more without it. */
  readonly savedFen: bigint;
}

/*
 *   limited-time price → full reduction → coupon → freight
 *
 * Each step starts from what the one before left of each line. A line takes part in one full reduction at most: the most
 * specific one that reaches a tier (spu, then category, then all goods; of equals the one with the lower id), so that two
 * reductions never count the same amount towards their thresholds. Freight comes last, because its free-above amount
 * looks at the goods after discounts.
 *
 * A discount is rounded once for the whole order (percentages half up) and spread over its lines by the largest
 * remainder, ties by sku id: the lines add up to the order exactly, whatever order they came in.
 */
export class PriceCalculator {
  /** The same request gives the same quote: it reads neither a clock nor a database. */
  quote(request: PriceRequest): Quote {
    const before = this.goods(request);
    const withoutCoupon = this.finish(request, before.left, before.discounts);
    const { coupon } = request;
    if (!coupon) return withoutCoupon;

    const used = couponDiscount(coupon, request, before.left);
    if (typeof used === 'string') return { ...withoutCoupon, coupon: refused(coupon, used) };
    const left = subtract(before.left, used);
    const quote = this.finish(request, left, [...before.discounts, used]);
    const savedFen = withoutCoupon.amountFen - quote.amountFen;
    if (savedFen <= 0n) return { ...withoutCoupon, coupon: refused(coupon, 'NO_BENEFIT') };
    return { ...quote, coupon: { id: coupon.id, refusal: undefined, savedFen } };
  }

  /** What promotions leave of each line. */
  private goods({ lines, promotions, at }: PriceRequest): { left: Left; discounts: readonly Discount[] } {
    const sorted = [...lines].sort((a, b) => compare(a.skuId, b.skuId));
    let left: Left = sorted.map((line) => ({ line, amountFen: totalOf(line) }));
    const discounts: Discount[] = [];
    const apply = (discount: Discount | undefined) => {
      if (!discount) return;
      discounts.push(discount);
      left = subtract(left, discount);
    };
    const running = promotions.filter((p) => isWithin(p, at));
    for (const line of sorted) apply(limitedPriceDiscount(line, running));
    const reduced = new Set<bigint>();
    for (const rule of running.filter(isFullReduction).sort(bySpecificity)) {
      const discount = reductionDiscount(
        rule,
        left.filter(({ line }) => !reduced.has(line.skuId)),
      );
      apply(discount);
      for (const { skuId } of discount?.lines ?? []) reduced.add(skuId);
    }
    return { left, discounts };
  }

  private finish(request: PriceRequest, left: Left, discounts: readonly Discount[]): Quote {
    const lines = left.map(({ line, amountFen }): QuotedLine => {
      const totalFen = totalOf(line);
      const { skuId, quantity, priceFen } = line;
      return { skuId, quantity, priceFen, totalFen, promotionFen: totalFen - amountFen, amountFen };
    });
    const totalFen = sum(lines.map((l) => l.totalFen));
    const goodsFen = sum(left.map((l) => l.amountFen));
    const units = lines.reduce((n, line) => n + line.quantity, 0);
    const freight = freightOf(request.freightRules, request.region, units, goodsFen);
    return {
      totalFen,
      freightFen: freight.feeFen,
      promotionFen: totalFen - goodsFen,
      amountFen: goodsFen + freight.feeFen,
      lines,
      discounts,
      freightRuleId: freight.ruleId,
      coupon: undefined,
    };
  }
}

/** What is to pay for each line so far, by sku id. */
type Left = readonly { readonly line: PricedLine; readonly amountFen: bigint }[];

/** The lowest price that runs; of equals the rule with the lower id. */
function limitedPriceDiscount(line: PricedLine, promotions: readonly Promotion[]): Discount | undefined {
  let best: { rule: LimitedPrice; offFen: bigint } | undefined;
  for (const rule of promotions) {
    if (rule.kind !== 'LIMITED_PRICE' || rule.skuId !== line.skuId || rule.priceFen >= line.priceFen) continue;
    const units = Math.max(0, Math.min(line.quantity, rule.unitsLeft ?? line.quantity));
    const offFen = (line.priceFen - rule.priceFen) * BigInt(units);
    if (offFen === 0n) continue;
    if (!best || offFen > best.offFen || (offFen === best.offFen && rule.id < best.rule.id)) best = { rule, offFen };
  }
  if (!best) return undefined;
  const { id, name } = best.rule;
  const lines = [{ skuId: line.skuId, amountFen: best.offFen }];
  return { rule: 'LIMITED_PRICE', id, name, amountFen: best.offFen, lines };
}

function reductionDiscount(rule: FullReduction, left: Left): Discount | undefined {
  const inScope = left.filter(({ line }) => covers(rule.scope, line));
  const baseFen = sum(inScope.map((l) => l.amountFen));
  let offFen = 0n;
  for (const tier of rule.tiers) if (baseFen >= tier.thresholdFen && tier.offFen > offFen) offFen = tier.offFen;
  if (offFen > baseFen) offFen = baseFen;
  if (offFen === 0n) return undefined;
  return { rule: 'FULL_REDUCTION', id: rule.id, name: rule.name, amountFen: offFen, lines: spread(offFen, inScope) };
}

function couponDiscount(coupon: QuotedCoupon, { at }: PriceRequest, left: Left): Discount | CouponRefusal {
  if (coupon.state !== 'UNUSED') return coupon.state;
  if (at < coupon.startsAt) return 'NOT_STARTED';
  if (!isWithin(coupon, at)) return 'EXPIRED';
  const inScope = left.filter(({ line }) => covers(coupon.scope, line));
  const baseFen = sum(inScope.map((l) => l.amountFen));
  if (baseFen === 0n) return 'NOTHING_IN_SCOPE';
  const offFen = couponValue(coupon.value, baseFen);
  if (offFen === undefined) return 'BELOW_THRESHOLD';
  if (offFen === 0n) return 'NO_BENEFIT';
  return { rule: 'COUPON', id: coupon.id, name: coupon.name, amountFen: offFen, lines: spread(offFen, inScope) };
}

function refused({ id }: QuotedCoupon, refusal: CouponRefusal): CouponUse {
  return { id, refusal, savedFen: 0n };
}

/** undefined: the threshold is not reached. */
function couponValue(value: CouponValue, baseFen: bigint): bigint | undefined {
  switch (value.kind) {
    case 'AMOUNT':
      return min(value.offFen, baseFen);
    case 'THRESHOLD':
      return baseFen < value.thresholdFen ? undefined : min(value.offFen, baseFen);
    case 'PERCENT': {
      const offFen = (baseFen * BigInt(value.percent) + 50n) / 100n;
      return min(value.capFen === undefined ? offFen : min(offFen, value.capFen), baseFen);
    }
    default:
      return value satisfies never;
  }
}

/** The rule with the longest prefix; of equals the one with the lower id. Without a rule freight is 0. */
export function freightOf(
  freightRules: readonly FreightRule[],
  region: string | undefined,
  units: number,
  goodsFen: bigint,
): { readonly feeFen: bigint; readonly ruleId: bigint | undefined } {
  if (region === undefined) return { feeFen: 0n, ruleId: undefined };
  let rule: FreightRule | undefined;
  for (const r of freightRules) {
    if (!region.startsWith(r.regionPrefix)) continue;
    const longer = r.regionPrefix.length - (rule?.regionPrefix.length ?? -1);
    if (!rule || longer > 0 || (longer === 0 && r.id < rule.id)) rule = r;
  }
  if (!rule) return { feeFen: 0n, ruleId: undefined };
  if (rule.freeAboveFen !== undefined && goodsFen >= rule.freeAboveFen) return { feeFen: 0n, ruleId: rule.id };
  const { fee } = rule;
  if (fee.kind === 'FLAT') return { feeFen: fee.feeFen, ruleId: rule.id };
  const further = Math.ceil(Math.max(0, units - fee.firstUnits) / fee.furtherUnits);
  return { feeFen: fee.firstFeeFen + BigInt(further) * fee.furtherFeeFen, ruleId: rule.id };
}

/** Parts of `amountFen` in proportion to what each line has left, by the largest remainder; no part exceeds its line. */
function spread(amountFen: bigint, left: Left): Discount['lines'] {
  const baseFen = sum(left.map((l) => l.amountFen));
  const parts = left.map(({ line, amountFen: weight }) => ({
    skuId: line.skuId,
    amountFen: (amountFen * weight) / baseFen,
    remainder: (amountFen * weight) % baseFen,
  }));
  let rest = amountFen - sum(parts.map((p) => p.amountFen));
  // Fewer units are left over than there are lines with a remainder, so none goes to a line without one.
  for (const part of [...parts].sort((a, b) => compare(b.remainder, a.remainder) || compare(a.skuId, b.skuId))) {
    if (rest === 0n) break;
    part.amountFen += 1n;
    rest -= 1n;
  }
  return parts.map(({ skuId, amountFen: part }) => ({ skuId, amountFen: part }));
}

function subtract(left: Left, discount: Discount): Left {
  const off = new Map(discount.lines.map((l) => [l.skuId, l.amountFen]));
  return left.map(({ line, amountFen }) => ({ line, amountFen: amountFen - (off.get(line.skuId) ?? 0n) }));
}

function covers(scope: Scope, line: Pick<PricedLine, 'skuId' | 'spuId' | 'categoryId'>): boolean {
  switch (scope.kind) {
    case 'ALL':
      return true;
    case 'CATEGORY':
      return scope.ids.includes(line.categoryId);
    case 'SPU':
      return scope.ids.includes(line.spuId);
    case 'SKU':
      return scope.ids.includes(line.skuId);
    default:
      return scope satisfies never;
  }
}

function isFullReduction(rule: Promotion): rule is FullReduction {
  return rule.kind === 'FULL_REDUCTION';
}

const SPECIFICITY: Readonly<Record<Scope['kind'], number>> = { SKU: 0, SPU: 1, CATEGORY: 2, ALL: 3 };

function bySpecificity(a: FullReduction, b: FullReduction): number {
  return SPECIFICITY[a.scope.kind] - SPECIFICITY[b.scope.kind] || compare(a.id, b.id);
}

function isWithin({ startsAt, endsAt }: Window, at: Date): boolean {
  return startsAt <= at && (endsAt === undefined || at < endsAt);
}

function totalOf({ priceFen, quantity }: PricedLine): bigint {
  return priceFen * BigInt(quantity);
}

function sum(amounts: readonly bigint[]): bigint {
  return amounts.reduce((a, b) => a + b, 0n);
}

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
