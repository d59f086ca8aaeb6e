import { isUnavailable } from '../../../gen/common/v1/errors.js';
import { couponUnavailable } from '../../../gen/pricing/v1/errors.js';
import { Batchers } from '../batchers.js';
import type { IdGenerator } from '../id-generator.js';
import { type Page, type PageRequest, pageOf } from '../page.js';
import type { Transaction, TransactionRunner } from '../transaction.js';
import { type Coupon, type CouponRepo, noCoupon } from './coupon.js';
import type { CouponRefusal, QuotedCoupon } from './price-calculator.js';

/** EXPIRED: it was not used before its coupon ended. It is derived when the coupon is read, never stored. */
export type UserCouponState = 'UNUSED' | 'HELD' | 'USED' | 'EXPIRED';

/** One coupon of one user. */
export interface UserCoupon {
  readonly id: bigint;
  readonly userId: string;
  readonly coupon: Coupon;
  readonly state: UserCouponState;
  /** The order that holds it or has used it. */
  readonly orderId: bigint | undefined;
  /** Whether an operator gave it; otherwise its user claimed it. */
  readonly granted: boolean;
  readonly createdAt: Date;
}

/** A coupon that a user is given. */
export interface NewUserCoupon {
  readonly id: bigint;
  readonly couponId: bigint;
  readonly userId: string;
  readonly granted: boolean;
  /** Unique for the coupon, the user, and `granted`. */
  readonly requestId: string | undefined;
}

/** One user's request for a coupon. */
export interface CouponRequest {
  readonly userId: string;
  /** Empty: each request gives another coupon. */
  readonly requestId: string;
}

/** @returns undefined: the request has no id */
export function couponRequestKey({ userId, requestId }: CouponRequest): string | undefined {
  return requestId === '' ? undefined : `${userId} ${requestId}`;
}

/** A coupon that an order takes. */
export interface CouponHold {
  readonly id: bigint;
  readonly orderId: bigint;
}

export abstract class UserCouponRepo {
  /** Those of these user coupons that there are, of any user, in any order. */
  abstract findAll(ids: readonly bigint[]): Promise<readonly UserCoupon[]>;
  /** The same, locked until `tx` ends. */
  abstract lockAll(tx: Transaction, ids: readonly bigint[]): Promise<readonly UserCoupon[]>;
  /** A user's coupons, newest first. */
  abstract list(userId: string, state: UserCouponState | undefined, page: PageRequest): Promise<Page<UserCoupon>>;
  /** How many of a coupon each of these users has claimed. Users without one are left out. */
  abstract countClaimed(
    tx: Transaction,
    couponId: bigint,
    userIds: readonly string[],
  ): Promise<ReadonlyMap<string, number>>;
  /** The ids of the user coupons that these requests were given before, by `couponRequestKey`. */
  abstract findByRequests(
    tx: Transaction,
    coupon: Pick<NewUserCoupon, 'couponId' | 'granted'>,
    requests: readonly CouponRequest[],
  ): Promise<Map<string, bigint>>;
  abstract insert(tx: Transaction, coupons: readonly NewUserCoupon[]): Promise<void>;
  /** UNUSED → HELD. @throws when one is not UNUSED */
  abstract hold(tx: Transaction, holds: readonly CouponHold[]): Promise<void>;
  /** HELD → UNUSED. Orders that hold none may be passed as well; so may they below. */
  abstract release(tx: Transaction, orderIds: readonly bigint[]): Promise<void>;
  /** HELD → USED. */
  abstract use(tx: Transaction, orderIds: readonly bigint[]): Promise<void>;
  /** USED → UNUSED, while its coupon has not ended. */
  abstract restore(tx: Transaction, orderId: bigint): Promise<void>;
}

/** As the price calculator sees it. */
export function quotedCouponOf({ id, coupon, state }: UserCoupon): QuotedCoupon {
  const { name, scope, value, startsAt, endsAt, enabled } = coupon;
  return { id, name, scope, value, startsAt, endsAt, state: state === 'UNUSED' && !enabled ? 'DISABLED' : state };
}

/** Why a coupon cannot be claimed or used. */
export type CouponUnavailability = CouponRefusal | 'SOLD_OUT' | 'LIMIT_REACHED';

