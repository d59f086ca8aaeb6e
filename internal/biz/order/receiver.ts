import type { Pricing } from '../pricing/pricing.js';
import type { Transaction, TransactionRunner } from '../transaction.js';
import { priceHasChanged } from './order.js';
import { noOrder, type Order, type OrderRepo, type Receiver, statusConflict } from './order-state.js';
import type { PaidOrders } from './paid-orders.js';
import type { PaymentSessionRepo } from './payment-session-state.js';

/*
 * The receiver of an order of goods that is not shipped yet:
 *
 *   lock the order → unpaid, and another region: price its freight again → a new amount is what the buyer expects? →
 *   receiver, freight and amount → the provider must close a payment of the old amount → nothing is left to pay: PAID
 *
 * Only the freight is priced again, by the rules in force now. What was quoted for the goods stays, and so does the freight
 * of an order that is paid.
 */
export class ReceiverUsecase {
  constructor(
    private readonly transactions: TransactionRunner,
    private readonly orders: OrderRepo,
    private readonly pricing: Pricing,
    private readonly sessions: PaymentSessionRepo,
    private readonly paid: PaidOrders,
  ) {}

  /**
   * Sets or replaces the receiver.
   * @param userId undefined: an operator
   * @param expectedAmountFen what the buyer was shown; undefined: the amount of the order
   * @throws ORDER_NOT_FOUND, ORDER_STATUS_CONFLICT, PRICE_CHANGED
   */
  async set(
    id: bigint,
    userId: string | undefined,
    receiver: Receiver,
    expectedAmountFen: bigint | undefined,
  ): Promise<Order> {
    return this.transactions.run(
      async (tx) => {
        const order = (await this.orders.lock(tx, id, userId)) ?? noOrder(id);
        if (order.orderType !== 'GOODS') throw statusConflict(order, 'only goods have a receiver');
        if (order.status !== 'PENDING' && order.status !== 'PAID') {
          throw statusConflict(order, 'its receiver cannot change any more');
        }
        const freightFen = await this.freightOf(tx, order, receiver);
        const amountFen = order.amountFen - order.freightFen + freightFen;
        if (amountFen !== (expectedAmountFen ?? order.amountFen)) throw priceHasChanged(amountFen);
        const changed = await this.orders.setReceiver(tx, id, { receiver, freightFen });
        if (amountFen !== order.amountFen) await this.sessions.requestClose(tx, [id]);
        return this.paid.payFree(tx, changed);
      },
      { idempotent: true },
    );
  }

  private async freightOf(tx: Transaction, order: Order, { region }: Receiver): Promise<bigint> {
    const { status, source, totalFen, promotionFen, quantity } = order;
    // Flash-sale orders have no freight.
    if (status !== 'PENDING' || source !== 'NORMAL' || region === order.receiver?.region) return order.freightFen;
    return this.pricing.freight(tx, { region, units: quantity, goodsFen: totalFen - promotionFen });
  }
}
