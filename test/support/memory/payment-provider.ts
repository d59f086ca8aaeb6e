import {
  type PaymentLookUp,
  type PaymentOrder,
  PaymentProvider,
  type PayoutOutcome,
  type RefundOrder,
  type StartedPayment,
} from '../../../internal/biz/order/payment-provider.js';

interface StartedOrder {
  readonly order: PaymentOrder;
  state: 'open' | 'paid' | 'closed';
}

/** Remembers what it paid back, once for each key. The next calls can be made to fail, before or after their effect. */
export class MemoryPaymentProvider extends PaymentProvider {
  readonly paid = new Map<bigint, RefundOrder>();
  readonly started = new Map<bigint, StartedOrder>();
  calls = 0;
  /** Answers of the next calls; then it works. "lost": it does its work, and the reply is lost. */
  readonly faults: ('refused' | 'unreachable' | 'lost')[] = [];

  constructor(override readonly name: string) {
    super();
  }

  override start(order: PaymentOrder): Promise<StartedPayment> {
    return this.call(() => {
      const known = this.started.get(order.sessionId) ?? { order, state: 'open' };
      this.started.set(order.sessionId, known);
      return { payUrl: `https://pay.test/${order.sessionId}`, expiresAt: known.order.expiresAt };
    });
  }

  override lookUp(sessionId: bigint): Promise<PaymentLookUp> {
    return this.call(() => this.find(sessionId));
  }

  override close(sessionId: bigint): Promise<PaymentLookUp> {
    return this.call(() => {
      const known = this.started.get(sessionId);
      if (known?.state === 'open') known.state = 'closed';
      return this.find(sessionId);
    });
  }

  override refund(order: RefundOrder): Promise<PayoutOutcome> {
    if (this.faults[0] === 'refused') {
      this.faults.shift();
      this.calls++;
      return Promise.resolve({ kind: 'failed', reason: 'the account is closed' });
    }
    return this.call(() => {
      this.paid.set(order.refundId, order);
      return { kind: 'paid' };
    });
  }

  /** What the buyer does. @returns the event id of the payment */
  end(sessionId: bigint, state: 'paid' | 'closed'): string {
    const known = this.started.get(sessionId);
    if (known?.state !== 'open') throw new Error(`payment ${sessionId} is not open`);
    known.state = state;
    return this.eventOf(sessionId);
  }

  private find(sessionId: bigint): PaymentLookUp {
    const known = this.started.get(sessionId);
    if (!known) return { kind: 'unknown' };
    if (known.state === 'paid') {
      return { kind: 'paid', eventId: this.eventOf(sessionId), amountFen: known.order.amountFen };
    }
    return { kind: known.state === 'closed' || known.order.expiresAt.getTime() <= Date.now() ? 'closed' : 'open' };
  }

  private eventOf(sessionId: bigint): string {
    return `${this.name}-${sessionId}`;
  }

  private async call<T>(work: () => T): Promise<T> {
    this.calls++;
    const fault = this.faults.shift();
    if (fault === 'unreachable' || fault === 'refused') throw new Error('connection refused');
    const result = work();
    if (fault === 'lost') throw new Error('the reply was lost');
    return result;
  }
}
