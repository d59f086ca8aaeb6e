import { refundNotFound, refundNotPossible, refundStatusConflict } from '../../../gen/order/v1/errors.js';
import { errorText } from '../../kratos/errors/error-text.js';
import type { IdGenerator } from '../id-generator.js';
import type { NewOutboxRow, Outbox } from '../outbox.js';
import { type Page, type PageRequest, pageOf } from '../page.js';
import type { Transaction, TransactionRunner } from '../transaction.js';
import { moveOrder, noOrder, type Order, type OrderActor, type OrderRepo } from './order-state.js';
import type { PaymentRepo } from './payment.js';
import type { PaymentProvider } from './payment-provider.js';
import {
  canMoveRefund,
  type Refund,
  type RefundClaim,
  type RefundFilter,
  type RefundMove,
  type RefundRepo,
} from './refund-state.js';
import type { ReservedUnits } from './reserved-units.js';

export interface RequestRefund {
  readonly orderId: bigint;
  /** undefined: an operator asks. */
  readonly userId: string | undefined;
  readonly reason: string;
}

export interface RefundPolicy {
  /** Payouts tried before the refund is FAILED. */
  readonly maxAttempts: number;
  /** Wait after the first failed payout; it doubles up to an hour. */
  readonly retryBackoffMs: number;
  readonly leaseMs: number;
}

/** Outbox topic of refunds whose money was received outside Kaimai. ref_id is the refund. */
export const TOPIC_REFUND_REQUESTED = 'order.refund.requested';
/** `orders.close_reason` of an order whose money went back. */
export const REFUNDED = 'REFUNDED';

const RETRY_MAX_MS = 3_600_000;

/*
 * The way of a refund:
 *
 *   request → the order is REFUNDING, the refund REQUESTED or at once APPROVED, in one transaction
 *   → the worker claims it by a lease and asks the payment provider, with the refund's id as idempotency key: killed
 *     anywhere, it asks again and the money goes back once
 *   → the refund is DONE, the order CANCELLED with close reason REFUNDED, and its units are on sale again, in one
 *     transaction
 *
 * Money that was received outside Kaimai has no payment: its refund leaves as a message, written to the outbox with the
 * approval, and `complete` closes it.
 *
 * Locks are taken in one order: orders, refunds, sales, skus, each by id.
 */
export class RefundUsecase {
  private readonly providers: ReadonlyMap<string, PaymentProvider>;

  constructor(
    private readonly transactions: TransactionRunner,
    private readonly ids: IdGenerator,
    private readonly orders: OrderRepo,
    private readonly payments: PaymentRepo,
    private readonly refunds: RefundRepo,
    private readonly units: ReservedUnits,
    private readonly outbox: Outbox,
    providers: readonly PaymentProvider[],
    private readonly policy: RefundPolicy,
  ) {
    this.providers = new Map(providers.map((p) => [p.name, p]));
    if (this.providers.size !== providers.length) throw new Error('two payment providers share a name');
  }

  /**
   * Asks for the whole amount of a paid order of goods that is not shipped yet; it is approved at once. Asking again
   * returns the refund under way.
   * @throws ORDER_NOT_FOUND, REFUND_NOT_POSSIBLE
   */
  async request({ orderId, userId, reason }: RequestRefund): Promise<Refund> {
    const id = this.ids.nextId();
    return this.transactions.run(
      async (tx) => {
        const order = (await this.orders.lock(tx, orderId, userId)) ?? noOrder(orderId);
        if (order.status === 'REFUNDING') {
          const open = await this.refunds.findOpen(tx, orderId);
          if (open) return open;
        }
        if (order.orderType !== 'GOODS' || order.status !== 'PAID') {
          throw refundNotPossible(`order ${orderId} is ${order.status} and cannot be refunded on request`, {
            metadata: { order_id: String(orderId), status: order.status },
          });
        }
        await this.open(tx, order, { id, actor: userId === undefined ? 'admin' : 'user', reason });
        return (await this.refunds.lock(tx, id)) ?? noRefund(id);
      },
      { idempotent: true },
    );
  }

