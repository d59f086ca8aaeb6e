import type { Page, PageRequest } from '../../../internal/biz/page.js';
import {
  type CouponHold,
  type CouponRequest,
  couponRequestKey,
  type NewUserCoupon,
  type UserCoupon,
  UserCouponRepo,
  type UserCouponState,
} from '../../../internal/biz/pricing/user-coupon.js';
import type { Transaction } from '../../../internal/biz/transaction.js';
import type { MemoryCouponRepo } from './coupon.js';
import { ConstraintViolation, type MemoryStore, MemoryTable } from './store.js';

export interface UserCouponRow extends NewUserCoupon {
  readonly status: 'UNUSED' | 'HELD' | 'USED';
  readonly orderId: bigint | undefined;
  readonly createdAt: Date;
}

export class MemoryUserCouponRepo extends UserCouponRepo {
  readonly userCoupons: MemoryTable<UserCouponRow>;

  constructor(
    protected readonly store: MemoryStore,
    private readonly coupons: MemoryCouponRepo,
  ) {
    super();
    this.userCoupons = new MemoryTable<UserCouponRow>(store, 'user_coupons', (u) => String(u.id), [
      { name: 'order', of: (u) => (u.orderId === undefined ? undefined : String(u.orderId)) },
      {
        name: 'coupon, user and request',
        of: (u) => (u.requestId === undefined ? undefined : `${u.couponId} ${u.userId} ${u.granted} ${u.requestId}`),
      },
    ]);
  }

  override findAll(ids: readonly bigint[]): Promise<readonly UserCoupon[]> {
    return this.store.statement('user_coupon.findAll', undefined, async () =>
      ids.flatMap((id) => this.read(this.userCoupons.find(String(id))) ?? []),
    );
  }

  override lockAll(tx: Transaction, ids: readonly bigint[]): Promise<readonly UserCoupon[]> {
    return this.store.statement('user_coupon.lockAll', tx, async () => {
      const found: UserCoupon[] = [];
      for (const id of [...ids].sort((a, b) => (a < b ? -1 : 1))) {
        const locked = this.read(await this.userCoupons.lock(tx, String(id)), tx);
        if (locked) found.push(locked);
      }
      return found;
    });
  }

  override list(
    userId: string,
    state: UserCouponState | undefined,
    { offset, limit }: PageRequest,
  ): Promise<Page<UserCoupon>> {
    return this.store.statement('user_coupon.list', undefined, async () => {
      const all = this.userCoupons
        .rows()
        .flatMap((row) => this.read(row) ?? [])
        .filter((u) => u.userId === userId && (state === undefined || u.state === state))
        .sort((a, b) => (a.id < b.id ? 1 : -1));
      return { items: all.slice(offset, offset + limit), total: BigInt(all.length) };
    });
  }

  override countClaimed(
    tx: Transaction,
    couponId: bigint,
    userIds: readonly string[],
  ): Promise<ReadonlyMap<string, number>> {
    return this.store.statement('user_coupon.countClaimed', tx, async () => {
      const counts = new Map<string, number>();
      for (const u of this.userCoupons.rows(tx)) {
        if (u.couponId !== couponId || u.granted || !userIds.includes(u.userId)) continue;
        counts.set(u.userId, (counts.get(u.userId) ?? 0) + 1);
      }
      return counts;
    });
  }

  override findByRequests(
    tx: Transaction,
    { couponId, granted }: Pick<NewUserCoupon, 'couponId' | 'granted'>,
    requests: readonly CouponRequest[],
  ): Promise<Map<string, bigint>> {
    return this.store.statement('user_coupon.findByRequests', tx, async () => {
      const asked = new Set(requests.map(couponRequestKey));
      const found = new Map<string, bigint>();
      for (const { id, userId, requestId = '', ...row } of this.userCoupons.rows(tx)) {
        const key = couponRequestKey({ userId, requestId });
        if (key === undefined || row.couponId !== couponId || row.granted !== granted || !asked.has(key)) continue;
        found.set(key, id);
      }
      return found;
    });
  }

  override insert(tx: Transaction, coupons: readonly NewUserCoupon[]): Promise<void> {
    return this.store.statement('user_coupon.insert', tx, async () => {
      for (const coupon of coupons) {
        if (!this.coupons.coupons.find(String(coupon.couponId), tx)) {
          throw new ConstraintViolation(`user_coupons: no coupon ${coupon.couponId}`);
        }
        const row = { ...coupon, status: 'UNUSED' as const, orderId: undefined, createdAt: this.store.now() };
        await this.userCoupons.insert(tx, row);
      }
    });
  }

  override hold(tx: Transaction, holds: readonly CouponHold[]): Promise<void> {
    return this.store.statement('user_coupon.hold', tx, async () => {
      for (const { id, orderId } of holds) {
        const held = await this.change(tx, id, 'UNUSED', { status: 'HELD', orderId });
        if (!held) throw new Error(`coupon ${id} could not be held`);
      }
    });
  }

  override release(tx: Transaction, orderIds: readonly bigint[]): Promise<void> {
    return this.store.statement('user_coupon.release', tx, () =>
      this.changeAll(tx, orderIds, 'HELD', { status: 'UNUSED', orderId: undefined }),
    );
  }

  override use(tx: Transaction, orderIds: readonly bigint[]): Promise<void> {
    return this.store.statement('user_coupon.use', tx, () => this.changeAll(tx, orderIds, 'HELD', { status: 'USED' }));
  }

  override restore(tx: Transaction, orderId: bigint): Promise<void> {
    return this.store.statement('user_coupon.restore', tx, async () => {
      const row = this.userCoupons.rows(tx).find((u) => u.orderId === orderId);
      const coupon = row && this.coupons.coupons.find(String(row.couponId), tx);
      if (!row || !coupon || this.coupons.hasEnded(coupon)) return;
      await this.change(tx, row.id, 'USED', { status: 'UNUSED', orderId: undefined });
    });
  }

  private async changeAll(
    tx: Transaction,
    orderIds: readonly bigint[],
    from: UserCouponRow['status'],
    to: Partial<UserCouponRow>,
  ): Promise<void> {
    const rows = this.userCoupons.rows(tx).filter((u) => u.orderId !== undefined && orderIds.includes(u.orderId));
    for (const { id } of rows.sort((a, b) => (a.id < b.id ? -1 : 1))) await this.change(tx, id, from, to);
  }

  private change(tx: Transaction, id: bigint, from: UserCouponRow['status'], to: Partial<UserCouponRow>) {
    return this.userCoupons.update(tx, String(id), (u) => (u.status === from ? { ...u, ...to } : undefined));
  }

  private read(row: UserCouponRow | undefined, tx?: Transaction): UserCoupon | undefined {
    const coupon = row && this.coupons.coupons.find(String(row.couponId), tx);
    if (!row || !coupon) return undefined;
    const { id, userId, status, orderId, granted, createdAt } = row;
    const state = status === 'UNUSED' && this.coupons.hasEnded(coupon) ? 'EXPIRED' : status;
    return { id, userId, coupon, state, orderId, granted, createdAt };
  }
}
