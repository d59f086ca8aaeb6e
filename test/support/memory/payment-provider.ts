import { PaymentProvider, type PayoutOutcome, type RefundOrder } from '../../../internal/biz/order/payment-provider.js';

/** Remembers what it paid back, once for each key. The next calls can be made to fail, before or after the payout. */
export class MemoryPaymentProvider extends PaymentProvider {
  readonly paid = new Map<bigint, RefundOrder>();
  calls = 0;
  /** Answers of the next calls; then it pays. "lost": it pays, and the reply is lost. */
  readonly faults: ('refused' | 'unreachable' | 'lost')[] = [];

  constructor(override readonly name: string) {
    super();
  }

  override async refund(order: RefundOrder): Promise<PayoutOutcome> {
    this.calls++;
    const fault = this.faults.shift();
    if (fault === 'refused') return { kind: 'failed', reason: 'the account is closed' };
    if (fault === 'unreachable') throw new Error('connection refused');
    this.paid.set(order.refundId, order);
    if (fault === 'lost') throw new Error('the reply was lost');
    return { kind: 'paid' };
  }
}
