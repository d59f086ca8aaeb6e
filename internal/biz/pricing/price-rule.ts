import { skuNotFound } from '../../../gen/catalog/v1/errors.js';
import { invalidArgument } from '../../../gen/common/v1/errors.js';
import {
  freightRuleVersionConflict,
  promotionNotFound,
  promotionVersionConflict,
} from '../../../gen/pricing/v1/errors.js';
import type { CatalogRepo } from '../catalog/catalog.js';
import { type Page, type PageRequest, pageOf } from '../page.js';
import type { Transaction } from '../transaction.js';
import type { Discount, FreightRule, FullReduction, LimitedPrice, Window } from './price-calculator.js';
import { checkScope, checkWindow } from './rule-checks.js';

/** What a promotion takes off. */
export type PromotionTerms =
  | (Pick<LimitedPrice, 'kind' | 'skuId' | 'priceFen'> & {
      /** Units that one user may have at the price, in all orders that are not cancelled; undefined: any number. */
      readonly limitPerUser: number | undefined;
    })
  | Pick<FullReduction, 'kind' | 'scope' | 'tiers'>;

/** A promotion before it is stored. */
export interface NewPromotion extends Window {
  readonly name: string;
  readonly terms: PromotionTerms;
  readonly enabled: boolean;
}

/** A promotion as operators see it. */
export interface StoredPromotion extends NewPromotion {
  readonly id: bigint;
  readonly version: bigint;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

/** Fields of a promotion that can be changed. Absent fields stay as they are. */
export interface PromotionPatch {
  readonly name?: string;
  readonly enabled?: boolean;
  readonly startsAt?: Date;
  /** 'never': open-ended. */
  readonly endsAt?: Date | 'never';
  /** Only of LIMITED_PRICE. */
  readonly priceFen?: bigint;
  /** Only of LIMITED_PRICE; 0: any number. */
  readonly limitPerUser?: number;
  /** Only of FULL_REDUCTION. */
  readonly tiers?: FullReduction['tiers'];
}

/** A freight rule before it is stored. */
export interface NewFreightRule extends Omit<FreightRule, 'id'> {
  readonly enabled: boolean;
}

/** A freight rule as operators see it. */
export interface StoredFreightRule extends NewFreightRule {
  readonly id: bigint;
  readonly version: bigint;
  readonly updatedAt: Date;
}

/** What rules are asked for: the goods and the regions of some requests. */
export interface RuleSubjects {
  readonly skuIds: readonly bigint[];
  readonly spuIds: readonly bigint[];
  readonly categoryIds: readonly bigint[];
  readonly regions: readonly string[];
}

/** The rules that may apply to some requests, at one moment of the database's clock. */
export interface RulesInForce {
  readonly at: Date;
  /** Without `unitsLeft`, which differs by user. */
  readonly promotions: readonly RunningPromotion[];
  readonly freightRules: readonly FreightRule[];
}

export type RunningPromotion = FullReduction | RunningLimitedPrice;

export interface RunningLimitedPrice extends Omit<LimitedPrice, 'unitsLeft'> {
  readonly limitPerUser: number | undefined;
}

/** Units that a user has at a limited-time price, in orders that are not cancelled. */
export interface UnitsAtLimitedPrice {
  readonly userId: string;
  readonly promotionId: bigint;
  readonly units: number;
}

/** What one rule took off one line of an order. */
export interface OrderDiscount {
  readonly orderId: bigint;
  readonly userId: string;
  readonly rule: Discount['rule'];
  /** Id of the promotion, or of the user's coupon. */
  readonly ruleId: bigint;
  readonly name: string;
  readonly skuId: bigint;
  readonly amountFen: bigint;
  /** Units of the line that the rule is about. */
  readonly units: number;
}

export abstract class PriceRuleRepo {
  /** @throws where a LIMITED_PRICE is of an unknown sku */
  abstract insertPromotion(promotion: NewPromotion): Promise<StoredPromotion>;
  /** @returns undefined: the promotion has another version, or does not exist */
  abstract updatePromotion(id: bigint, version: bigint, promotion: NewPromotion): Promise<StoredPromotion | undefined>;
  abstract findPromotion(id: bigint): Promise<StoredPromotion | undefined>;
  /** By id, ascending. */
  abstract listPromotions(page: PageRequest): Promise<Page<StoredPromotion>>;
  /**
   * Creates the rule of a region prefix, or replaces it.
   * @param version 0: there is no rule yet
   * @returns undefined: the rule has another version
   */
  abstract putFreightRule(rule: NewFreightRule, version: bigint): Promise<StoredFreightRule | undefined>;
  /** By region prefix. */
  abstract listFreightRules(page: PageRequest): Promise<Page<StoredFreightRule>>;
  /** The enabled rules that are in force now and may apply to these goods and regions. One statement. */
  abstract findInForce(subjects: RuleSubjects, tx?: Transaction): Promise<RulesInForce>;
  /** Users without units at a price are left out. */
  abstract findUnitsAtLimitedPrice(
    userIds: readonly string[],
    promotionIds: readonly bigint[],
    tx?: Transaction,
  ): Promise<readonly UnitsAtLimitedPrice[]>;
  /** Of orders that `tx` has inserted. */
  abstract insertDiscounts(tx: Transaction, discounts: readonly OrderDiscount[]): Promise<void>;
}

/** Promotions and freight rules, as operators change them. */
export class PriceRuleUsecase {
  constructor(
    private readonly rules: PriceRuleRepo,
    private readonly catalog: CatalogRepo,
  ) {}

