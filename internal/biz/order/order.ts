import { invalidArgument } from '../../../gen/common/v1/errors.js';
import {
  orderAlreadyPaid,
  orderCancelled,
  paymentAmountMismatch,
  priceChanged,
  requestIdReused,
} from '../../../gen/order/v1/errors.js';
import type { Product, ProductUsecase } from '../catalog/product.js';
import type { IdGenerator } from '../id-generator.js';
import { type Page, type PageRequest, pageOf } from '../page.js';
import { decodePageToken, type TokenPage, tokenPage } from '../page-token.js';
import type { Transaction, TransactionRunner } from '../transaction.js';
import { type DueOrderFailure, DueOrders } from './due-orders.js';
import type { OrderCoupons } from './order-coupons.js';
import {
  type Move,
  moveLocked,
  type NewOrder,
  noOrder,
  type Order,
  type OrderEvent,
  type OrderFilter,
  type OrderRepo,
  PAY_TIMEOUT,
  statusConflict,
} from './order-state.js';
import type { PaidOrders } from './paid-orders.js';
import type { Payment, PaymentRepo } from './payment.js';
import type { PaymentSessionRepo } from './payment-session-state.js';
import type { RefundUsecase } from './refund.js';
import { fingerprintOf, requestReused } from './request-fingerprint.js';
import type { ReservedUnits } from './reserved-units.js';

export interface CreateOrder {
  readonly userId: string;
  readonly productId: bigint;
  readonly quantity: number;
  /** Empty: each call creates a new order. */
  readonly requestId: string;
  readonly remark: string;
  /** The amount that the buyer was shown. undefined: any. */
  readonly expectedAmountFen?: bigint | undefined;
}

export interface PaymentNotice {
  readonly orderId: bigint;
  /** The calling user. undefined: the payment provider, or an operator. */
  readonly userId: string | undefined;
  /** Empty: "manual". */
  readonly provider: string;
  /** Empty: the one payment of the order that has no event id. */
  readonly eventId: string;
  /** undefined: the amount due. */
  readonly amountFen: bigint | undefined;
}

export interface OrderPolicy {
  /** How long a buyer has to pay. */
  readonly payTimeoutMs: number;
}

export interface SweepResult {
  /** Number of orders. */
  readonly cancelled: number;
  readonly failures: readonly DueOrderFailure[];
}

/** The result of a payment, decided inside the transaction and returned or thrown after it. */
type PaymentResult =
  | { readonly kind: 'paid' | 'repeated'; readonly order: Order }
  | {
      readonly kind: 'already-paid' | 'cancelled' | 'amount-mismatch';
      readonly order: Order;
      readonly refundId: bigint | undefined;
    };

const MANUAL = 'manual';

/** Begins with who cancelled, so that no text of theirs passes for another reason, such as PAY_TIMEOUT. */
function cancelReason(actor: 'admin' | 'user', text: string): string {
  const code = actor === 'admin' ? 'ADMIN_CANCELLED' : 'USER_CANCELLED';
  return text === '' ? code : `${code}: ${text}`;
}

export class OrderUsecase {
  private readonly overdue: DueOrders;

  constructor(
    private readonly transactions: TransactionRunner,
    private readonly ids: IdGenerator,
    private readonly products: ProductUsecase,
    private readonly orders: OrderRepo,
    private readonly payments: PaymentRepo,
    private readonly refunds: RefundUsecase,
    private readonly paid: PaidOrders,
    private readonly units: ReservedUnits,
    private readonly coupons: OrderCoupons,
    private readonly sessions: PaymentSessionRepo,
    private readonly policy: OrderPolicy,
  ) {
    this.overdue = new DueOrders(transactions, {
      lock: (tx, limit, except) => this.orders.lockOverdue(tx, limit, except),
      move: (tx, due) => this.close(tx, due, { to: 'CANCELLED', actor: 'sweeper', reason: PAY_TIMEOUT }),
    });
  }

