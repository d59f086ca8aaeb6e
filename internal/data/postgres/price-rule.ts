import type { Page, PageRequest } from '../../biz/page.js';
import type { FreightRule, Scope } from '../../biz/pricing/price-calculator.js';
import {
  type NewFreightRule,
  type NewPromotion,
  type OrderDiscount,
  PriceRuleRepo,
  type RuleSubjects,
  type RulesInForce,
  type RunningPromotion,
  type StoredFreightRule,
  type StoredPromotion,
  type UnitsAtLimitedPrice,
} from '../../biz/pricing/price-rule.js';
import type { Transaction } from '../../biz/transaction.js';
import { int4s, int8s, texts, uuids } from './column.js';
import type { Postgres, Statement } from './postgres.js';
import { ORDER_STATUS } from './status.js';

// Ids in arrays and JSON are read as text, so that none is rounded.
const PROMOTION_COLUMNS = `id, kind, name, sku_id, price, limit_per_user, scope, scope_ids::text[], tiers, enabled,
  starts_at, ends_at, version, created_at, updated_at`;
const FREIGHT_COLUMNS = `id, region_prefix, kind, first_fee, first_units, further_fee, further_units, free_above, enabled,
  version, updated_at`;

const INSERT_PROMOTION: Statement = {
  name: 'promotion_insert',
  text: `INSERT INTO promotions (kind, name, sku_id, price, limit_per_user, scope, scope_ids, tiers, enabled, starts_at, ends_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7::bigint[], $8, $9, $10, $11) RETURNING ${PROMOTION_COLUMNS}`,
};

const UPDATE_PROMOTION: Statement = {
  name: 'promotion_update',
  text: `UPDATE promotions SET kind = $1, name = $2, sku_id = $3, price = $4, limit_per_user = $5, scope = $6,
      scope_ids = $7::bigint[], tiers = $8, enabled = $9, starts_at = $10, ends_at = $11, version = version + 1,
      updated_at = now()
    WHERE id = $12 AND version = $13 RETURNING ${PROMOTION_COLUMNS}`,
};

const FIND_PROMOTION: Statement = {
  name: 'promotion_find',
  text: `SELECT ${PROMOTION_COLUMNS} FROM promotions WHERE id = $1`,
};

const LIST_PROMOTIONS: Statement = {
  name: 'promotion_list',
  text: `SELECT ${PROMOTION_COLUMNS} FROM promotions ORDER BY id OFFSET $1 LIMIT $2`,
};

const COUNT_PROMOTIONS: Statement = { name: 'promotion_count', text: 'SELECT count(*) AS total FROM promotions' };

const INSERT_FREIGHT_RULE: Statement = {
  name: 'freight_rule_insert',
  text: `INSERT INTO freight_rules (region_prefix, kind, first_fee, first_units, further_fee, further_units, free_above, enabled)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (region_prefix) DO NOTHING RETURNING ${FREIGHT_COLUMNS}`,
};

const UPDATE_FREIGHT_RULE: Statement = {
  name: 'freight_rule_update',
  text: `UPDATE freight_rules SET kind = $2, first_fee = $3, first_units = $4, further_fee = $5, further_units = $6,
      free_above = $7, enabled = $8, version = version + 1, updated_at = now()
    WHERE region_prefix = $1 AND version = $9 RETURNING ${FREIGHT_COLUMNS}`,
};

const LIST_FREIGHT_RULES: Statement = {
  name: 'freight_rule_list',
  text: `SELECT ${FREIGHT_COLUMNS} FROM freight_rules ORDER BY region_prefix COLLATE "C" OFFSET $1 LIMIT $2`,
};

const COUNT_FREIGHT_RULES: Statement = {
  name: 'freight_rule_count',
  text: 'SELECT count(*) AS total FROM freight_rules',
};

