import type { Transaction } from '../transaction.js';

/** A received payment. (provider, event id) is its identity: a repeated event is one payment. */
export interface Payment {
  readonly id: bigint;
  readonly orderId: bigint;
  readonly provider: string;
  readonly eventId: string;
  readonly amountFen: bigint;
  /** APPLIED: it paid its order. REFUNDED: it is refunded. */
  readonly outcome: 'APPLIED' | 'REFUNDED';
}

export abstract class PaymentRepo {
  abstract find(tx: Transaction, provider: string, eventId: string): Promise<Payment | undefined>;
  /** @returns false: (provider, event id) is taken */
  abstract insert(tx: Transaction, payment: Payment): Promise<boolean>;
  /** The payment that paid this order. */
  abstract findApplied(tx: Transaction, orderId: bigint): Promise<Payment | undefined>;
}
