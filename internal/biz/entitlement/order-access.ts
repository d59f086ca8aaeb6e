import { OpenedContents } from '../order/opened-contents.js';
import type { Order } from '../order/order-state.js';
import type { RefundUnits } from '../order/refund-lines.js';
import type { Transaction } from '../transaction.js';
import type { EntitlementRepo } from './entitlement-state.js';
import { type OpeningOrder, openedBy } from './granted-contents.js';

const REFUNDED = 'REFUNDED';

/*
 * An order opens contents in the transaction that pays it, one entitlement for each content, and its refunds take them back.
 * Temporary access of a user to a content is a chain: each entitlement begins where the one before it ends. So an order that
 * is paid while another still runs prolongs the access, and a refund of an earlier one moves the later ones forward by what
 * was not used. A transaction that changes a chain locks its access first.
 */
export class OrderAccess extends OpenedContents {
  constructor(private readonly entitlements: EntitlementRepo) {
    super();
  }

  /** Opens what paid orders bought, in the transaction that pays them. Opening it again changes nothing. @returns how many */
  async open(tx: Transaction, orders: readonly OpeningOrder[]): Promise<number> {
    const opened = orders.flatMap((order) => openedBy(order));
    if (opened.length === 0) return 0;
    // Permanent access has no chain.
    const temporary = opened.filter((e) => e.days !== undefined);
    if (temporary.length > 0) await this.entitlements.lock(tx, temporary);
    return this.entitlements.insert(tx, opened);
  }

  override async close(tx: Transaction, order: Order, kept: readonly RefundUnits[]): Promise<void> {
    const opened = openedBy(order);
    if (opened.length === 0) return;
    await this.entitlements.lock(tx, opened);
    const left = new Map(openedBy({ ...order, content: undefined }, kept).map((e) => [e.contentId, e]));
    for (const entitlement of await this.entitlements.listOfOrder(tx, order.id)) {
      if (entitlement.status === 'REVOKED') continue;
      const stays = left.get(entitlement.contentId);
      // Another line of the order has opened it for ever.
      if (stays && stays.days === undefined) continue;
      await this.entitlements.revoke(tx, { id: entitlement.id, keepDays: stays?.days ?? 0, reason: REFUNDED });
    }
  }
}
