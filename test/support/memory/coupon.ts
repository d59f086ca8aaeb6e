import type { Page, PageRequest } from '../../../internal/biz/page.js';
import { type Coupon, type CouponFilter, CouponRepo, type NewCoupon } from '../../../internal/biz/pricing/coupon.js';
import type { Transaction } from '../../../internal/biz/transaction.js';
import { ConstraintViolation, type MemoryStore, MemoryTable } from './store.js';

export class MemoryCouponRepo extends CouponRepo {
  readonly coupons: MemoryTable<Coupon>;
  private lastId = 0n;

  constructor(protected readonly store: MemoryStore) {
    super();
    this.coupons = new MemoryTable(store, 'coupons', (c) => String(c.id));
  }

  override insert(coupon: NewCoupon): Promise<Coupon> {
    return this.store.statement('coupon.insert', undefined, async (tx) => {
      const at = this.store.now();
      const stored = { ...coupon, id: ++this.lastId, claimed: 0n, version: 1n, createdAt: at, updatedAt: at };
      await this.coupons.insert(tx, stored);
      return stored;
    });
  }

  override update(id: bigint, version: bigint, coupon: NewCoupon): Promise<Coupon | undefined> {
    const { name, value, scope, startsAt, endsAt, total, limitPerUser, enabled } = coupon;
    const changed = { name, value, scope, startsAt, endsAt, total, limitPerUser, enabled };
    return this.store.statement('coupon.update', undefined, (tx) =>
      this.coupons.update(tx, String(id), (c) =>
        c.version === version && c.claimed <= total
          ? { ...c, ...changed, version: version + 1n, updatedAt: this.store.now() }
          : undefined,
      ),
    );
  }

  override find(id: bigint): Promise<Coupon | undefined> {
    return this.store.statement('coupon.find', undefined, async () => this.coupons.find(String(id)));
  }

  override list({ offered }: CouponFilter, { offset, limit }: PageRequest): Promise<Page<Coupon>> {
    return this.store.statement('coupon.list', undefined, async () => {
      const all = this.coupons
        .rows()
        .filter((c) => !offered || (c.enabled && !this.hasEnded(c)))
        .sort((a, b) => (a.id < b.id ? 1 : -1));
      return { items: all.slice(offset, offset + limit), total: BigInt(all.length) };
    });
  }

  override lock(tx: Transaction, id: bigint): Promise<{ coupon: Coupon; at: Date } | undefined> {
    return this.store.statement('coupon.lock', tx, async () => {
      const coupon = await this.coupons.lock(tx, String(id));
      return coupon && { coupon, at: this.store.now() };
    });
  }

  override addClaimed(tx: Transaction, id: bigint, count: number): Promise<void> {
    return this.store.statement('coupon.addClaimed', tx, async () => {
      const added = await this.coupons.update(tx, String(id), (c) => ({ ...c, claimed: c.claimed + BigInt(count) }));
      if (!added) throw new Error(`coupon ${id} does not exist`);
      if (added.claimed > added.total)
        throw new ConstraintViolation(`coupons: ${id} has given out more than its total`);
    });
  }

  hasEnded({ endsAt }: Coupon): boolean {
    return endsAt !== undefined && endsAt <= this.store.now();
  }
}
