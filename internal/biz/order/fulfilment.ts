import type { Transaction } from '../transaction.js';
import type { Move, Order, OrderType } from './order-state.js';

/** What took an order to PAID, as its event says. */
export interface PaidBy extends Pick<Move, 'reason'> {
  readonly actor: 'payment' | 'system';
}

/** What a paid order of one type needs in order to be fulfilled. Each order type has at most one. */
export abstract class OrderFulfilment {
  abstract readonly orderType: OrderType;
  /** Reads what `fulfil` needs, so that no read of it falls inside the payment's transaction. */
  abstract prepare(order: Pick<Order, 'productId'>): Promise<void>;
  /**
   * Starts the fulfilment in the transaction that pays the locked order. Repeating it changes nothing.
   * @returns what the move to PAID writes on the order, so that the row is written once
   */
  abstract fulfil(tx: Transaction, order: Order): Promise<{ readonly instanceId?: bigint }>;
  /**
   * Goes on in the same transaction, when the orders are PAID and their units have left the stock.
   * @param actor of what follows
   * @returns the orders as they are then, in order
   */
  abstract afterPaid(tx: Transaction, orders: readonly Order[], actor: PaidBy['actor']): Promise<readonly Order[]>;
}