// The time of the clock, not of the transaction: it may have waited for its skus.
const FIND_IN_FORCE: Statement = {
  name: 'price_rules_in_force',
  text: `WITH c AS MATERIALIZED (SELECT clock_timestamp() AS at)
    SELECT c.at,
      (SELECT coalesce(jsonb_agg(jsonb_build_object('id', p.id::text, 'kind', kind, 'name', name, 'sku_id', sku_id::text,
          'price', price::text, 'limit_per_user', limit_per_user, 'scope', scope, 'scope_ids', scope_ids::text[],
          'tiers', tiers, 'starts_at', starts_at, 'ends_at', ends_at)), '[]')
        FROM promotions p
        WHERE enabled AND starts_at <= c.at AND (ends_at IS NULL OR c.at < ends_at)
          AND (sku_id = ANY ($1::bigint[]) OR (kind = 'FULL_REDUCTION' AND (scope = 'ALL'
            OR (scope = 'SKU' AND scope_ids && $1::bigint[]) OR (scope = 'SPU' AND scope_ids && $2::bigint[])
            OR (scope = 'CATEGORY' AND scope_ids && $3::bigint[]))))) AS promotions,
      (SELECT coalesce(jsonb_agg(jsonb_build_object('id', f.id::text, 'region_prefix', region_prefix, 'kind', kind,
          'first_fee', first_fee::text, 'first_units', first_units, 'further_fee', further_fee::text,
          'further_units', further_units, 'free_above', free_above::text)), '[]')
        FROM freight_rules f
        WHERE enabled AND EXISTS (SELECT FROM unnest($4::text[]) AS r(region) WHERE starts_with(r.region, region_prefix)))
        AS freight_rules
    FROM c`,
};

const FIND_UNITS: Statement = {
  name: 'limited_price_units',
  text: `SELECT d.user_id AS "userId", d.rule_id AS "promotionId", sum(d.units)::int AS units
    FROM order_discounts d JOIN orders o ON o.id = d.order_id
    WHERE d.rule = 'LIMITED_PRICE' AND d.user_id = ANY ($1::uuid[]) AND d.rule_id = ANY ($2::bigint[])
      AND o.status <> ${ORDER_STATUS.CANCELLED}
    GROUP BY 1, 2`,
};

const INSERT_DISCOUNTS: Statement = {
  name: 'order_discount_insert',
  text: `INSERT INTO order_discounts (order_id, user_id, rule, rule_id, name, sku_id, amount, units)
    SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::bigint[], $8::int[])`,
};

export class PgPriceRuleRepo extends PriceRuleRepo {
  constructor(private readonly db: Postgres) {
    super();
  }

  override async insertPromotion(promotion: NewPromotion): Promise<StoredPromotion> {
    const { rows } = await this.db.query<PromotionRow>(INSERT_PROMOTION, promotionValues(promotion));
    if (!rows[0]) throw new Error('an inserted promotion was not returned');
    return promotionOf(rows[0]);
  }

  override async updatePromotion(
    id: bigint,
    version: bigint,
    promotion: NewPromotion,
  ): Promise<StoredPromotion | undefined> {
    const values = [...promotionValues(promotion), id, version];
    const { rows } = await this.db.query<PromotionRow>(UPDATE_PROMOTION, values);
    return rows[0] && promotionOf(rows[0]);
  }

  override async findPromotion(id: bigint): Promise<StoredPromotion | undefined> {
    const { rows } = await this.db.query<PromotionRow>(FIND_PROMOTION, [id]);
    return rows[0] && promotionOf(rows[0]);
  }

  override async listPromotions({ offset, limit }: PageRequest): Promise<Page<StoredPromotion>> {
    const [list, count] = await Promise.all([
      this.db.query<PromotionRow>(LIST_PROMOTIONS, [offset, limit]),
      this.db.query<{ total: bigint }>(COUNT_PROMOTIONS, []),
    ]);
    return { items: list.rows.map(promotionOf), total: count.rows[0]?.total ?? 0n };
  }

