import { invalidArgument } from '../../../gen/common/v1/errors.js';
import { couponNotFound, couponVersionConflict } from '../../../gen/pricing/v1/errors.js';
import { type Page, type PageRequest, pageOf } from '../page.js';
import type { Transaction } from '../transaction.js';
import type { CouponValue, Scope, Window } from './price-calculator.js';
import { checkScope, checkWindow } from './rule-checks.js';

/** A coupon before it is stored. It can be claimed and used within its window. */
export interface NewCoupon extends Window {
  readonly name: string;
  readonly value: CouponValue;
  readonly scope: Scope;
  /** How many can be given out. */
  readonly total: bigint;
  /** How many one user may claim; granted ones do not count. */
  readonly limitPerUser: number;
  /** A disabled coupon can be neither claimed nor used in new orders. */
  readonly enabled: boolean;
}

export interface Coupon extends NewCoupon {
  readonly id: bigint;
  /** How many were given out. */
  readonly claimed: bigint;
  /** Counts changes by operators, but not claims. */
  readonly version: bigint;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

/** Fields of a coupon that can be changed. Absent fields stay as they are. */
export interface CouponPatch {
  readonly name?: string;
  readonly enabled?: boolean;
  readonly startsAt?: Date;
  /** 'never': open-ended. */
  readonly endsAt?: Date | 'never';
  readonly total?: bigint;
  readonly limitPerUser?: number;
}

export interface CouponFilter {
  /** Only coupons that are enabled and have not ended. */
  readonly offered: boolean;
}

export abstract class CouponRepo {
  abstract insert(coupon: NewCoupon): Promise<Coupon>;
  /** @returns undefined: it has another version, has given out more than `total`, or does not exist */
  abstract update(id: bigint, version: bigint, coupon: NewCoupon): Promise<Coupon | undefined>;
  abstract find(id: bigint): Promise<Coupon | undefined>;
  /** By id, descending. */
  abstract list(filter: CouponFilter, page: PageRequest): Promise<Page<Coupon>>;
  /** The coupon, locked until `tx` ends, and the time of the database's clock since it is locked. */
  abstract lock(tx: Transaction, id: bigint): Promise<{ readonly coupon: Coupon; readonly at: Date } | undefined>;
  /** Counts coupons that `tx` gives out of one that it has locked. @throws when they exceed the total */
  abstract addClaimed(tx: Transaction, id: bigint, count: number): Promise<void>;
}

/** Coupons, as operators change them. What a coupon is worth never changes: users claimed it for that. */
export class CouponUsecase {
  constructor(private readonly coupons: CouponRepo) {}

  /** @throws INVALID_ARGUMENT scope, ends_at */
  async create(coupon: NewCoupon): Promise<Coupon> {
    checkWindow(coupon);
    checkScope(coupon.scope, 'scope', ['ALL', 'CATEGORY', 'SPU', 'SKU']);
    return this.coupons.insert(coupon);
  }

  /** @throws COUPON_NOT_FOUND, COUPON_VERSION_CONFLICT, INVALID_ARGUMENT ends_at, total */
  async update(id: bigint, version: bigint, patch: CouponPatch): Promise<Coupon> {
    if (Object.keys(patch).length === 0) throw invalidArgument('no field to change');
    const current = await this.find(id);
    if (current.version !== version) throw otherVersion(current, version);
    const { endsAt, ...rest } = patch;
    const changed = { ...current, ...rest, ...(endsAt && { endsAt: endsAt === 'never' ? undefined : endsAt }) };
    checkWindow(changed);
    const updated = await this.coupons.update(id, version, changed);
    if (updated) return updated;
    const now = await this.find(id);
    throw now.version === version ? belowClaimed(now) : otherVersion(now, version);
  }

  list(filter: CouponFilter, page: PageRequest): Promise<Page<Coupon>> {
    return this.coupons.list(filter, pageOf(page));
  }

  private async find(id: bigint): Promise<Coupon> {
    return (await this.coupons.find(id)) ?? noCoupon(id);
  }
}

/** @throws COUPON_NOT_FOUND */
export function noCoupon(id: bigint, field?: string): never {
  throw couponNotFound(`no coupon ${id}`, {
    metadata: { coupon_id: String(id) },
    ...(field !== undefined && { violations: [{ field, description: 'no such coupon' }] }),
  });
}

function belowClaimed({ id, claimed }: Coupon) {
  return invalidArgument(`${claimed} of coupon ${id} were given out`, {
    violations: [{ field: 'total', description: `must be at least ${claimed}, which were given out` }],
  });
}

function otherVersion({ id, version }: Coupon, wanted: bigint) {
  return couponVersionConflict(`coupon ${id} is at version ${version}, not ${wanted}`, {
    metadata: { coupon_id: String(id), version: String(version) },
  });
}
