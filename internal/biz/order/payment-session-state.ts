import type { Transaction } from '../transaction.js';
import type { StartedPayment } from './payment-provider.js';

export type PaymentSessionStatus = 'OPEN' | 'PAID' | 'CLOSED';

/** A payment that was started at a provider, or is about to be. */
export interface PaymentSession {
  /** Idempotency key of its start, and the reference by which the provider is asked. */
  readonly id: bigint;
  readonly orderId: bigint;
  readonly provider: string;
  readonly amountFen: bigint;
  readonly status: PaymentSessionStatus;
  /** undefined: it is not known that the provider started it. */
  readonly payUrl: string | undefined;
  readonly expiresAt: Date;
  /** Whether `expiresAt` has passed, by the clock that set it. */
  readonly expired: boolean;
  /** Look-ups made. */
  readonly lookUps: number;
  /** Whether the provider must close it, because its order was cancelled or costs another amount now. */
  readonly closing: boolean;
}

export abstract class PaymentSessionRepo {
  /** The newest OPEN session of an order at a provider that has not expired and is not closing. `tx` has locked the order. */
  abstract findOpen(tx: Transaction, orderId: bigint, provider: string): Promise<PaymentSession | undefined>;
  /**
   * Opens a session until the order's pay deadline, to be looked up `lookUpAfterMs` from now.
   * @returns undefined: the deadline has passed
   */
  abstract insert(
    tx: Transaction,
    session: Pick<PaymentSession, 'id' | 'orderId' | 'provider' | 'amountFen'>,
    lookUpAfterMs: number,
  ): Promise<PaymentSession | undefined>;
  /** Records where it is paid. Of several records the first stays. */
  abstract setStarted(id: bigint, started: StartedPayment): Promise<PaymentSession>;
  /** Ends an OPEN session of this order and provider; others stay as they are. */
  abstract end(session: Pick<PaymentSession, 'id' | 'orderId' | 'provider'>, status: 'PAID' | 'CLOSED'): Promise<void>;
  /**
   * Lets the provider close what is still OPEN of these orders, which `tx` has locked: the sessions are due at once.
   * Expired ones stay as they are, because they cannot be paid any more.
   */
  abstract requestClose(tx: Transaction, orderIds: readonly bigint[]): Promise<void>;
  /** Takes OPEN sessions whose look-up is due and that no other process has, for `leaseMs`. */
  abstract claim(limit: number, leaseMs: number): Promise<readonly PaymentSession[]>;
  /**
   * Looks again in `waitMs`; before the session expires at the latest, and again just after it has. A session that was
   * claimed again since stays as it is.
   */
  abstract lookUpAgain(session: PaymentSession, waitMs: number): Promise<void>;
}
