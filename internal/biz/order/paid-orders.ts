import { type Transaction, together } from '../transaction.js';
import type { OrderFulfilment, PaidBy } from './fulfilment.js';
import type { OrderCoupons } from './order-coupons.js';
import { moveLocked, type NewOrder, type Order, type OrderRepo, type OrderType } from './order-state.js';
import type { ReservedUnits } from './reserved-units.js';

/** An order that costs nothing is PAID without a payment: no payment provider takes 0 fen. */
const NOTHING_TO_PAY: PaidBy = { actor: 'system', reason: 'NOTHING_TO_PAY' };

/** The only way from PENDING to PAID, with everything that follows in the same transaction. */
export class PaidOrders {
  private readonly fulfilments: ReadonlyMap<OrderType, OrderFulfilment>;

  constructor(
    private readonly orders: OrderRepo,
    fulfilments: readonly OrderFulfilment[],
    private readonly units: ReservedUnits,
    private readonly coupons: OrderCoupons,
  ) {
    this.fulfilments = new Map(fulfilments.map((f) => [f.orderType, f]));
    if (this.fulfilments.size !== fulfilments.length) throw new Error('two fulfilments share an order type');
  }

  /** Reads what `pay` needs, so that no read of it falls inside the transaction. */
  async prepare(order: Pick<Order, 'orderType' | 'productId'>): Promise<void> {
    await this.fulfilments.get(order.orderType)?.prepare(order);
  }

  /**
   * Takes unpaid orders of one type, which `tx` has locked or inserted, to PAID and starts their fulfilment. Call it once per
   * transaction, because of the lock order (transaction.ts).
   * @returns the orders as they are then, in order
   */
  async pay(tx: Transaction, orders: readonly Order[], { actor, reason }: PaidBy): Promise<readonly Order[]> {
    const fulfilment = this.fulfilments.get(orders[0]?.orderType ?? 'GOODS');
    const written = await together(...orders.map(async (order) => fulfilment?.fulfil(tx, order)));
    const paid = await together(
      ...orders.map((order, i) => moveLocked(this.orders, tx, order, { to: 'PAID', actor, reason, ...written[i] })),
    );
    await this.units.consume(tx, paid);
    await this.coupons.use(tx, paid);
    return (await fulfilment?.afterPaid(tx, paid, actor)) ?? paid;
  }

  /** Takes a locked order to PAID if it is unpaid and costs nothing. @returns the order as it is then */
  async payFree(tx: Transaction, order: Order): Promise<Order> {
    if (order.status !== 'PENDING' || order.amountFen > 0n) return order;
    const [paid] = await this.pay(tx, [order], NOTHING_TO_PAY);
    return paid ?? order;
  }

  /** Of the orders of one type that `tx` has inserted as PENDING, takes those that cost nothing to PAID. */
  async payCreated(tx: Transaction, created: readonly Pick<NewOrder, 'id' | 'amountFen'>[]): Promise<void> {
    const free = created.filter((o) => o.amountFen === 0n).map((o) => o.id);
    if (free.length === 0) return;
    await this.pay(tx, await this.orders.findAll(free, tx), NOTHING_TO_PAY);
  }
}
