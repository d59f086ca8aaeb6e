import { invalidArgument } from '../../gen/common/v1/errors.js';
import {
  type ClaimCouponRequest,
  type Coupon as CouponMessage,
  type CreateCouponRequest,
  type CreatePromotionRequest,
  type FreightFee,
  type FreightRule as FreightRuleMessage,
  type GrantCouponReply,
  type GrantCouponRequest,
  type ListCouponsReply,
  type ListCouponsRequest,
  type ListFreightRulesReply,
  type ListFreightRulesRequest,
  type ListMyCouponsReply,
  type ListMyCouponsRequest,
  type ListPromotionsReply,
  type ListPromotionsRequest,
  type PricingServiceService,
  type Promotion as PromotionMessage,
  type PutFreightRuleRequest,
  type QuoteReply,
  type QuoteRequest,
  CouponUse_Refusal as Refusal,
  Discount_Rule as Rule,
  Scope_Kind as ScopeKind,
  type Scope as ScopeMessage,
  UserCoupon_Status as Status,
  type UpdateCouponRequest,
  type UpdatePromotionRequest,
  type CouponUse as UseMessage,
  type UserCoupon as UserCouponMessage,
  type CouponValue as ValueMessage,
} from '../../gen/pricing/v1/pricing.js';
import type { CartOrderLine, CartUsecase } from '../biz/cart/cart.js';
import { userCart } from '../biz/cart/cart-owner.js';
import { formatUserId } from '../biz/identity.js';
import type { Coupon, CouponPatch, CouponUsecase } from '../biz/pricing/coupon.js';
import type { CouponUse, CouponValue, FreightRule, Quote, Scope } from '../biz/pricing/price-calculator.js';
import type {
  PriceRuleUsecase,
  PromotionPatch,
  PromotionTerms,
  StoredFreightRule,
  StoredPromotion,
} from '../biz/pricing/price-rule.js';
import type { QuoteUsecase } from '../biz/pricing/quote.js';
import type { UserCoupon, UserCouponState, UserCouponUsecase } from '../biz/pricing/user-coupon.js';
import type { CallContext, ServiceOf } from '../kratos/transport/call-context.js';
import { isOperator, userOf } from './caller.js';
import { patchOf } from './update-mask.js';

export class PricingService implements ServiceOf<typeof PricingServiceService> {
  constructor(
    private readonly quotes: QuoteUsecase,
    private readonly rules: PriceRuleUsecase,
    private readonly coupons: CouponUsecase,
    private readonly userCoupons: UserCouponUsecase,
    private readonly carts: CartUsecase,
  ) {}

  async quote(req: QuoteRequest, ctx: CallContext): Promise<QuoteReply> {
    const userId = userOf(ctx);
    const lines = await this.linesOf(req, userId);
    if (lines.length === 0)
      throw req.cart ? oneOf('the cart has no selected line that is on sale', 'cart') : missing('lines');
    const request = { userId, lines, region: given(req.region), couponId: req.couponId || undefined };
    return quoteReply(await this.quotes.quote(request));
  }

  async createCoupon(req: CreateCouponRequest): Promise<CouponMessage> {
    const { name, startsAt = new Date(), endsAt, total, enabled = true } = req;
    const scope: Scope = req.scope ? scopeOf(req.scope) : { kind: 'ALL' };
    const limitPerUser = req.limitPerUser === 0 ? 1 : req.limitPerUser;
    const coupon = { name, value: couponValueOf(req.value), scope, startsAt, endsAt, total, limitPerUser, enabled };
    return couponReply(await this.coupons.create(coupon));
  }

  async updateCoupon(req: UpdateCouponRequest): Promise<CouponMessage> {
    const patch = patchOf<CouponPatch>(req.updateMask, {
      name: { path: 'name', given: req.name },
      enabled: { path: 'enabled', given: req.enabled },
      startsAt: { path: 'starts_at', given: req.startsAt },
      endsAt: { path: 'ends_at', given: req.endsAt, cleared: 'never' },
      total: { path: 'total', given: req.total },
      limitPerUser: { path: 'limit_per_user', given: req.limitPerUser },
    });
    return couponReply(await this.coupons.update(req.id, req.version, patch));
  }

  async listCoupons({ offset, limit }: ListCouponsRequest, ctx: CallContext): Promise<ListCouponsReply> {
    const { items, total } = await this.coupons.list({ offered: !isOperator(ctx) }, { offset, limit });
    return { coupons: items.map(couponReply), total };
  }

  async claimCoupon({ id, requestId }: ClaimCouponRequest, ctx: CallContext): Promise<UserCouponMessage> {
    return userCouponReply(await this.userCoupons.claim(id, { userId: userOf(ctx), requestId }));
  }

