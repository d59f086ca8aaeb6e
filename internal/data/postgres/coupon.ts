import type { Page, PageRequest } from '../../biz/page.js';
import { type Coupon, type CouponFilter, CouponRepo, type NewCoupon } from '../../biz/pricing/coupon.js';
import type { CouponValue, Scope } from '../../biz/pricing/price-calculator.js';
import type { Transaction } from '../../biz/transaction.js';
import { int8s } from './column.js';
import type { Postgres, Statement } from './postgres.js';

// Ids in arrays are read as text, so that none is rounded.
export const COUPON_COLUMNS = `c.id, c.name, c.kind, c.off, c.threshold, c.percent, c.cap, c.scope, c.scope_ids::text[],
  c.starts_at, c.ends_at, c.total, c.claimed, c.limit_per_user, c.enabled, c.version, c.created_at, c.updated_at`;

const OFFERED = 'enabled AND (ends_at IS NULL OR ends_at > now())';

const INSERT: Statement = {
  name: 'coupon_insert',
  text: `INSERT INTO coupons AS c (name, kind, off, threshold, percent, cap, scope, scope_ids, starts_at, ends_at, total,
      limit_per_user, enabled)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8::bigint[], $9, $10, $11, $12, $13) RETURNING ${COUPON_COLUMNS}`,
};

const UPDATE: Statement = {
  name: 'coupon_update',
  text: `UPDATE coupons c SET name = $1, kind = $2, off = $3, threshold = $4, percent = $5, cap = $6, scope = $7,
      scope_ids = $8::bigint[], starts_at = $9, ends_at = $10, total = $11, limit_per_user = $12, enabled = $13,
      version = version + 1, updated_at = now()
    WHERE id = $14 AND version = $15 AND claimed <= $11 RETURNING ${COUPON_COLUMNS}`,
};

const FIND: Statement = { name: 'coupon_find', text: `SELECT ${COUPON_COLUMNS} FROM coupons c WHERE id = $1` };

const LIST: Statement = {
  name: 'coupon_list',
  text: `SELECT ${COUPON_COLUMNS} FROM coupons c WHERE NOT $1 OR (${OFFERED}) ORDER BY id DESC OFFSET $2 LIMIT $3`,
};

const COUNT: Statement = {
  name: 'coupon_count',
  text: `SELECT count(*) AS total FROM coupons WHERE NOT $1 OR (${OFFERED})`,
};

// The time is read when the lock is held: the transaction may have waited for it.
const LOCK: Statement = {
  name: 'coupon_lock',
  text: `WITH c AS MATERIALIZED (SELECT * FROM coupons WHERE id = $1 FOR UPDATE)
    SELECT ${COUPON_COLUMNS}, clock_timestamp() AS at FROM c`,
};

const ADD_CLAIMED: Statement = {
  name: 'coupon_add_claimed',
  text: 'UPDATE coupons SET claimed = claimed + $2 WHERE id = $1',
};

export class PgCouponRepo extends CouponRepo {
  constructor(private readonly db: Postgres) {
    super();
  }

  override async insert(coupon: NewCoupon): Promise<Coupon> {
    const { rows } = await this.db.query<CouponRow>(INSERT, valuesOf(coupon));
    if (!rows[0]) throw new Error('an inserted coupon was not returned');
    return couponOf(rows[0]);
  }

  override async update(id: bigint, version: bigint, coupon: NewCoupon): Promise<Coupon | undefined> {
    const { rows } = await this.db.query<CouponRow>(UPDATE, [...valuesOf(coupon), id, version]);
    return rows[0] && couponOf(rows[0]);
  }

  override async find(id: bigint): Promise<Coupon | undefined> {
    const { rows } = await this.db.query<CouponRow>(FIND, [id]);
    return rows[0] && couponOf(rows[0]);
  }

  override async list({ offered }: CouponFilter, { offset, limit }: PageRequest): Promise<Page<Coupon>> {
    const [list, count] = await Promise.all([
      this.db.query<CouponRow>(LIST, [offered, offset, limit]),
      this.db.query<{ total: bigint }>(COUNT, [offered]),
    ]);
    return { items: list.rows.map(couponOf), total: count.rows[0]?.total ?? 0n };
  }

  override async lock(tx: Transaction, id: bigint): Promise<{ coupon: Coupon; at: Date } | undefined> {
    const { rows } = await this.db.query<CouponRow & { at: Date }>(LOCK, [id], tx);
    return rows[0] && { coupon: couponOf(rows[0]), at: rows[0].at };
  }

  override async addClaimed(tx: Transaction, id: bigint, count: number): Promise<void> {
    const { rowCount } = await this.db.query(ADD_CLAIMED, [id, count], tx);
    if (rowCount !== 1) throw new Error(`coupon ${id} does not exist`);
  }
}

export interface CouponRow {
  id: bigint;
  name: string;
  kind: CouponValue['kind'];
  off: bigint | null;
  threshold: bigint | null;
  percent: number | null;
  cap: bigint | null;
  scope: Scope['kind'];
  scope_ids: string[];
  starts_at: Date;
  ends_at: Date | null;
  total: bigint;
  claimed: bigint;
  limit_per_user: number;
  enabled: boolean;
  version: bigint;
  created_at: Date;
  updated_at: Date;
}

export function couponOf(row: CouponRow): Coupon {
  return {
    id: row.id,
    name: row.name,
    value: couponValueOf(row),
    scope: row.scope === 'ALL' ? { kind: 'ALL' } : { kind: row.scope, ids: row.scope_ids.map(BigInt) },
    startsAt: row.starts_at,
    endsAt: row.ends_at ?? undefined,
    total: row.total,
    claimed: row.claimed,
    limitPerUser: row.limit_per_user,
    enabled: row.enabled,
    version: row.version,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  };
}

function couponValueOf({ id, kind, off, threshold, percent, cap }: CouponRow): CouponValue {
  if (kind === 'AMOUNT' && off !== null) return { kind, offFen: off };
  if (kind === 'THRESHOLD' && off !== null && threshold !== null) return { kind, thresholdFen: threshold, offFen: off };
  if (kind === 'PERCENT' && percent !== null) return { kind, percent, capFen: cap ?? undefined };
  throw new Error(`coupon ${id} has no value`);
}

function valuesOf({ name, value, scope, startsAt, endsAt, total, limitPerUser, enabled }: NewCoupon): unknown[] {
  const ids = scope.kind === 'ALL' ? [] : scope.ids;
  const rest = [scope.kind, int8s(ids, (id) => id), startsAt, endsAt ?? null, total, limitPerUser, enabled];
  switch (value.kind) {
    case 'AMOUNT':
      return [name, value.kind, value.offFen, null, null, null, ...rest];
    case 'THRESHOLD':
      return [name, value.kind, value.offFen, value.thresholdFen, null, null, ...rest];
    case 'PERCENT':
      return [name, value.kind, null, null, value.percent, value.capFen ?? null, ...rest];
    default:
      return value satisfies never;
  }
}
