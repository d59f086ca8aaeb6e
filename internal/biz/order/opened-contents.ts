import type { Transaction } from '../transaction.js';
import type { Order } from './order-state.js';
import type { RefundUnits } from './refund-lines.js';

/** The access to contents that paid orders opened. */
export abstract class OpenedContents {
  /**
   * Takes back what an order opened, in the transaction that refunds it; `tx` has locked the order. Repeating it changes
   * nothing.
   * @param kept the units that the order's refunds leave with the buyer; empty: everything goes back
   */
  abstract close(tx: Transaction, order: Order, kept: readonly RefundUnits[]): Promise<void>;
}
