import type { Transaction } from '../transaction.js';
import type { Order } from './order-state.js';
import type { RefundUnits } from './refund-lines.js';

/** Units of a paid order that are on sale again. */
export interface RestockedUnits {
  readonly order: Order;
  readonly refundId: bigint;
  readonly quantity: number;
  /** GOODS: the same units by sku. */
  readonly lines: readonly RefundUnits[];
}

/** The units that unpaid orders reserve of something limited. Orders that reserve nothing may be passed as well. */
export abstract class ReservedUnits {
  /** The orders were cancelled: their units go back. Call it once per transaction, because of the lock order (transaction.ts). */
  abstract release(tx: Transaction, orders: readonly Order[]): Promise<void>;
  /** The orders were paid: their units leave the stock for good. */
  abstract consume(tx: Transaction, orders: readonly Order[]): Promise<void>;
  /** Units were refunded and never left, or came back. Locks as `release` does. */
  abstract restock(tx: Transaction, units: RestockedUnits): Promise<void>;
}
