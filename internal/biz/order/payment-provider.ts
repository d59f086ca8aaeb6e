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

/** Where buyers' money comes from and goes back to. */
export abstract class PaymentProvider {
  /** As `MarkOrderPaid` names it. */
  abstract readonly name: string;
  /**
   * Pays back. Asking again with the same key pays once.
   * @throws when the outcome is not known: ask again
   */
  abstract refund(order: RefundOrder): Promise<PayoutOutcome>;
}
