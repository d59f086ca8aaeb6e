import { PaymentProvider, type PayoutOutcome, type RefundOrder } from '../../biz/order/payment-provider.js';
import type { Postgres, Statement } from '../postgres/postgres.js';

// Asked again with the same key it answers the same, as a real provider does.
const PAY_BACK: Statement = {
  name: 'simulated_refund',
  text: `INSERT INTO simulated_refunds (refund_id, order_id, event_id, amount) VALUES ($1, $2, $3, $4)
    ON CONFLICT (refund_id) DO UPDATE SET calls = simulated_refunds.calls + 1
    RETURNING amount = $4 AND event_id = $3 AS same`,
};

/** Stands in for a payment provider: money that goes back becomes a row of `simulated_refunds`. */
export class SimulatedPaymentProvider extends PaymentProvider {
  constructor(
    private readonly db: Postgres,
    override readonly name: string,
  ) {
    super();
  }

  override async refund({ refundId, orderId, eventId, amountFen }: RefundOrder): Promise<PayoutOutcome> {
    const { rows } = await this.db.query<{ same: boolean }>(PAY_BACK, [refundId, orderId, eventId, amountFen]);
    if (rows[0]?.same) return { kind: 'paid' };
    return { kind: 'failed', reason: `refund ${refundId} was asked for with another payment or amount before` };
  }
}
