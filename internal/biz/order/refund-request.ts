import { refundNotPossible } from '../../../gen/order/v1/errors.js';
import type { IdGenerator } from '../id-generator.js';
import type { Transaction, TransactionRunner } from '../transaction.js';
import { noOrder, type Order, type OrderRepo } from './order-state.js';
import type { RefundPolicy, RefundUsecase } from './refund.js';
import { RefundableLines, type RefundLine, type RefundUnits } from './refund-lines.js';
import type { Refund, RefundRepo } from './refund-state.js';
import { fingerprintOf, requestReused } from './request-fingerprint.js';

export interface RequestRefund {
  readonly orderId: bigint;
  /** undefined: an operator asks. */
  readonly userId: string | undefined;
  readonly reason: string;
  /** Empty: everything that is left of the order. */
  readonly lines: readonly RefundUnits[];
  /** Empty: each call asks for a refund of its own. */
  readonly requestId: string;
}

/** Bounds what a request has to look at. */
const REFUNDS_MAX = 100;

/**
 * Refunds that buyers ask for. One before shipping is approved at once, one after it waits for an operator. Lines that
 * are all that is left of their order are a refund of the whole order, so that no order is left without units.
 */
export class RefundRequestUsecase {
  constructor(
    private readonly transactions: TransactionRunner,
    private readonly ids: IdGenerator,
    private readonly orders: OrderRepo,
    private readonly refunds: RefundRepo,
    private readonly lifecycle: RefundUsecase,
    private readonly policy: RefundPolicy,
  ) {}

  /**
   * Asks for what is left of an order, or for units of its lines. Asking for the whole again returns the refund under way,
   * as does a repeated request id. A running instance is removed when its refund is approved.
   * @throws ORDER_NOT_FOUND, REFUND_NOT_POSSIBLE, REQUEST_ID_REUSED, INVALID_ARGUMENT lines
   */
  async request(wanted: RequestRefund): Promise<Refund> {
    const id = this.ids.nextId();
    return this.transactions.run((tx) => this.decide(tx, id, wanted), { idempotent: true });
  }

  private async decide(tx: Transaction, id: bigint, wanted: RequestRefund): Promise<Refund> {
    const { orderId, userId, reason, requestId } = wanted;
    const order = (await this.orders.lock(tx, orderId, userId)) ?? noOrder(orderId);
    const before = await this.refunds.listOfOrder(tx, orderId);
    // A run whose COMMIT succeeded but whose reply was lost finds its own refund.
    const own = before.find((r) => r.id === id);
    if (own) return own;
    const fingerprint = fingerprintOf({ lines: wanted.lines, reason });
    const repeated = requestId === '' ? undefined : before.find((r) => r.requestId === requestId);
    if (repeated && repeated.requestFingerprint !== fingerprint) throw requestReused(requestId, orderId);
    if (repeated) return repeated;
    const open = before.find((r) => r.kind === 'WHOLE' && r.status !== 'REFUSED' && r.status !== 'DONE');
    if (open && wanted.lines.length === 0) return open;

    const status = await this.statusFor(tx, order);
    if (before.length >= REFUNDS_MAX) throw notPossible(order, `has ${REFUNDS_MAX} refunds`);
    const granted = before.filter((r) => r.status !== 'REFUSED');
    const left = new RefundableLines(
      order.items,
      granted.map((r) => r.lines),
    );
    const lines = left.take(wanted.lines.length === 0 ? left.units : wanted.lines);
    if (lines.length === 0 && order.orderType === 'GOODS') throw notPossible(order, 'has nothing left to refund');
    const whole = left.isAll(lines);
    if (whole && granted.some((r) => r.status === 'REQUESTED')) {
      throw notPossible(order, 'has another refund that waits for a decision');
    }
    const refundedFen = granted.reduce((sum, r) => sum + r.amountFen, 0n);
    return this.lifecycle.open(tx, order, {
      ...{ id, status, reason, actor: userId === undefined ? 'admin' : 'user' },
      ...(whole
        ? { kind: 'WHOLE', amountFen: order.amountFen - refundedFen }
        : { kind: 'LINES', amountFen: amountOf(lines), lines }),
      ...(requestId !== '' && { requestId, requestFingerprint: fingerprint }),
    });
  }

  /** @throws REFUND_NOT_POSSIBLE */
  private async statusFor(tx: Transaction, order: Order): Promise<'APPROVED' | 'REQUESTED'> {
    // Its report decides: SUCCESS completes the order, FAILED refunds it.
    if (order.orderType === 'INSTANCE' && order.status === 'PAID') throw notPossible(order, 'waits for its instance');
    if (order.status === 'PAID') return 'APPROVED';
    if (order.status === 'SHIPPED') return 'REQUESTED';
    if (order.status !== 'COMPLETED') throw notPossible(order, `is ${order.status}`);
    if (!(await this.orders.isCompletedWithin(tx, order.id, this.policy.afterSaleWindowMs))) {
      throw notPossible(order, 'was completed too long ago');
    }
    return 'REQUESTED';
  }
}

function amountOf(lines: readonly RefundLine[]): bigint {
  return lines.reduce((sum, line) => sum + line.amountFen, 0n);
}

function notPossible({ id, status }: Order, why: string) {
  return refundNotPossible(`order ${id} ${why} and cannot be refunded on request`, {
    metadata: { order_id: String(id), status },
  });
}
