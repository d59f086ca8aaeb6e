import { receiverMissing } from '../../../gen/order/v1/errors.js';
import type { Transaction, TransactionRunner } from '../transaction.js';
import { DueOrders, type DueOrdersResult } from './due-orders.js';
import { moveLocked, noOrder, type Order, type OrderRepo, statusConflict } from './order-state.js';

/** How the goods of an order travel. */
export interface Shipment {
  readonly orderId: bigint;
  readonly carrier: string;
  /** One for each parcel. */
  readonly trackingNumbers: readonly string[];
  readonly shippedAt: Date;
}

export type NewShipment = Omit<Shipment, 'shippedAt'>;

export interface ShipmentPolicy {
  /** How long after shipping an order is confirmed automatically. */
  readonly confirmAfterMs: number;
}

export interface ShippedOrder {
  readonly order: Order;
  readonly shipment: Shipment;
}

export abstract class ShipmentRepo {
  /** @throws when the order has a shipment */
  abstract insert(tx: Transaction, shipment: NewShipment): Promise<void>;
  abstract find(orderId: bigint, tx?: Transaction): Promise<Shipment | undefined>;
}

/*
 * A paid order of goods on its way to the buyer:
 *
 *   receiver known → ship: PAID → SHIPPED with its shipment and the deadline of its confirmation, in one transaction
 *   → the buyer confirms, or the deadline passes: SHIPPED → COMPLETED
 *
 * A refund that is requested meanwhile locks the same order row, so exactly one of the two moves it.
 */
export class ShipmentUsecase {
  private readonly unconfirmed: DueOrders;

  constructor(
    private readonly transactions: TransactionRunner,
    private readonly orders: OrderRepo,
    private readonly shipments: ShipmentRepo,
    private readonly policy: ShipmentPolicy,
  ) {
    this.unconfirmed = new DueOrders(transactions, {
      lock: (tx, limit, except) => this.orders.lockUnconfirmed(tx, limit, except),
      move: async (tx, due) => {
        for (const order of due) {
          await moveLocked(this.orders, tx, order, { to: 'COMPLETED', actor: 'confirmer', reason: 'CONFIRM_TIMEOUT' });
        }
      },
    });
  }

  /**
   * Ships a paid order of goods. Shipping it again with the same carrier and tracking numbers changes nothing.
   * @throws ORDER_NOT_FOUND, RECEIVER_MISSING, ORDER_STATUS_CONFLICT
   */
  async ship(shipment: NewShipment): Promise<ShippedOrder> {
    const { orderId } = shipment;
    return this.transactions.run(
      async (tx) => {
        const order = (await this.orders.lock(tx, orderId, undefined)) ?? noOrder(orderId);
        const before = await this.shipments.find(orderId, tx);
        if (before) {
          if (order.status === 'SHIPPED' && isSame(before, shipment)) return { order, shipment: before };
          throw statusConflict(order, 'it has been shipped');
        }
        // The table of transitions also leads from REFUNDING to SHIPPED: a refused return.
        if (order.orderType !== 'GOODS' || order.status !== 'PAID') throw statusConflict(order, 'it cannot be shipped');
        if (!order.receiver) {
          throw receiverMissing(`order ${orderId} has no receiver`, { metadata: { order_id: String(orderId) } });
        }
        const { confirmAfterMs } = this.policy;
        const reason = `${shipment.carrier}:${shipment.trackingNumbers.join(',')}`;
        const shipped = await moveLocked(this.orders, tx, order, {
          to: 'SHIPPED',
          actor: 'admin',
          reason,
          confirmAfterMs,
        });
        await this.shipments.insert(tx, shipment);
        return { order: shipped, shipment: (await this.shipments.find(orderId, tx)) ?? noOrder(orderId) };
      },
      { idempotent: true },
    );
  }

  /**
   * Confirms that the goods arrived. Confirming again changes nothing.
   * @param userId undefined: an operator
   * @throws ORDER_NOT_FOUND, ORDER_STATUS_CONFLICT
   */
  async confirm(id: bigint, userId: string | undefined): Promise<Order> {
    return this.transactions.run(
      async (tx) => {
        const order = (await this.orders.lock(tx, id, userId)) ?? noOrder(id);
        if (order.status === 'COMPLETED' && order.shippedAt) return order;
        if (order.status !== 'SHIPPED') throw statusConflict(order, 'there is no receipt to confirm');
        const actor = userId === undefined ? 'admin' : 'user';
        return moveLocked(this.orders, tx, order, { to: 'COMPLETED', actor, reason: 'RECEIPT_CONFIRMED' });
      },
      { idempotent: true },
    );
  }

  /**
   * Completes up to `limit` orders past their confirm deadline; see `DueOrders`.
   * @throws UNAVAILABLE when the database is unavailable
   */
  confirmOverdue(limit: number): Promise<DueOrdersResult> {
    return this.unconfirmed.move(limit);
  }

  /** undefined: the order is not shipped. */
  async shipmentOf(order: Order): Promise<Shipment | undefined> {
    return order.shippedAt && this.shipments.find(order.id);
  }
}

function isSame(a: NewShipment, b: NewShipment): boolean {
  const numbers = b.trackingNumbers;
  return (
    a.carrier === b.carrier &&
    a.trackingNumbers.length === numbers.length &&
    a.trackingNumbers.every((n, i) => n === numbers[i])
  );
}