  override async putFreightRule(rule: NewFreightRule, version: bigint): Promise<StoredFreightRule | undefined> {
    const { regionPrefix, fee, freeAboveFen, enabled } = rule;
    const fees =
      fee.kind === 'FLAT'
        ? [fee.feeFen, null, null, null]
        : [fee.firstFeeFen, fee.firstUnits, fee.furtherFeeFen, fee.furtherUnits];
    const values = [regionPrefix, fee.kind, ...fees, freeAboveFen ?? null, enabled];
    const { rows } =
      version === 0n
        ? await this.db.query<FreightRow>(INSERT_FREIGHT_RULE, values)
        : await this.db.query<FreightRow>(UPDATE_FREIGHT_RULE, [...values, version]);
    return rows[0] && storedFreightOf(rows[0]);
  }

  override async listFreightRules({ offset, limit }: PageRequest): Promise<Page<StoredFreightRule>> {
    const [list, count] = await Promise.all([
      this.db.query<FreightRow>(LIST_FREIGHT_RULES, [offset, limit]),
      this.db.query<{ total: bigint }>(COUNT_FREIGHT_RULES, []),
    ]);
    return { items: list.rows.map(storedFreightOf), total: count.rows[0]?.total ?? 0n };
  }

  override async findInForce(subjects: RuleSubjects, tx?: Transaction): Promise<RulesInForce> {
    const { skuIds, spuIds, categoryIds, regions } = subjects;
    const { rows } = await this.db.query<RulesRow>(
      FIND_IN_FORCE,
      [...[skuIds, spuIds, categoryIds].map((ids) => int8s(ids, (id) => id)), texts(regions, (r) => r)],
      tx,
    );
    if (!rows[0]) throw new Error('the rules in force were not returned');
    const { at, promotions, freight_rules: freightRules } = rows[0];
    return { at, promotions: promotions.map(runningOf), freightRules: freightRules.map(freightOf) };
  }

  override async findUnitsAtLimitedPrice(
    userIds: readonly string[],
    promotionIds: readonly bigint[],
    tx?: Transaction,
  ): Promise<readonly UnitsAtLimitedPrice[]> {
    const values = [uuids(userIds, (id) => id), int8s(promotionIds, (id) => id)];
    return (await this.db.query<UnitsAtLimitedPrice>(FIND_UNITS, values, tx)).rows;
  }

  override async insertDiscounts(tx: Transaction, discounts: readonly OrderDiscount[]): Promise<void> {
    if (discounts.length === 0) return;
    await this.db.query(
      INSERT_DISCOUNTS,
      [
        int8s(discounts, (d) => d.orderId),
        uuids(discounts, (d) => d.userId),
        texts(discounts, (d) => d.rule),
        int8s(discounts, (d) => d.ruleId),
        texts(discounts, (d) => d.name),
        int8s(discounts, (d) => d.skuId),
        int8s(discounts, (d) => d.amountFen),
        int4s(discounts, (d) => d.units),
      ],
      tx,
    );
  }
}

/** Both as columns and as JSON, where amounts and ids are text and times are ISO 8601. */
interface TermsRow {
  id: bigint | string;
  kind: 'LIMITED_PRICE' | 'FULL_REDUCTION';
  name: string;
  sku_id: bigint | string | null;
  price: bigint | string | null;
  limit_per_user: number | null;
  scope: Scope['kind'] | null;
  scope_ids: string[];
  tiers: { thresholdFen: string; offFen: string }[] | null;
  starts_at: Date | string;
  ends_at: Date | string | null;
}

interface PromotionRow extends TermsRow {
  id: bigint;
  enabled: boolean;
  version: bigint;
  created_at: Date;
  updated_at: Date;
}

interface FeeRow {
  id: bigint | string;
  region_prefix: string;
  kind: 'FLAT' | 'BY_UNITS';
  first_fee: bigint | string;
  first_units: number | null;
  further_fee: bigint | string | null;
  further_units: number | null;
  free_above: bigint | string | null;
}

