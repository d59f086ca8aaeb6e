/** A payment as its buyer sees it on the pay page. */
export interface SimulatedPayment {
  readonly sessionId: bigint;
  readonly orderId: bigint;
  readonly provider: string;
  readonly amountFen: bigint;
  /** EXPIRED: it was not paid in time. */
  readonly status: 'OPEN' | 'PAID' | 'CLOSED' | 'EXPIRED';
  readonly expiresAt: Date;
}

export type PayPageButton = 'pay' | 'decline' | 'close';

/** The buyer's side of the simulated payment providers, outside production. */
export abstract class PaymentSimulator {
  abstract find(sessionId: bigint): Promise<SimulatedPayment | undefined>;
  /**
   * Does what a button of the pay page says, and calls back some time later. A payment that is not OPEN stays as it is.
   * @returns the payment afterwards; undefined: there is none
   */
  abstract press(sessionId: bigint, button: PayPageButton): Promise<SimulatedPayment | undefined>;
}