export function couponIsUnavailable(id: bigint, reason: CouponUnavailability, field?: string): Error {
  return couponUnavailable(`coupon ${id} is not available: ${reason}`, {
    metadata: { coupon_id: String(id), reason },
    ...(field !== undefined && { violations: [{ field, description: `is not available: ${reason}` }] }),
  });
}

/** What becomes of a request for a coupon, decided inside the transaction. */
type Decision =
  | { readonly kind: 'given'; readonly id: bigint }
  | { readonly kind: 'unknown' }
  | { readonly kind: 'unavailable'; readonly reason: CouponUnavailability }
  /** Alone, after its batch failed. */
  | { readonly kind: 'failed'; readonly cause: unknown };

/** What a caller is told, by a value or by an error. */
type Claim = Exclude<Decision, { readonly kind: 'given' }> | { readonly kind: 'given'; readonly coupon: UserCoupon };

/** Claims of one coupon that share a transaction. */
const BATCH_MAX = 500;

/*
 * A claim:
 *
 *   one transaction: lock the coupon → the same request before? → enabled, within its window, units left, limit per user
 *   → user_coupons rows → coupons.claimed += n
 *
 * The lock on the coupon makes its claims follow each other, in every replica, so no more than its total are given out and
 * no user gets more than the limit. Claims that arrive while a transaction of their coupon is under way go together in the
 * next one: in a rush the row is locked once for many claims. A batch that fails is decided again one by one.
 */
export class UserCouponUsecase {
  private readonly claims: Batchers<bigint, CouponRequest, Claim>;

  constructor(
    private readonly transactions: TransactionRunner,
    private readonly ids: IdGenerator,
    private readonly coupons: CouponRepo,
    private readonly userCoupons: UserCouponRepo,
  ) {
    this.claims = new Batchers({
      name: 'claims of this coupon',
      maxBatch: BATCH_MAX,
      run: (couponId, requests) => this.claimIsolated(couponId, requests),
    });
  }

  /**
   * Gives the user one coupon.
   * @throws COUPON_NOT_FOUND, COUPON_UNAVAILABLE
   */
  async claim(couponId: bigint, request: CouponRequest): Promise<UserCoupon> {
    const batcher = this.claims.of(couponId);
    const [claim] = batcher ? [await batcher.add(request)] : await this.claimIsolated(couponId, [request]);
    switch (claim?.kind) {
      case undefined:
        return lost(couponId);
      case 'given':
        return claim.coupon;
      case 'unknown':
        return noCoupon(couponId, 'id');
      case 'unavailable':
        throw couponIsUnavailable(couponId, claim.reason, 'id');
      case 'failed':
        throw claim.cause;
      default:
        return claim satisfies never;
    }
  }

  /**
   * Gives each user one coupon, or none of them.
   * @param requestId empty: each call gives further coupons
   * @throws COUPON_NOT_FOUND, COUPON_UNAVAILABLE
   */
  async grant(couponId: bigint, userIds: readonly string[], requestId: string): Promise<readonly UserCoupon[]> {
    const ids = await this.transactions.run((tx) => this.grantAll(tx, couponId, userIds, requestId), {
      idempotent: requestId !== '',
    });
    const granted = new Map((await this.userCoupons.findAll(ids)).map((c) => [c.id, c]));
    return ids.map((id) => granted.get(id) ?? lost(id));
  }

  list(userId: string, state: UserCouponState | undefined, page: PageRequest): Promise<Page<UserCoupon>> {
    return this.userCoupons.list(userId, state, pageOf(page));
  }

  /** A batch that fails is decided again one by one: the claim at fault fails alone. */
  private async claimIsolated(couponId: bigint, requests: readonly CouponRequest[]): Promise<readonly Claim[]> {
    const decisions: Decision[] = [];
    try {
      decisions.push(...(await this.decideAll(couponId, requests)));
    } catch (err) {
      if (isUnavailable(err)) throw err;
      for (const request of requests) {
        decisions.push(
          ...(await this.decideAll(couponId, [request]).catch((cause: unknown) => [
            { kind: 'failed', cause } as const,
          ])),
        );
      }
    }
    const ids = decisions.flatMap((d) => (d.kind === 'given' ? [d.id] : []));
    const given = new Map((await this.userCoupons.findAll(ids)).map((c) => [c.id, c]));
    return decisions.map((d) => (d.kind === 'given' ? { kind: 'given', coupon: given.get(d.id) ?? lost(d.id) } : d));
  }