  async grantCoupon({ id, userIds, requestId }: GrantCouponRequest): Promise<GrantCouponReply> {
    const users = userIds.map((userId, i) => formatUserId(userId, `user_ids[${i}]`));
    const granted = await this.userCoupons.grant(id, users, requestId);
    return { coupons: granted.map((coupon) => userCouponReply(coupon)) };
  }

  async listMyCoupons(req: ListMyCouponsRequest, ctx: CallContext): Promise<ListMyCouponsReply> {
    const { offset, limit } = req;
    const [userId, state] = [userOf(ctx), stateOf(req.status)];
    const lines = await this.linesOf(req, userId);
    if (lines.length === 0) {
      const { items, total } = await this.userCoupons.list(userId, state, { offset, limit });
      return { coupons: items.map((coupon) => userCouponReply(coupon)), total };
    }
    const request = { userId, lines, region: given(req.region) };
    const { items, total } = await this.quotes.tryCoupons(request, state, { offset, limit });
    return { coupons: items.map(({ coupon, use }) => userCouponReply(coupon, use)), total };
  }

  /** The lines that a request names, or those of its caller's cart. */
  private async linesOf(
    { lines, cart }: Pick<QuoteRequest, 'lines' | 'cart'>,
    userId: string,
  ): Promise<readonly CartOrderLine[]> {
    if (!cart) return lines;
    if (lines.length > 0) throw oneOf('cart and lines exclude each other', 'cart');
    return this.carts.orderableLines(userCart(userId));
  }

  async createPromotion(req: CreatePromotionRequest): Promise<PromotionMessage> {
    const { name, startsAt = new Date(), endsAt, enabled = true } = req;
    const promotion = { name, startsAt, endsAt, enabled, terms: termsOf(req) };
    return promotionReply(await this.rules.createPromotion(promotion));
  }

  async updatePromotion(req: UpdatePromotionRequest): Promise<PromotionMessage> {
    const patch = patchOf<PromotionPatch>(req.updateMask, {
      name: { path: 'name', given: req.name },
      enabled: { path: 'enabled', given: req.enabled },
      startsAt: { path: 'starts_at', given: req.startsAt },
      endsAt: { path: 'ends_at', given: req.endsAt, cleared: 'never' },
      priceFen: { path: 'price_fen', given: req.priceFen },
      limitPerUser: { path: 'limit_per_user', given: req.limitPerUser, cleared: 0 },
      tiers: { path: 'tiers', given: req.tiers.length > 0 ? req.tiers : undefined },
    });
    return promotionReply(await this.rules.updatePromotion(req.id, req.version, patch));
  }

  async listPromotions({ offset, limit }: ListPromotionsRequest): Promise<ListPromotionsReply> {
    const { items, total } = await this.rules.listPromotions({ offset, limit });
    return { promotions: items.map(promotionReply), total };
  }

  async putFreightRule(req: PutFreightRuleRequest): Promise<FreightRuleMessage> {
    const { regionPrefix, freeAboveFen, enabled = true } = req;
    const rule = { regionPrefix, fee: feeOf(req.fee), freeAboveFen, enabled };
    return freightReply(await this.rules.putFreightRule(rule, req.version));
  }

  async listFreightRules({ offset, limit }: ListFreightRulesRequest): Promise<ListFreightRulesReply> {
    const { items, total } = await this.rules.listFreightRules({ offset, limit });
    return { rules: items.map(freightReply), total };
  }
}

function termsOf({ limitedPrice, fullReduction }: CreatePromotionRequest): PromotionTerms {
  if (limitedPrice && fullReduction) throw oneOf('limited_price and full_reduction exclude each other');
  if (!limitedPrice && !fullReduction) throw oneOf('limited_price or full_reduction is required');
  if (limitedPrice) {
    const { skuId, priceFen, limitPerUser } = limitedPrice;
    return { kind: 'LIMITED_PRICE', skuId, priceFen, limitPerUser: limitPerUser === 0 ? undefined : limitPerUser };
  }
  if (!fullReduction?.scope) throw missing('full_reduction.scope');
  return { kind: 'FULL_REDUCTION', scope: scopeOf(fullReduction.scope), tiers: fullReduction.tiers };
}

function scopeOf({ kind, ids }: ScopeMessage): Scope {
  switch (kind) {
    case ScopeKind.ALL:
      return { kind: 'ALL' };
    case ScopeKind.CATEGORY:
      return { kind: 'CATEGORY', ids };
    case ScopeKind.SPU:
      return { kind: 'SPU', ids };
    case ScopeKind.SKU:
      return { kind: 'SKU', ids };
    case ScopeKind.KIND_UNSPECIFIED:
    case ScopeKind.UNRECOGNIZED:
      throw missing('scope.kind');
    default:
      return kind satisfies never;
  }
}

