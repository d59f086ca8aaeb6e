import { invalidArgument } from '../../gen/common/v1/errors.js';
import {
  type CreatePromotionRequest,
  type FreightFee,
  type FreightRule as FreightRuleMessage,
  type ListFreightRulesReply,
  type ListFreightRulesRequest,
  type ListPromotionsReply,
  type ListPromotionsRequest,
  type PricingServiceService,
  type Promotion as PromotionMessage,
  type PutFreightRuleRequest,
  type QuoteReply,
  type QuoteRequest,
  Discount_Rule as Rule,
  Scope_Kind as ScopeKind,
  type Scope as ScopeMessage,
  type UpdatePromotionRequest,
} from '../../gen/pricing/v1/pricing.js';
import type { FreightRule, Quote, Scope } from '../biz/pricing/price-calculator.js';
import type {
  PriceRuleUsecase,
  PromotionPatch,
  PromotionTerms,
  StoredFreightRule,
  StoredPromotion,
} from '../biz/pricing/price-rule.js';
import type { QuoteUsecase } from '../biz/pricing/quote.js';
import type { CallContext, ServiceOf } from '../kratos/transport/call-context.js';
import { userOf } from './caller.js';
import { patchOf } from './update-mask.js';

export class PricingService implements ServiceOf<typeof PricingServiceService> {
  constructor(
    private readonly quotes: QuoteUsecase,
    private readonly rules: PriceRuleUsecase,
  ) {}

  async quote({ lines, region }: QuoteRequest, ctx: CallContext): Promise<QuoteReply> {
    const request = { userId: userOf(ctx), lines, region: region === '' ? undefined : region };
    return quoteReply(await this.quotes.quote(request));
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

function oneOf(description: string) {
  return invalidArgument(description, { violations: [{ field: 'limited_price', description }] });
}

function missing(field: string) {
  return invalidArgument(`${field} is required`, { violations: [{ field, description: 'is required' }] });
}

function quoteReply(quote: Quote): QuoteReply {
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
  };
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
