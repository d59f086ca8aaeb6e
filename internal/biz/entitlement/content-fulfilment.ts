import type { OrderFulfilment, PaidBy } from '../order/fulfilment.js';
import { moveLocked, type Order, type OrderRepo } from '../order/order-state.js';
import type { RefundUsecase } from '../order/refund.js';
import type { Transaction } from '../transaction.js';
import type { EntitlementRepo } from './entitlement-state.js';
import type { OrderAccess } from './order-access.js';

/** `closeReason` of an order whose buyer had permanent access already when it was paid. */
export const ALREADY_OWNED = 'CONTENT_ALREADY_OWNED';

/** A paid order of a content opens it and is completed. */
export class ContentFulfilment implements OrderFulfilment {
  readonly orderType = 'CONTENT';

  constructor(
    private readonly orders: OrderRepo,
    private readonly entitlements: EntitlementRepo,
    private readonly access: OrderAccess,
    private readonly refunds: RefundUsecase,
  ) {}

  async prepare(): Promise<void> {}

  async fulfil(): Promise<Record<string, never>> {
    return {};
  }

  /**
   * The buyer may have paid another order of the content since this one was created. Where that one gave permanent access,
   * this one would add nothing, so it is refunded.
   */
  async afterPaid(tx: Transaction, orders: readonly Order[], actor: PaidBy['actor']): Promise<readonly Order[]> {
    const opened: Order[] = [];
    for (const order of orders) opened.push(await this.open(tx, order, actor));
    return opened;
  }

  private async open(tx: Transaction, order: Order, actor: PaidBy['actor']): Promise<Order> {
    if (!order.content) throw new Error(`order ${order.id} has no content`);
    const access = { userId: order.userId, contentId: order.content.id };
    await this.entitlements.lock(tx, [access]);
    const owned = await this.entitlements.findPermanent(tx, [access], order.id);
    if (owned.length > 0) {
      await this.refunds.openWhole(tx, order, actor, ALREADY_OWNED);
      return (await this.orders.find(order.id, undefined, tx)) ?? order;
    }
    await this.access.open(tx, [order]);
    return moveLocked(this.orders, tx, order, { to: 'COMPLETED', actor, reason: '' });
  }
}

/** A paid order of goods opens what its lines open, and waits to be shipped. */
export class GoodsFulfilment implements OrderFulfilment {
  readonly orderType = 'GOODS';

  constructor(private readonly access: OrderAccess) {}

  async prepare(): Promise<void> {}

  async fulfil(): Promise<Record<string, never>> {
    return {};
  }

  async afterPaid(tx: Transaction, orders: readonly Order[]): Promise<readonly Order[]> {
    await this.access.open(tx, orders);
    return orders;
  }
}
