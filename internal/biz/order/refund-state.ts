import type { Page, PageRequest } from '../page.js';
import type { Transaction } from '../transaction.js';
import type { OrderActor, OrderStatus } from './order-state.js';
import type { RefundLine } from './refund-lines.js';

/**
 * WHOLE: what is left of the order's amount, and the order ends as CANCELLED. LINES: units of its lines; the order keeps
 * its status. PAYMENT: a payment that paid nothing; the order stays as it is.
 */
export type RefundKind = 'WHOLE' | 'LINES' | 'PAYMENT';
export type RefundStatus = 'REQUESTED' | 'APPROVED' | 'DONE' | 'REFUSED' | 'FAILED';

/** Money that goes back to a buyer. */
export interface Refund {
  readonly id: bigint;
  readonly orderId: bigint;
  /** The buyer. */
  readonly userId: string;
  readonly kind: RefundKind;
  readonly status: RefundStatus;
  readonly amountFen: bigint;
  readonly reason: string;
  /** The payment that is paid back; undefined: the money was received outside Kaimai. */
  readonly paymentId: bigint | undefined;
  /** Who received that payment. */
  readonly provider: string | undefined;
  /**
   * WHOLE and LINES: the order's status when the refund was requested. A refusal returns the order of a WHOLE refund to
   * it; and unless it is PAID, the units were shipped and come back when the return is received.
   */
  readonly orderStatus: OrderStatus | undefined;
  /** LINES: its units, by sku id. */
  readonly lines: readonly RefundLine[];
  /** Idempotency key of the request, unique for each order. */
  readonly requestId: string | undefined;
  /** What the request id asked for, as `fingerprintOf` gives it. */
  readonly requestFingerprint: string | undefined;
  readonly requestedBy: OrderActor;
  /** Why an operator refused it; empty otherwise. */
  readonly decision: string;
  /** Payouts tried. */
  readonly attempts: number;
  /** Why the last payout failed; empty: it did not. */
  readonly lastError: string;
  readonly createdAt: Date;
  /** When the money went back. */
  readonly doneAt: Date | undefined;
  /** When the shipped units came back; undefined: they did not, or were never shipped. */
  readonly returnedAt: Date | undefined;
  /** Whether the units that came back are on sale again. */
  readonly restocked: boolean;
}

export interface NewRefund
  extends Pick<
      Refund,
      'id' | 'orderId' | 'userId' | 'kind' | 'amountFen' | 'reason' | 'paymentId' | 'orderStatus' | 'requestedBy'
    >,
    Partial<Pick<Refund, 'lines' | 'requestId' | 'requestFingerprint'>> {
  readonly status: 'REQUESTED' | 'APPROVED';
}

/** A change of status, and what is written with it. */
export interface RefundMove {
  readonly to: RefundStatus;
  readonly decision?: string;
}

/** An approved refund that this process pays out until its lease ends, with the payment behind it. */
export interface RefundClaim {
  /** `attempts` counts this one. */
  readonly refund: Refund;
  readonly payment: { readonly provider: string; readonly eventId: string } | undefined;
}

export interface RefundFilter {
  readonly status?: RefundStatus | undefined;
  readonly userId?: string | undefined;
  readonly orderId?: bigint | undefined;
}

export abstract class RefundRepo {
  /** Counts the units of its lines as refunded. @throws when a line has fewer units left */
  abstract insert(tx: Transaction, refund: NewRefund): Promise<void>;
  /** `userId` undefined reads any user's refund. */
  abstract find(id: bigint, userId: string | undefined): Promise<Refund | undefined>;
  /** The refund, locked until `tx` ends. Lock its order first. */
  abstract lock(tx: Transaction, id: bigint): Promise<Refund | undefined>;
  /** The PAYMENT refund of a payment. */
  abstract findByPayment(tx: Transaction, paymentId: bigint): Promise<Refund | undefined>;
  /** The WHOLE and LINES refunds of an order, oldest first. Its order is locked by `tx`. */
  abstract listOfOrder(tx: Transaction, orderId: bigint): Promise<readonly Refund[]>;
  /** Newest first. */
  abstract list(filter: RefundFilter, page: PageRequest): Promise<Page<Refund>>;
  /**
   * Only `moveRefund` calls it. The refund is locked by `tx`. The units of a refused one are no longer counted as
   * refunded.
   */
  abstract setStatus(tx: Transaction, refund: Refund, move: RefundMove): Promise<Refund>;
  /** The shipped units of a refund came back. The refund is locked by `tx`. */
  abstract setReturned(tx: Transaction, refund: Refund, restocked: boolean): Promise<Refund>;
  /**
   * Takes APPROVED refunds whose time has come and that no other process has, oldest first, for `leaseMs`. A process that
   * dies costs the length of a lease.
   */
  abstract claim(limit: number, leaseMs: number): Promise<readonly RefundClaim[]>;
  /** Records why a payout failed. A refund that was claimed again since stays as it is. */
  abstract recordFailure(refund: Refund, reason: string, retryAfterMs: number): Promise<void>;
}

/*
 * REQUESTED → APPROVED   by an operator; by itself before shipping, for failed instances and for payments that fit no order
 * REQUESTED → REFUSED    by an operator
 * APPROVED  → DONE       the money went back
 * APPROVED  → FAILED     the attempts are used up: an alarm
 * FAILED    → APPROVED   an operator starts it again
 */
const TRANSITIONS: Readonly<Record<RefundStatus, readonly RefundStatus[]>> = {
  REQUESTED: ['APPROVED', 'REFUSED'],
  APPROVED: ['DONE', 'FAILED'],
  FAILED: ['APPROVED'],
  DONE: [],
  REFUSED: [],
};

export function canMoveRefund(from: RefundStatus, to: RefundStatus): boolean {
  return TRANSITIONS[from].includes(to);
}
