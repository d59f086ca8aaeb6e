import type { Transaction } from '../transaction.js';
import type { Order } from './order-state.js';

/** The units that unpaid orders reserve of something limited. Orders that reserve nothing may be passed as well. */
export abstract class ReservedUnits {
  /** The orders were cancelled: their units go back. Call it once per transaction, since it locks sales, then skus. */
  abstract release(tx: Transaction, orders: readonly Order[]): Promise<void>;
  /** The orders were paid: their units leave the stock for good. */
  abstract consume(tx: Transaction, orders: readonly Order[]): Promise<void>;
  /** The orders were refunded before they reached their buyers: their units are on sale again. Locks as `release` does. */
  abstract restock(tx: Transaction, orders: readonly Order[]): Promise<void>;
}