  /**
   * Moves a locked order to REFUNDING with an approved refund of what it cost, in the caller's transaction.
   */
  async open(
    tx: Transaction,
    order: Order,
    { id = this.ids.nextId(), actor, reason }: { id?: bigint; actor: OrderActor; reason: string },
  ): Promise<void> {
    const moved = await moveOrder(this.orders, tx, order, { to: 'REFUNDING', actor, reason });
    if (!moved) throw new Error(`order ${order.id} changed while it was locked`);
    const payment = await this.payments.findApplied(tx, order.id);
    const { id: orderId, userId, amountFen, status: orderStatus } = order;
    const common = { orderId, userId, amountFen, orderStatus, requestedBy: actor, reason };
    await this.refunds.insert(tx, { ...common, id, kind: 'WHOLE', status: 'APPROVED', paymentId: payment?.id });
    if (!this.providers.has(payment?.provider ?? '')) await this.outbox.append(tx, [requestRow(id, order)]);
  }

  /** Pays back a payment that paid nothing, in the caller's transaction. @returns the refund's id */
  async refundPayment(
    tx: Transaction,
    order: Order,
    payment: { readonly id: bigint; readonly provider: string; readonly amountFen: bigint },
    reason: string,
  ): Promise<bigint> {
    const id = this.ids.nextId();
    await this.refunds.insert(tx, {
      ...{ id, orderId: order.id, userId: order.userId, kind: 'PAYMENT', status: 'APPROVED', reason },
      ...{ amountFen: payment.amountFen, paymentId: payment.id, orderStatus: undefined, requestedBy: 'payment' },
    });
    if (!this.providers.has(payment.provider)) {
      await this.outbox.append(tx, [requestRow(id, { ...order, amountFen: payment.amountFen })]);
    }
    return id;
  }

  findOfPayment(tx: Transaction, paymentId: bigint): Promise<Refund | undefined> {
    return this.refunds.findByPayment(tx, paymentId);
  }

  /** @throws REFUND_NOT_FOUND, for another user's refund too */
  async get(id: bigint, userId: string | undefined): Promise<Refund> {
    return (await this.refunds.find(id, userId)) ?? noRefund(id);
  }

  list(filter: RefundFilter, page: PageRequest): Promise<Page<Refund>> {
    return this.refunds.list(filter, pageOf(page));
  }

  /**
   * The money of a refund went back outside Kaimai. Repeating it changes nothing.
   * @throws REFUND_NOT_FOUND, REFUND_STATUS_CONFLICT unless it is approved, and for a refund that a provider of ours pays:
   * it would be DONE without a payout
   */
  async complete(id: bigint): Promise<Refund> {
    const refund = await this.get(id, undefined);
    if (refund.status !== 'DONE' && this.providers.has(refund.provider ?? '')) {
      throw refundStatusConflict(`refund ${id} is paid out by ${refund.provider}`, {
        metadata: { refund_id: String(id), status: refund.status },
      });
    }
    return this.finish(id);
  }

  /** Starts a FAILED refund again. @throws REFUND_NOT_FOUND, REFUND_STATUS_CONFLICT */
  async retry(id: bigint): Promise<Refund> {
    return this.transactions.run(async (tx) => {
      const refund = (await this.refunds.lock(tx, id)) ?? noRefund(id);
      return refund.status === 'APPROVED' ? refund : this.move(tx, refund, { to: 'APPROVED' });
    });
  }

  /** Refunds that are due for payout by a provider; none: there is nothing to do. */
  claim(limit: number): Promise<readonly RefundClaim[]> {
    return this.refunds.claim(limit, this.policy.leaseMs);
  }