  /**
   * Creates an order of source NORMAL. It is PENDING, or PAID if it costs nothing.
   * @throws PRODUCT_NOT_FOUND, PRODUCT_DISABLED, INVALID_ARGUMENT quantity, REQUEST_ID_REUSED,
   * PRICE_CHANGED
   */
  async create(wanted: CreateOrder): Promise<Order> {
    if (wanted.quantity !== 1) {
      throw invalidArgument('an order of an instance plan has quantity 1: each order is one instance', {
        violations: [{ field: 'quantity', description: 'must be 1 for an instance plan' }],
      });
    }
    const before = await this.findRepeated(wanted);
    if (before) return before;
    const product = await this.products.getOnSale(wanted.productId);
    checkPrice(product.priceFen, wanted.expectedAmountFen);
    const created = this.orderOf(wanted, product);
    if (created.amountFen === 0n) await this.paid.prepare(created);
    const stored = await this.transactions.run(
      async (tx) => {
        const inserted = await this.orders.insert(tx, [created], 'user');
        if (inserted) await this.paid.payCreated(tx, [created]);
        return inserted;
      },
      // With a request id a second run can see that the first one was committed.
      { idempotent: wanted.requestId !== '' },
    );
    const order = stored ? await this.orders.find(created.id, wanted.userId) : await this.findRepeated(wanted);
    if (!order) throw new Error(`order ${created.id} was stored but cannot be found`);
    return order;
  }

  private orderOf(wanted: CreateOrder, product: Product): NewOrder {
    return {
      id: this.ids.nextId(),
      userId: wanted.userId,
      sellerId: product.sellerId,
      orderType: 'INSTANCE',
      source: 'NORMAL',
      status: 'PENDING',
      productId: product.id,
      productName: product.name,
      quantity: wanted.quantity,
      priceFen: product.priceFen,
      amountFen: product.priceFen * BigInt(wanted.quantity),
      reqId: this.ids.nextId(),
      requestId: wanted.requestId === '' ? undefined : wanted.requestId,
      requestFingerprint: contentOf(wanted),
      remark: wanted.remark,
      payTimeoutMs: this.policy.payTimeoutMs,
    };
  }

  /** @throws ORDER_NOT_FOUND, also for an order of another user */
  async get(id: bigint, userId: string | undefined): Promise<Order> {
    return (await this.orders.find(id, userId)) ?? noOrder(id);
  }

  /**
   * A user's orders, newest first, from an offset or from a page token on.
   * @throws INVALID_ARGUMENT page_token, offset
   */
  async list(
    userId: string,
    filter: OrderFilter,
    { pageToken = '', ...page }: PageRequest & { readonly pageToken?: string },
  ): Promise<Page<Order> & TokenPage<Order>> {
    const list = { list: 'orders', userId, status: filter.status, orderType: filter.orderType };
    const afterId = decodePageToken(list, pageToken);
    const { offset, limit } = pageOf(page);
    if (afterId !== undefined && offset > 0) {
      throw invalidArgument('offset and page_token exclude each other', {
        violations: [{ field: 'offset', description: 'must be 0 with a page_token' }],
      });
    }
    const { items, total } = await this.orders.list(userId, filter, { offset, limit: limit + 1, afterId });
    return { ...tokenPage(list, limit, items), total };
  }

  async listEvents(id: bigint, userId: string | undefined): Promise<readonly OrderEvent[]> {
    await this.get(id, userId);
    return this.orders.listEvents(id);
  }

  /**
   * Cancels an unpaid order. One that is already cancelled is returned as it is.
   * @throws ORDER_NOT_FOUND, ORDER_ALREADY_PAID
   */
  async cancel(id: bigint, userId: string | undefined, reason: string): Promise<Order> {
    const order = await this.transactions.run(
      async (tx) => {
        const current = (await this.orders.lock(tx, id, userId)) ?? noOrder(id);
        if (current.status !== 'PENDING') return current;
        const actor = userId === undefined ? 'admin' : 'user';
        const [closed] = await this.close(tx, [current], {
          to: 'CANCELLED',
          actor,
          reason: cancelReason(actor, reason),
        });
        return closed ?? current;
      },
      { idempotent: true },
    );
    if (order.status !== 'CANCELLED') throw alreadyPaid(order, undefined);
    return order;
  }