interface FreightRow extends FeeRow {
  id: bigint;
  enabled: boolean;
  version: bigint;
  updated_at: Date;
}

interface RulesRow {
  at: Date;
  promotions: TermsRow[];
  freight_rules: FeeRow[];
}

function promotionValues({ name, terms, enabled, startsAt, endsAt }: NewPromotion): unknown[] {
  const rest = [enabled, startsAt, endsAt ?? null];
  if (terms.kind === 'LIMITED_PRICE') {
    const { kind, skuId, priceFen, limitPerUser } = terms;
    return [kind, name, skuId, priceFen, limitPerUser ?? null, null, int8s([], () => null), null, ...rest];
  }
  const tiers = terms.tiers.map((t) => ({ thresholdFen: String(t.thresholdFen), offFen: String(t.offFen) }));
  const ids = terms.scope.kind === 'ALL' ? [] : terms.scope.ids;
  const scope = [terms.scope.kind, int8s(ids, (id) => id), JSON.stringify(tiers)];
  return [terms.kind, name, null, null, null, ...scope, ...rest];
}

function runningOf(row: TermsRow): RunningPromotion {
  const common = { id: BigInt(row.id), name: row.name, startsAt: new Date(row.starts_at), endsAt: endOf(row) };
  const { kind, sku_id: skuId, price, scope, tiers } = row;
  if (kind === 'LIMITED_PRICE' && skuId !== null && price !== null) {
    const limitPerUser = row.limit_per_user ?? undefined;
    return { kind, ...common, skuId: BigInt(skuId), priceFen: BigInt(price), limitPerUser };
  }
  if (kind === 'FULL_REDUCTION' && scope !== null && tiers !== null) {
    return {
      ...{ kind, ...common, scope: scopeOf(scope, row.scope_ids) },
      tiers: tiers.map((t) => ({ thresholdFen: BigInt(t.thresholdFen), offFen: BigInt(t.offFen) })),
    };
  }
  throw new Error(`promotion ${row.id} has no terms`);
}

function promotionOf(row: PromotionRow): StoredPromotion {
  const running = runningOf(row);
  const { enabled, version, created_at: createdAt, updated_at: updatedAt } = row;
  const { id, name, startsAt, endsAt } = running;
  const terms =
    running.kind === 'LIMITED_PRICE'
      ? pick(running, 'kind', 'skuId', 'priceFen', 'limitPerUser')
      : pick(running, 'kind', 'scope', 'tiers');
  return { id, name, terms, enabled, startsAt, endsAt, version, createdAt, updatedAt };
}

function endOf({ ends_at: endsAt }: Pick<TermsRow, 'ends_at'>): Date | undefined {
  return endsAt === null ? undefined : new Date(endsAt);
}

function scopeOf(kind: Scope['kind'], ids: readonly string[]): Scope {
  return kind === 'ALL' ? { kind } : { kind, ids: ids.map(BigInt) };
}

function freightOf(row: FeeRow): FreightRule {
  const { first_units: firstUnits, further_fee: furtherFee, further_units: furtherUnits } = row;
  const feeFen = BigInt(row.first_fee);
  const byUnits = firstUnits !== null && furtherFee !== null && furtherUnits !== null;
  return {
    id: BigInt(row.id),
    regionPrefix: row.region_prefix,
    fee: byUnits
      ? { kind: 'BY_UNITS', firstUnits, firstFeeFen: feeFen, furtherUnits, furtherFeeFen: BigInt(furtherFee) }
      : { kind: 'FLAT', feeFen },
    freeAboveFen: row.free_above === null ? undefined : BigInt(row.free_above),
  };
}

function storedFreightOf(row: FreightRow): StoredFreightRule {
  return { ...freightOf(row), enabled: row.enabled, version: row.version, updatedAt: row.updated_at };
}

function pick<T, K extends keyof T>(value: T, ...keys: K[]): Pick<T, K> {
  return Object.fromEntries(keys.map((key) => [key, value[key]])) as Pick<T, K>;
}