function feeOf(fee: FreightFee | undefined): FreightRule['fee'] {
  if (!fee) throw missing('fee');
  const { firstFeeFen, firstUnits, furtherFeeFen, furtherUnits } = fee;
  if (firstUnits > 0 && furtherUnits > 0) {
    return { kind: 'BY_UNITS', firstUnits, firstFeeFen, furtherUnits, furtherFeeFen };
  }
  if (firstUnits > 0) throw missing('fee.further_units');
  if (furtherUnits > 0) throw missing('fee.first_units');
  return { kind: 'FLAT', feeFen: firstFeeFen };
}

function couponValueOf(value: ValueMessage | undefined): CouponValue {
  if (!value) throw missing('value');
  const { offFen, thresholdFen, percent, capFen } = value;
  if (offFen > 0n && percent > 0) throw oneOf('off_fen and percent exclude each other', 'value.percent');
  if (percent > 0) {
    if (thresholdFen > 0n) throw oneOf('a threshold goes with off_fen', 'value.threshold_fen');
    return { kind: 'PERCENT', percent, capFen: capFen === 0n ? undefined : capFen };
  }
  if (offFen === 0n) throw oneOf('off_fen or percent is required', 'value');
  if (capFen > 0n) throw oneOf('a cap goes with percent', 'value.cap_fen');
  return thresholdFen > 0n ? { kind: 'THRESHOLD', thresholdFen, offFen } : { kind: 'AMOUNT', offFen };
}

function stateOf(status: Status): UserCouponState | undefined {
  switch (status) {
    case Status.UNUSED:
      return 'UNUSED';
    case Status.HELD:
      return 'HELD';
    case Status.USED:
      return 'USED';
    case Status.EXPIRED:
      return 'EXPIRED';
    case Status.STATUS_UNSPECIFIED:
    case Status.UNRECOGNIZED:
      return undefined;
    default:
      return status satisfies never;
  }
}

function given(text: string): string | undefined {
  return text === '' ? undefined : text;
}

function oneOf(description: string, field = 'limited_price') {
  return invalidArgument(description, { violations: [{ field, description }] });
}

function missing(field: string) {
  return invalidArgument(`${field} is required`, { violations: [{ field, description: 'is required' }] });
}

export function quoteReply(quote: Quote): QuoteReply {
  return {
    totalAmountFen: quote.totalFen,
    freightAmountFen: quote.freightFen,
    promotionAmountFen: quote.promotionFen,
    amountFen: quote.amountFen,
    lines: quote.lines.map(({ totalFen: totalAmountFen, promotionFen: promotionAmountFen, ...line }) => ({
      ...{ ...line, totalAmountFen, promotionAmountFen },
    })),
    discounts: quote.discounts.map((d) => ({ ...d, rule: Rule[d.rule], lines: [...d.lines] })),
    freightRuleId: quote.freightRuleId ?? 0n,
    coupon: quote.coupon && useReply(quote.coupon),
  };
}

function useReply({ id, refusal, savedFen: savedAmountFen }: CouponUse): UseMessage {
  const applies = refusal === undefined;
  return { id, applies, refusal: applies ? Refusal.REFUSAL_UNSPECIFIED : Refusal[refusal], savedAmountFen };
}

function couponReply({ value, scope, ...coupon }: Coupon): CouponMessage {
  const none = { offFen: 0n, thresholdFen: 0n, percent: 0, capFen: 0n };
  const terms =
    value.kind === 'PERCENT'
      ? { ...none, percent: value.percent, capFen: value.capFen ?? 0n }
      : { ...none, offFen: value.offFen, thresholdFen: value.kind === 'THRESHOLD' ? value.thresholdFen : 0n };
  return { ...coupon, value: terms, scope: scopeReply(scope) };
}

function userCouponReply({ coupon, state, orderId = 0n, ...owned }: UserCoupon, use?: CouponUse): UserCouponMessage {
  const { id, granted, createdAt } = owned;
  const status = Status[state];
  return { id, coupon: couponReply(coupon), status, orderId, granted, createdAt, use: use && useReply(use) };
}

function promotionReply({ terms, ...promotion }: StoredPromotion): PromotionMessage {
  const limitedPrice = terms.kind === 'LIMITED_PRICE' ? { ...terms, limitPerUser: terms.limitPerUser ?? 0 } : undefined;
  const fullReduction =
    terms.kind === 'FULL_REDUCTION' ? { scope: scopeReply(terms.scope), tiers: [...terms.tiers] } : undefined;
  return { ...promotion, limitedPrice, fullReduction };
}

function scopeReply(scope: Scope): ScopeMessage {
  return { kind: ScopeKind[scope.kind], ids: scope.kind === 'ALL' ? [] : [...scope.ids] };
}

function freightReply({ fee, ...rule }: StoredFreightRule): FreightRuleMessage {
  const flat = { firstUnits: 0, furtherFeeFen: 0n, furtherUnits: 0 };
  return { ...rule, fee: fee.kind === 'FLAT' ? { ...flat, firstFeeFen: fee.feeFen } : fee };
}
