import { moveLocked, type Order, type OrderRepo, type OrderStatus } from '../order/order-state.js';
import { RefundableLines } from '../order/refund-lines.js';
import type { RefundRepo } from '../order/refund-state.js';
import type { TransactionRunner } from '../transaction.js';
import type { OrderAccess } from './order-access.js';

/** A paid order that has not opened all of its contents. */
export interface UnopenedOrder {
  readonly orderId: bigint;
  /** UUID of the buyer. */
  readonly userId: string;
  readonly status: OrderStatus;
  /** The contents that are missing. */
  readonly contentIds: readonly bigint[];
}

export abstract class UnopenedOrders {
  /** Those with the lowest ids that follow `afterId`. */
  abstract find(afterId: bigint, limit: number): Promise<readonly UnopenedOrder[]>;
}

const OPENING: readonly OrderStatus[] = ['PAID', 'SHIPPED', 'COMPLETED'];

/** Repairs what invariant 10 finds: paid orders whose contents are not open. */
export class EntitlementRepair {
  constructor(
    private readonly transactions: TransactionRunner,
    private readonly orders: OrderRepo,
    private readonly refunds: RefundRepo,
    private readonly access: OrderAccess,
  ) {}

  /**
   * Opens what a paid order did not open, from now on, and completes an order of a content. Repeating it changes nothing.
   * @returns how many contents were opened
   */
  repair(orderId: bigint): Promise<number> {
    return this.transactions.run(
      async (tx) => {
        const order = await this.orders.lock(tx, orderId, undefined);
        // Its status may have changed since it was found.
        if (!order || !OPENING.includes(order.status)) return 0;
        const opened = await this.access.open(tx, [order]);
        const done = (await this.refunds.listOfOrder(tx, orderId)).filter((r) => r.status === 'DONE');
        if (opened > 0 && done.length > 0) await this.access.close(tx, order, keptOf(order, done));
        if (order.orderType === 'CONTENT' && order.status === 'PAID') {
          await moveLocked(this.orders, tx, order, { to: 'COMPLETED', actor: 'admin', reason: 'AUDIT_FIX' });
        }
        return opened;
      },
      { idempotent: true },
    );
  }
}

function keptOf(order: Order, done: readonly { readonly lines: readonly { skuId: bigint; quantity: number }[] }[]) {
  return new RefundableLines(
    order.items,
    done.map((r) => r.lines),
  ).units;
}
