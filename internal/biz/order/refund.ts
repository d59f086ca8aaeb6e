import { refundNotFound, refundStatusConflict } from '../../../gen/order/v1/errors.js';
import { errorText } from '../../kratos/errors/error-text.js';
import type { IdGenerator } from '../id-generator.js';
import type { NewOutboxRow, Outbox } from '../outbox.js';
import { type Page, type PageRequest, pageOf } from '../page.js';
import type { Transaction, TransactionRunner } from '../transaction.js';
import { removalRow } from './instance-removal.js';
import type { OpenedContents } from './opened-contents.js';
import type { OrderCoupons } from './order-coupons.js';
import { moveLocked, noOrder, type Order, type OrderActor, type OrderRepo, REFUNDED } from './order-state.js';
import type { PaymentRepo } from './payment.js';
import type { PaymentProvider } from './payment-provider.js';
import { RefundableLines, type RefundUnits } from './refund-lines.js';
import {
  canMoveRefund,
  type Refund,
  type RefundClaim,
  type RefundFilter,
  type RefundMove,
  type RefundRepo,
} from './refund-state.js';
import type { ReservedUnits } from './reserved-units.js';

export interface RefundPolicy {
  /** Payouts tried before the refund is FAILED. */
  readonly maxAttempts: number;
  /** Wait after the first failed payout; it doubles up to an hour. */
  readonly retryBackoffMs: number;
  readonly leaseMs: number;
  /** How long after its completion an order may be returned. */
  readonly afterSaleWindowMs: number;
}

/** A refund of an order or of its lines that begins. */
export interface OpenRefund extends Partial<Pick<Refund, 'lines' | 'requestId' | 'requestFingerprint'>> {
  readonly id: bigint;
  readonly kind: 'WHOLE' | 'LINES';
  readonly status: 'REQUESTED' | 'APPROVED';
  readonly amountFen: bigint;
  readonly actor: OrderActor;
  readonly reason: string;
}

/** Outbox topic of refunds whose money was received outside Kaimai. ref_id is the refund. */
export const TOPIC_REFUND_REQUESTED = 'order.refund.requested';

const RETRY_MAX_MS = 3_600_000;