  /**
   * Pays one refund out. A failure is recorded and tried again later; after the last attempt the refund is FAILED.
   * @returns what became of it
   */
  async payOut({ refund, payment }: RefundClaim): Promise<'done' | 'waiting' | 'retry' | 'failed'> {
    const provider = this.providers.get(payment?.provider ?? '');
    // Its message is in the outbox; `complete` closes it.
    if (!payment || !provider) {
      await this.refunds.recordFailure(refund, '', RETRY_MAX_MS);
      return 'waiting';
    }
    const { id: refundId, orderId, amountFen } = refund;
    const outcome = await provider
      .refund({ refundId, orderId, eventId: payment.eventId, amountFen })
      .catch((err: unknown) => ({ kind: 'failed' as const, reason: errorText(err) }));
    if (outcome.kind === 'paid') {
      await this.finish(refundId);
      return 'done';
    }
    const waitMs = Math.min(this.policy.retryBackoffMs * 2 ** Math.min(refund.attempts - 1, 20), RETRY_MAX_MS);
    await this.refunds.recordFailure(refund, outcome.reason, waitMs);
    if (refund.attempts < this.policy.maxAttempts) return 'retry';
    await this.giveUp(refundId);
    return 'failed';
  }

  private async finish(id: bigint): Promise<Refund> {
    const known = await this.get(id, undefined);
    return this.transactions.run(
      async (tx) => {
        const order = (await this.orders.lock(tx, known.orderId, undefined)) ?? noOrder(known.orderId);
        const refund = (await this.refunds.lock(tx, id)) ?? noRefund(id);
        if (refund.status === 'DONE') return refund;
        const done = await this.move(tx, refund, { to: 'DONE' });
        if (done.kind === 'WHOLE') await this.cancel(tx, order, done);
        return done;
      },
      { idempotent: true },
    );
  }

  /** The units of an order that never reached its buyer are on sale again. */
  private async cancel(tx: Transaction, order: Order, refund: Refund): Promise<void> {
    const cancelled = await moveOrder(this.orders, tx, order, { to: 'CANCELLED', actor: 'refund', reason: REFUNDED });
    if (!cancelled) throw new Error(`order ${order.id} changed while it was locked`);
    if (refund.orderStatus === 'PAID') await this.units.restock(tx, [cancelled]);
  }

  private async giveUp(id: bigint): Promise<void> {
    await this.transactions.run(async (tx) => {
      const refund = await this.refunds.lock(tx, id);
      if (refund?.status === 'APPROVED') await this.move(tx, refund, { to: 'FAILED' });
    });
  }

  private async move(tx: Transaction, refund: Refund, move: RefundMove): Promise<Refund> {
    if (!canMoveRefund(refund.status, move.to)) {
      throw refundStatusConflict(`refund ${refund.id} is ${refund.status} and cannot become ${move.to}`, {
        metadata: { refund_id: String(refund.id), status: refund.status },
      });
    }
    return this.refunds.setStatus(tx, refund, move);
  }
}

function noRefund(id: bigint): never {
  throw refundNotFound(`no refund ${id}`, { metadata: { refund_id: String(id) } });
}

/** The message that asks for a refund outside Kaimai, as JSON; the data layer publishes it as `order.v1.RefundRequested`. */
export interface RefundRequest {
  readonly refundId: bigint;
  readonly orderId: bigint;
  readonly userId: string;
  readonly amountFen: bigint;
}

function requestRow(refundId: bigint, order: Pick<Order, 'id' | 'userId' | 'amountFen'>): NewOutboxRow {
  const { id: orderId, userId, amountFen } = order;
  const payload = { refundId: String(refundId), orderId: String(orderId), userId, amountFen: String(amountFen) };
  return { topic: TOPIC_REFUND_REQUESTED, refId: refundId, payload: Buffer.from(JSON.stringify(payload)) };
}

export function decodeRefundRequest(payload: Uint8Array): RefundRequest {
  const raw = JSON.parse(Buffer.from(payload).toString()) as Record<keyof RefundRequest, string>;
  const { refundId, orderId, userId, amountFen } = raw;
  return { refundId: BigInt(refundId), orderId: BigInt(orderId), userId, amountFen: BigInt(amountFen) };
}
