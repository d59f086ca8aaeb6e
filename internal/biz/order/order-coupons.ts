import type { UserCouponRepo } from '../pricing/user-coupon.js';
import type { Transaction } from '../transaction.js';
import type { Order } from './order-state.js';

/**
 * The coupons that orders hold or have used: UNUSED → HELD by an unpaid order → USED by a paid one, or back to UNUSED.
 * Orders without a coupon may be passed as well. Coupons are locked last, as the lock order wants it (transaction.ts).
 */
export class OrderCoupons {
  constructor(private readonly coupons: UserCouponRepo) {}

  /** The orders were cancelled before they were paid. */
  async release(tx: Transaction, orders: readonly Order[]): Promise<void> {
    const ids = withCoupon(orders);
    if (ids.length > 0) await this.coupons.release(tx, ids);
  }

  /** The orders were paid. A coupon that has ended meanwhile keeps its discount: the order holds it since before. */
  async use(tx: Transaction, orders: readonly Order[]): Promise<void> {
    const ids = withCoupon(orders);
    if (ids.length > 0) await this.coupons.use(tx, ids);
  }

  /** The whole order was refunded: its buyer has the coupon again, unless it has ended. */
  async restore(tx: Transaction, order: Order): Promise<void> {
    if (withCoupon([order]).length > 0) await this.coupons.restore(tx, order.id);
  }
}

/** Those that may have a coupon: it takes something off, and only ordinary orders of goods have one. */
function withCoupon(orders: readonly Order[]): readonly bigint[] {
  return orders.filter((o) => o.orderType === 'GOODS' && o.source === 'NORMAL' && o.promotionFen > 0n).map((o) => o.id);
}