  /** @throws SKU_NOT_FOUND, INVALID_ARGUMENT scope, ends_at */
  async createPromotion(promotion: NewPromotion): Promise<StoredPromotion> {
    const { terms } = promotion;
    checkWindow(promotion);
    if (terms.kind === 'FULL_REDUCTION') checkScope(terms.scope, 'full_reduction.scope', ['ALL', 'CATEGORY', 'SPU']);
    else if (!(await this.catalog.findSku(terms.skuId))) {
      throw skuNotFound(`no sku ${terms.skuId}`, {
        metadata: { sku_id: String(terms.skuId) },
        violations: [{ field: 'limited_price.sku_id', description: 'no such sku' }],
      });
    }
    return this.rules.insertPromotion(promotion);
  }

  /** @throws PROMOTION_NOT_FOUND, PROMOTION_VERSION_CONFLICT, INVALID_ARGUMENT */
  async updatePromotion(id: bigint, version: bigint, patch: PromotionPatch): Promise<StoredPromotion> {
    if (Object.keys(patch).length === 0) throw invalidArgument('no field to change');
    const current = await this.findPromotion(id);
    if (current.version !== version) throw otherVersion(current, version);
    const changed = {
      name: patch.name ?? current.name,
      enabled: patch.enabled ?? current.enabled,
      startsAt: patch.startsAt ?? current.startsAt,
      endsAt: patch.endsAt === 'never' ? undefined : (patch.endsAt ?? current.endsAt),
      terms: termsOf(current.terms, patch),
    };
    checkWindow(changed);
    const updated = await this.rules.updatePromotion(id, version, changed);
    if (!updated) throw otherVersion(await this.findPromotion(id), version);
    return updated;
  }

  listPromotions(page: PageRequest): Promise<Page<StoredPromotion>> {
    return this.rules.listPromotions(pageOf(page));
  }

  /** @throws FREIGHT_RULE_VERSION_CONFLICT */
  async putFreightRule(rule: NewFreightRule, version: bigint): Promise<StoredFreightRule> {
    const stored = await this.rules.putFreightRule(rule, version);
    if (stored) return stored;
    throw freightRuleVersionConflict(`the freight rule of "${rule.regionPrefix}" is not at version ${version}`, {
      metadata: { region_prefix: rule.regionPrefix },
    });
  }

  listFreightRules(page: PageRequest): Promise<Page<StoredFreightRule>> {
    return this.rules.listFreightRules(pageOf(page));
  }

  private async findPromotion(id: bigint): Promise<StoredPromotion> {
    const found = await this.rules.findPromotion(id);
    if (!found) throw promotionNotFound(`no promotion ${id}`, { metadata: { promotion_id: String(id) } });
    return found;
  }
}

function termsOf(terms: PromotionTerms, { priceFen, limitPerUser, tiers }: PromotionPatch): PromotionTerms {
  if (terms.kind === 'FULL_REDUCTION') {
    if (priceFen !== undefined) throw foreignField('price_fen', 'a full reduction');
    if (limitPerUser !== undefined) throw foreignField('limit_per_user', 'a full reduction');
    return { ...terms, tiers: tiers ?? terms.tiers };
  }
  if (tiers !== undefined) throw foreignField('tiers', 'a limited-time price');
  const limit = limitPerUser === 0 ? undefined : (limitPerUser ?? terms.limitPerUser);
  return { ...terms, priceFen: priceFen ?? terms.priceFen, limitPerUser: limit };
}

function foreignField(field: string, kind: string) {
  return invalidArgument(`${kind} has no ${field}`, {
    violations: [{ field, description: `must be absent for ${kind}` }],
  });
}

function otherVersion({ id, version }: StoredPromotion, wanted: bigint) {
  return promotionVersionConflict(`promotion ${id} is at version ${version}, not ${wanted}`, {
    metadata: { promotion_id: String(id), version: String(version) },
  });
}