  private decideAll(couponId: bigint, requests: readonly CouponRequest[]): Promise<readonly Decision[]> {
    return this.transactions.run((tx) => this.decide(tx, couponId, requests), {
      // Its own request id tells a second run that the first was committed.
      idempotent: requests.every((r) => r.requestId !== ''),
    });
  }

  private async decide(tx: Transaction, couponId: bigint, requests: readonly CouponRequest[]): Promise<Decision[]> {
    const locked = await this.coupons.lock(tx, couponId);
    if (!locked) return requests.map(() => ({ kind: 'unknown' }));
    const { coupon, at } = locked;
    const users = [...new Set(requests.map((r) => r.userId))];
    const given = await this.userCoupons.findByRequests(tx, { couponId, granted: false }, requests);
    const had = new Map(await this.userCoupons.countClaimed(tx, couponId, users));
    const closed = closedBecause(coupon, at);
    const rows: NewUserCoupon[] = [];
    const decisions = requests.map((request): Decision => {
      const { userId, requestId } = request;
      const key = couponRequestKey(request);
      const before = key === undefined ? undefined : given.get(key);
      if (before !== undefined) return { kind: 'given', id: before };
      if (closed) return { kind: 'unavailable', reason: closed };
      if (coupon.claimed + BigInt(rows.length) >= coupon.total) return { kind: 'unavailable', reason: 'SOLD_OUT' };
      const count = had.get(userId) ?? 0;
      if (count >= coupon.limitPerUser) return { kind: 'unavailable', reason: 'LIMIT_REACHED' };
      const id = this.ids.nextId();
      rows.push({ id, couponId, userId, granted: false, requestId: requestId === '' ? undefined : requestId });
      had.set(userId, count + 1);
      if (key !== undefined) given.set(key, id);
      return { kind: 'given', id };
    });
    await this.store(tx, couponId, rows);
    return decisions;
  }

  private async grantAll(
    tx: Transaction,
    couponId: bigint,
    userIds: readonly string[],
    requestId: string,
  ): Promise<readonly bigint[]> {
    const { coupon, at } = (await this.coupons.lock(tx, couponId)) ?? noCoupon(couponId, 'id');
    const requests = userIds.map((userId): CouponRequest => ({ userId, requestId }));
    const before = await this.userCoupons.findByRequests(tx, { couponId, granted: true }, requests);
    const given = requests.map((request): NewUserCoupon & { readonly isNew: boolean } => {
      const { userId } = request;
      const id = before.get(couponRequestKey(request) ?? '');
      const row = { couponId, userId, granted: true, requestId: requestId === '' ? undefined : requestId };
      return { ...row, id: id ?? this.ids.nextId(), isNew: id === undefined };
    });
    const rows = given.filter((g) => g.isNew);
    const closed = rows.length === 0 ? undefined : closedBecause(coupon, at);
    if (closed !== undefined && closed !== 'NOT_STARTED') throw couponIsUnavailable(couponId, closed, 'id');
    if (coupon.claimed + BigInt(rows.length) > coupon.total) throw couponIsUnavailable(couponId, 'SOLD_OUT', 'id');
    await this.store(tx, couponId, rows);
    return given.map((g) => g.id);
  }

  private async store(tx: Transaction, couponId: bigint, rows: readonly NewUserCoupon[]): Promise<void> {
    if (rows.length === 0) return;
    await this.userCoupons.insert(tx, rows);
    await this.coupons.addClaimed(tx, couponId, rows.length);
  }
}

/** undefined: it can be claimed at this time. */
function closedBecause({ enabled, startsAt, endsAt }: Coupon, at: Date): CouponUnavailability | undefined {
  if (!enabled) return 'DISABLED';
  if (at < startsAt) return 'NOT_STARTED';
  return endsAt !== undefined && endsAt <= at ? 'EXPIRED' : undefined;
}

function lost(id: bigint): never {
  throw new Error(`coupon ${id} was given out and is gone`);
}