  /**
   * Takes a payment: the order becomes PAID and its fulfilment starts, in one transaction. A payment that no longer
   * fits
   * is recorded with its refund before the error is thrown, so no money is lost.
   *
   * @throws ORDER_NOT_FOUND, ORDER_ALREADY_PAID, ORDER_CANCELLED, PAYMENT_AMOUNT_MISMATCH, REQUEST_ID_REUSED where the
   * event paid another order
   */
  async markPaid(notice: PaymentNotice): Promise<Order> {
    const known = await this.get(notice.orderId, notice.userId);
    await this.paid.prepare(known);
    const paymentId = this.ids.nextId();
    const result = await this.transactions.run((tx) => this.takePayment(tx, notice, paymentId), { idempotent: true });
    switch (result.kind) {
      case 'paid':
      case 'repeated':
        return result.order;
      case 'already-paid':
        throw alreadyPaid(result.order, result.refundId);
      case 'cancelled':
        throw orderCancelled(
          `order ${result.order.id} was cancelled (${result.order.closeReason}); the payment is refunded`,
          {
            metadata: orderFacts(result.order, result.refundId),
          },
        );
      case 'amount-mismatch':
        throw paymentAmountMismatch(
          `order ${result.order.id} costs ${result.order.amountFen} fen; the payment is refunded`,
          {
            metadata: { ...orderFacts(result.order, result.refundId), amount_fen: String(result.order.amountFen) },
          },
        );
      default:
        return result satisfies never;
    }
  }

  /**
   * Hides a finished order from its owner. Deleting it again changes nothing.
   * @throws ORDER_NOT_FOUND, ORDER_STATUS_CONFLICT
   */
  async delete(id: bigint, userId: string): Promise<void> {
    if (await this.orders.hide(id, userId)) return;
    throw statusConflict(await this.get(id, userId), 'only a cancelled or completed order can be deleted');
  }

  /**
   * Cancels up to `limit` orders past their pay deadline; see `DueOrders`.
   * @throws UNAVAILABLE when the database is unavailable
   */
  async sweepOverdue(limit: number): Promise<SweepResult> {
    const { moved, failures } = await this.overdue.move(limit);
    return { cancelled: moved, failures };
  }

  private async takePayment(tx: Transaction, notice: PaymentNotice, paymentId: bigint): Promise<PaymentResult> {
    const order = (await this.orders.lock(tx, notice.orderId, notice.userId)) ?? noOrder(notice.orderId);
    const provider = notice.provider === '' ? MANUAL : notice.provider;
    const amountFen = notice.amountFen ?? order.amountFen;
    const eventId = notice.eventId === '' ? unnumbered(order, amountFen) : notice.eventId;
    const before = await this.payments.find(tx, provider, eventId);
    // A run whose COMMIT succeeded but whose reply was lost finds its own payment.
    if (before?.id === paymentId && before.outcome === 'APPLIED') return { kind: 'paid', order };
    if (before) return this.repeatedPayment(tx, order, before, notice);

    const payment = { id: paymentId, orderId: order.id, provider, eventId, amountFen };
    if (order.status !== 'PENDING' || amountFen !== order.amountFen) {
      const kind =
        order.status === 'PENDING' ? 'amount-mismatch' : order.status === 'CANCELLED' ? 'cancelled' : 'already-paid';
      // Without an event id, marking a paid order as paid again is no second payment.
      if (kind === 'already-paid' && notice.eventId === '') return { kind, order, refundId: undefined };
      return { kind, order, refundId: await this.refuse(tx, order, { ...payment, outcome: 'REFUNDED' }, kind) };
    }
    await this.record(tx, { ...payment, outcome: 'APPLIED' });
    const [paid] = await this.paid.pay(tx, [order], { actor: 'payment', reason: `${provider}:${eventId}` });
    return { kind: 'paid', order: paid ?? order };
  }