/*
 * The way of a refund:
 *
 *   request → the refund is REQUESTED, or APPROVED before shipping; that of a whole order makes it REFUNDING, in the same
 *     transaction. An operator approves or refuses it; refused, the order returns to its status
 *   → the worker claims it by a lease and asks the payment provider, with the refund's id as idempotency key: killed
 *     anywhere, it asks again and the money goes back once
 *   → the refund is DONE; an order that is refunded as a whole is CANCELLED with close reason REFUNDED, in the same
 *     transaction
 *
 * Units that never left are on sale again when the refund is DONE, since until then it can fail; shipped ones when their
 * return is received, which may be before or after the payout.
 *
 * Money that was received outside Kaimai has no payment: its refund leaves as a message, written to the outbox with the
 * approval, and `complete` closes it.
 *
 * Rows are locked in the lock order that transaction.ts states.
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
    private readonly coupons: OrderCoupons,
    private readonly contents: OpenedContents,
    private readonly outbox: Outbox,
    providers: readonly PaymentProvider[],
    private readonly policy: RefundPolicy,
  ) {
    this.providers = new Map(providers.map((p) => [p.name, p]));
    if (this.providers.size !== providers.length) throw new Error('two payment providers share a name');
  }

  /**
   * Stores a refund of a locked order, in the caller's transaction; that of a whole order moves it to REFUNDING.
   */
  async open(tx: Transaction, order: Order, { actor, ...refund }: OpenRefund): Promise<Refund> {
    const { id: orderId, userId, status: orderStatus } = order;
    if (refund.kind === 'WHOLE') {
      await moveLocked(this.orders, tx, order, { to: 'REFUNDING', actor, reason: refund.reason });
    }
    const payment = await this.payments.findApplied(tx, orderId);
    await this.refunds.insert(tx, {
      ...{ ...refund, orderId, userId, orderStatus, requestedBy: actor, paymentId: payment?.id },
    });
    const opened = (await this.refunds.lock(tx, refund.id)) ?? noRefund(refund.id);
    if (opened.status === 'APPROVED') {
      await this.askOutside(tx, opened);
      // An instance that could not be created is removed by its worker.
      if (actor !== 'resource') await this.removeInstance(tx, order, opened);
    }
    return opened;
  }

  /** Refunds the whole amount of an order that could not be fulfilled, in the caller's transaction. */
  async openWhole(tx: Transaction, order: Order, actor: OrderActor, reason: string): Promise<void> {
    const { amountFen } = order;
    await this.open(tx, order, {
      ...{ id: this.ids.nextId(), kind: 'WHOLE', status: 'APPROVED', amountFen, actor, reason },
    });
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
    const { provider, amountFen } = payment;
    await this.askOutside(tx, { id, orderId: order.id, userId: order.userId, provider, amountFen });
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
   * Lets a requested refund be paid out. Repeating it changes nothing.
   * @throws REFUND_NOT_FOUND, REFUND_STATUS_CONFLICT for one that was refused
   */
  approve(id: bigint): Promise<Refund> {
    return this.change(id, async (tx, order, refund) => {
      if (refund.status !== 'REQUESTED' && refund.status !== 'REFUSED') return refund;
      const approved = await this.move(tx, refund, { to: 'APPROVED' });
      await this.askOutside(tx, approved);
      await this.removeInstance(tx, order, approved);
      return approved;
    });
  }

  /**
   * Refuses a requested refund; an order that it would have ended returns to its status. Repeating it changes nothing.
   * @throws REFUND_NOT_FOUND, REFUND_STATUS_CONFLICT for one that was approved
   */
  refuse(id: bigint, decision: string): Promise<Refund> {
    return this.change(id, async (tx, order, refund) => {
      if (refund.status === 'REFUSED') return refund;
      const refused = await this.move(tx, refund, { to: 'REFUSED', decision });
      if (refused.kind === 'WHOLE') {
        const to = refused.orderStatus ?? wrongRefund(refused);
        await moveLocked(this.orders, tx, order, { to, actor: 'admin', reason: decision });
      }
      return refused;
    });
  }

  /**
   * The shipped units of an approved refund came back; `restock` puts them on sale again. Repeating it changes nothing.
   * @throws REFUND_NOT_FOUND, REFUND_STATUS_CONFLICT before the approval, for units that were never shipped, and for a
   * return that was received with the other `restock`
   */
  receiveReturn(id: bigint, restock: boolean): Promise<Refund> {
    return this.change(id, async (tx, order, refund) => {
      if (refund.returnedAt !== undefined && refund.restocked === restock) return refund;
      if (refund.returnedAt !== undefined) throw conflict(refund, 'its return was received before');
      if (refund.status === 'REQUESTED' || refund.status === 'REFUSED') throw conflict(refund, 'it is not approved');
      if (!hasShippedUnits(refund, order)) throw conflict(refund, 'its units were never shipped');
      const returned = await this.refunds.setReturned(tx, refund, restock);
      if (restock)
        await this.orders.addRefund(tx, order.id, { amountFen: 0n, units: await this.restock(tx, order, refund) });
      return returned;
    });
  }

  /**
   * The money of a refund went back outside Kaimai. Repeating it changes nothing.
   * @throws REFUND_NOT_FOUND, REFUND_STATUS_CONFLICT unless it is approved, and for a refund that a provider of ours pays:
   * it would be DONE without a payout
   */
  async complete(id: bigint): Promise<Refund> {
    const refund = await this.get(id, undefined);
    if (refund.status !== 'DONE' && this.providers.has(refund.provider ?? '')) {
      throw conflict(refund, `${refund.provider} pays it out`);
    }
    return this.finish(id);
  }

  /** As `retryRefund`. */
  retry(id: bigint): Promise<Refund> {
    return retryRefund(this.transactions, this.refunds, id);
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
    // No provider pays 0 fen out; what else the refund gives back follows all the same.
    if (refund.amountFen === 0n) {
      await this.finish(refund.id);
      return 'done';
    }
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

  private finish(id: bigint): Promise<Refund> {
    return this.change(id, async (tx, order, refund) => {
      if (refund.status === 'DONE') return refund;
      const done = await this.move(tx, refund, { to: 'DONE' });
      if (done.kind === 'PAYMENT') return done;
      const refunded =
        done.kind === 'WHOLE'
          ? await moveLocked(this.orders, tx, order, { to: 'CANCELLED', actor: 'refund', reason: REFUNDED })
          : order;
      const units = hasShippedUnits(done, order) ? 0 : await this.restock(tx, refunded, done);
      await this.orders.addRefund(tx, order.id, { amountFen: done.amountFen, units });
      if (done.kind === 'WHOLE') await this.coupons.restore(tx, refunded);
      await this.contents.close(tx, order, done.kind === 'WHOLE' ? [] : await this.unitsKept(tx, order));
      return done;
    });
  }

  /** Runs `work` with the refund and its order locked. */
  private async change(
    id: bigint,
    work: (tx: Transaction, order: Order, refund: Refund) => Promise<Refund>,
  ): Promise<Refund> {
    const { orderId } = await this.get(id, undefined);
    return this.transactions.run(
      async (tx) => {
        const order = (await this.orders.lock(tx, orderId, undefined)) ?? noOrder(orderId);
        return work(tx, order, (await this.refunds.lock(tx, id)) ?? noRefund(id));
      },
      { idempotent: true },
    );
  }

  /** Puts the units of a refund on sale again. @returns how many */
  private async restock(tx: Transaction, order: Order, refund: Refund): Promise<number> {
    const lines = refund.kind === 'LINES' ? refund.lines : await this.unitsLeft(tx, order);
    const ofGoods = lines.reduce((units, line) => units + line.quantity, 0);
    const quantity = order.orderType === 'GOODS' ? ofGoods : order.quantity;
    await this.units.restock(tx, { order, refundId: refund.id, quantity, lines });
    return quantity;
  }

  /** What a refund of the whole order gives back: the units that none of its lines' refunds has. */
  private async unitsLeft(tx: Transaction, order: Order): Promise<readonly RefundUnits[]> {
    if (order.items.length === 0) return [];
    const refunds = await this.refunds.listOfOrder(tx, order.id);
    const granted = refunds.filter((r) => r.status !== 'REFUSED').map((r) => r.lines);
    return new RefundableLines(order.items, granted).units;
  }

  /** The units whose refund is not DONE, by sku id. */
  private async unitsKept(tx: Transaction, order: Order): Promise<readonly RefundUnits[]> {
    const refunds = await this.refunds.listOfOrder(tx, order.id);
    return new RefundableLines(
      order.items,
      refunds.filter((r) => r.status === 'DONE').map((r) => r.lines),
    ).units;
  }

  /** Sends an approved refund to where its money was received, unless a provider of ours pays it, or it has no money. */
  private async askOutside(tx: Transaction, refund: RequestedOutside): Promise<void> {
    if (refund.amountFen === 0n || this.providers.has(refund.provider ?? '')) return;
    await this.outbox.append(tx, [requestRow(refund)]);
  }

  /** Tells the resource domain to remove the instance of an order that is refunded as a whole. */
  private async removeInstance(tx: Transaction, { instanceId }: Order, { id, kind }: Refund): Promise<void> {
    if (kind !== 'WHOLE' || instanceId === undefined) return;
    await this.outbox.append(tx, [removalRow(instanceId, `refund ${id}`)]);
  }

  private async giveUp(id: bigint): Promise<void> {
    await this.transactions.run(async (tx) => {
      const refund = await this.refunds.lock(tx, id);
      if (refund?.status === 'APPROVED') await this.move(tx, refund, { to: 'FAILED' });
    });
  }

  private move(tx: Transaction, refund: Refund, move: RefundMove): Promise<Refund> {
    return moveRefund(this.refunds, tx, refund, move);
  }
}

/** The only way to change the status of a refund. @throws REFUND_STATUS_CONFLICT */
async function moveRefund(repo: RefundRepo, tx: Transaction, refund: Refund, move: RefundMove): Promise<Refund> {
  if (!canMoveRefund(refund.status, move.to)) throw conflict(refund, `it cannot become ${move.to}`);
  return repo.setStatus(tx, refund, move);
}

/**
 * Starts a FAILED refund again, with all its attempts. One that is under way stays as it is.
 * @throws REFUND_NOT_FOUND, REFUND_STATUS_CONFLICT
 */
export function retryRefund(transactions: TransactionRunner, repo: RefundRepo, id: bigint): Promise<Refund> {
  return transactions.run(
    async (tx) => {
      const refund = (await repo.lock(tx, id)) ?? noRefund(id);
      if (refund.status === 'APPROVED') return refund;
      if (refund.status !== 'FAILED') throw conflict(refund, 'only a FAILED refund is started again');
      return moveRefund(repo, tx, refund, { to: 'APPROVED' });
    },
    { idempotent: true },
  );
}

/** Whether its units come back by a return. */
function hasShippedUnits({ kind, orderStatus }: Refund, { orderType }: Order): boolean {
  return orderType === 'GOODS' && kind !== 'PAYMENT' && (orderStatus === 'SHIPPED' || orderStatus === 'COMPLETED');
}

function conflict({ id, status }: Refund, why: string) {
  return refundStatusConflict(`refund ${id} is ${status}: ${why}`, {
    metadata: { refund_id: String(id), status },
  });
}

function wrongRefund({ id }: Refund): never {
  throw new Error(`refund ${id} has no status of its order`);
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

type RequestedOutside = Pick<Refund, 'id' | 'orderId' | 'userId' | 'provider' | 'amountFen'>;

function requestRow({ id: refundId, orderId, userId, amountFen }: RequestedOutside): NewOutboxRow {
  const payload = { refundId: String(refundId), orderId: String(orderId), userId, amountFen: String(amountFen) };
  return { topic: TOPIC_REFUND_REQUESTED, refId: refundId, payload: Buffer.from(JSON.stringify(payload)) };
}

export function decodeRefundRequest(payload: Uint8Array): RefundRequest {
  const raw = JSON.parse(Buffer.from(payload).toString()) as Record<keyof RefundRequest, string>;
  const { refundId, orderId, userId, amountFen } = raw;
  return { refundId: BigInt(refundId), orderId: BigInt(orderId), userId, amountFen: BigInt(amountFen) };
}
