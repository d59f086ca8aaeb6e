import type { Transaction } from '../transaction.js';

/** Money that came in. (provider, event id) is its identity: a provider that repeats itself paid once. */
export interface Payment {
  readonly id: bigint;
  readonly orderId: bigint;
  readonly provider: string;
  readonly eventId: string;
  readonly amountFen: bigint;
  /** APPLIED paid its order; REFUNDED goes back to the payer. */
  readonly outcome: 'APPLIED' | 'REFUNDED';
}

/** Money to give back. */
export interface Refund {
  readonly id: bigint;
  readonly orderId: bigint;
  /** Where one payment is behind it. */
  readonly paymentId: bigint | undefined;
  readonly amountFen: bigint;
  readonly reason: string;
}

export abstract class PaymentRepo {
  abstract find(tx: Transaction, provider: string, eventId: string): Promise<Payment | undefined>;
  /** @returns false where (provider, event id) is taken */
  abstract insert(tx: Transaction, payment: Payment): Promise<boolean>;
  abstract insertRefund(tx: Transaction, refund: Refund): Promise<void>;
  /** The payment that paid this order. */
  abstract findApplied(tx: Transaction, orderId: bigint): Promise<Payment | undefined>;
  abstract findRefund(tx: Transaction, paymentId: bigint): Promise<Refund | undefined>;
}