  private async repeatedPayment(
    tx: Transaction,
    order: Order,
    before: Payment,
    notice: PaymentNotice,
  ): Promise<PaymentResult> {
    if (before.orderId !== order.id) throw eventReused(before);
    if (before.outcome === 'APPLIED') {
      return notice.eventId === '' ? { kind: 'already-paid', order, refundId: undefined } : { kind: 'repeated', order };
    }
    const refund = await this.refunds.findOfPayment(tx, before.id);
    const kind =
      order.status === 'CANCELLED' ? 'cancelled' : order.status === 'PENDING' ? 'amount-mismatch' : 'already-paid';
    return { kind, order, refundId: refund?.id };
  }

  /** The lock on the order serializes its own events. An event that also names another order may still interfere. */
  private async record(tx: Transaction, payment: Payment): Promise<void> {
    if (!(await this.payments.insert(tx, payment))) throw eventReused(payment);
  }

  private async refuse(tx: Transaction, order: Order, payment: Payment, kind: string): Promise<bigint> {
    await this.record(tx, payment);
    return this.refunds.refundPayment(tx, order, payment, `PAYMENT_REFUSED: ${kind}`);
  }

  /** @param orders locked ones */
  private async close(tx: Transaction, orders: readonly Order[], move: Move): Promise<readonly Order[]> {
    const closed: Order[] = [];
    for (const order of orders) closed.push(await moveLocked(this.orders, tx, order, move));
    await this.units.release(tx, closed);
    await this.coupons.release(tx, closed);
    await this.sessions.requestClose(
      tx,
      closed.map((o) => o.id),
    );
    return closed;
  }

  private async findRepeated(wanted: CreateOrder): Promise<Order | undefined> {
    if (wanted.requestId === '') return undefined;
    const order = await this.orders.findByRequest(wanted.userId, wanted.requestId);
    if (!order) return undefined;
    // Orders of earlier versions have no fingerprint.
    const same =
      order.requestFingerprint === undefined
        ? order.productId === wanted.productId && order.quantity === wanted.quantity
        : order.requestFingerprint === contentOf(wanted);
    if (!same) throw requestReused(wanted.requestId, order.id);
    return order;
  }
}

/** What a request id stands for. */
function contentOf({ productId, quantity, remark }: CreateOrder): string {
  return fingerprintOf({ productId, quantity, remark });
}

/** The event id of a payment that has none. A wrong amount must not stand for the right one that follows. */
function unnumbered(order: Order, amountFen: bigint): string {
  return amountFen === order.amountFen ? `order-${order.id}` : `order-${order.id}-${amountFen}`;
}

/** @throws PRICE_CHANGED when the order does not cost what the buyer was shown */
function checkPrice(amountFen: bigint, expectedFen: bigint | undefined): void {
  if (expectedFen === undefined || expectedFen === amountFen) return;
  throw priceHasChanged(amountFen);
}

export function priceHasChanged(amountFen: bigint): Error {
  return priceChanged(`the order costs ${amountFen} fen now`, { metadata: { amount_fen: String(amountFen) } });
}

function eventReused({ provider, eventId }: Payment) {
  return requestIdReused(`payment ${provider} ${eventId} belongs to another order`, {
    metadata: { provider, event_id: eventId },
  });
}

function alreadyPaid(order: Order, refundId: bigint | undefined) {
  return orderAlreadyPaid(`order ${order.id} is already paid; its status is ${order.status}`, {
    metadata: orderFacts(order, refundId),
  });
}

function orderFacts(order: Order, refundId: bigint | undefined): Record<string, string> {
  return {
    order_id: String(order.id),
    status: order.status,
    ...(refundId === undefined ? {} : { refund_id: String(refundId) }),
  };
}
