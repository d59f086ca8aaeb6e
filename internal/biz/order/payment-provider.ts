/** A payment as a provider is asked to start it. */
export interface PaymentOrder {
  /** Idempotency key: the same key starts one payment. */
  readonly sessionId: bigint;
  readonly orderId: bigint;
  readonly amountFen: bigint;
  /** From then on it must not be paid. */
  readonly expiresAt: Date;
}

/** Where a buyer pays. */
export interface StartedPayment {
  readonly payUrl: string;
  /** At most the time that was asked for. */
  readonly expiresAt: Date;
}

/** What a provider knows of a payment. Once it is past its expiry, it is not `open`. */
export type PaymentLookUp =
  /** It can still be paid. */
  | { readonly kind: 'open' }
  /** `eventId` as in the callback. */
  | { readonly kind: 'paid'; readonly eventId: string; readonly amountFen: bigint }
  /** It was not paid and cannot be any more. */
  | { readonly kind: 'closed' }
  /** The provider was never asked to start it. */
  | { readonly kind: 'unknown' };

/** The refund of one payment, as a provider is asked for it. */
export interface RefundOrder {
  /** Idempotency key: the same key pays once, whatever the provider answered before. */
  readonly refundId: bigint;
  readonly orderId: bigint;
  /** The provider's own id of the payment. */
  readonly eventId: string;
  readonly amountFen: bigint;
}

export type PayoutOutcome =
  | { readonly kind: 'paid' }
  /** For now: try again later. */
  | { readonly kind: 'failed'; readonly reason: string };

/** Where buyers' money comes from and goes back to. Its calls bound their own waits. */
export abstract class PaymentProvider {
  /** As `MarkOrderPaid` names it. */
  abstract readonly name: string;
  /**
   * Starts a payment. Asking again with the same key returns the same payment.
   * @throws when the outcome is not known: ask again
   */
  abstract start(order: PaymentOrder): Promise<StartedPayment>;
  /** @throws when the provider cannot be asked: ask again */
  abstract lookUp(sessionId: bigint): Promise<PaymentLookUp>;
  /**
   * Closes a payment, so that it cannot be paid any more. One that is paid stays paid. Closing it again changes nothing.
   * @returns what became of it
   * @throws when the outcome is not known: ask again
   */
  abstract close(sessionId: bigint): Promise<PaymentLookUp>;
  /**
   * Pays back. Asking again with the same key pays once.
   * @throws when the outcome is not known: ask again
   */
  abstract refund(order: RefundOrder): Promise<PayoutOutcome>;
}
