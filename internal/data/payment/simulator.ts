import { setTimeout as sleep } from 'node:timers/promises';
import {
  type PaymentLookUp,
  type PaymentOrder,
  PaymentProvider,
  type PayoutOutcome,
  type RefundOrder,
  type StartedPayment,
} from '../../biz/order/payment-provider.js';
import type { Postgres, Statement } from '../postgres/postgres.js';

// Asked again with the same key it answers the same, as a real provider does.
const START: Statement = {
  name: 'simulated_payment_start',
  text: `INSERT INTO simulated_payments (session_id, provider, order_id, amount, expires_at) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (session_id) DO UPDATE SET session_id = excluded.session_id
    RETURNING expires_at`,
};

const LOOK_UP: Statement = {
  name: 'simulated_payment_look_up',
  text: `SELECT status, amount, expires_at <= now() AS expired FROM simulated_payments
    WHERE session_id = $1 AND provider = $2`,
};

const CLOSE: Statement = {
  name: 'simulated_payment_close',
  text: `UPDATE simulated_payments SET status = 'CLOSED' WHERE session_id = $1 AND provider = $2 AND status = 'OPEN'`,
};

const PAY_BACK: Statement = {
  name: 'simulated_refund',
  text: `INSERT INTO simulated_refunds (refund_id, order_id, event_id, amount) VALUES ($1, $2, $3, $4)
    ON CONFLICT (refund_id) DO UPDATE SET calls = simulated_refunds.calls + 1
    RETURNING amount = $4 AND event_id = $3 AS same`,
};

export interface SimulatorOptions {
  /** URL of the pay page and of the callback, without a path. */
  readonly baseUrl: string;
  /** Signs the callbacks; empty: they are not signed. */
  readonly secret: string;
  /** Time of every call, and between a payment and its callback. */
  readonly delayMs: number;
  /** Shares from 0 to 1. */
  readonly failureRate: number;
  readonly lostCallbackRate: number;
  readonly repeatedCallbackRate: number;
}

/** Where the pay page of a session is. */
export const PAY_PAGE = '/simulator/pay/';

/** The id of the event that pays a session. */
export function eventOf(sessionId: bigint): string {
  return `session-${sessionId}`;
}

/** Stands in for a payment provider. Payments are made on its pay page; money that goes back becomes a row. */
export class SimulatedPaymentProvider extends PaymentProvider {
  constructor(
    private readonly db: Postgres,
    override readonly name: string,
    private readonly options: SimulatorOptions,
  ) {
    super();
  }

  override async start({ sessionId, orderId, amountFen, expiresAt }: PaymentOrder): Promise<StartedPayment> {
    await this.delay();
    const values = [sessionId, this.name, orderId, amountFen, expiresAt];
    const { rows } = await this.db.query<{ expires_at: Date }>(START, values);
    return {
      payUrl: `${this.options.baseUrl}${PAY_PAGE}${sessionId}`,
      expiresAt: rows[0]?.expires_at ?? expiresAt,
    };
  }

  override async lookUp(sessionId: bigint): Promise<PaymentLookUp> {
    await this.delay();
    return this.find(sessionId);
  }

  override async close(sessionId: bigint): Promise<PaymentLookUp> {
    await this.delay();
    await this.db.query(CLOSE, [sessionId, this.name]);
    return this.find(sessionId);
  }

  override async refund({ refundId, orderId, eventId, amountFen }: RefundOrder): Promise<PayoutOutcome> {
    await this.delay();
    const { rows } = await this.db.query<{ same: boolean }>(PAY_BACK, [refundId, orderId, eventId, amountFen]);
    if (rows[0]?.same) return { kind: 'paid' };
    return { kind: 'failed', reason: `refund ${refundId} was asked for with another payment or amount before` };
  }

  private async find(sessionId: bigint): Promise<PaymentLookUp> {
    const { rows } = await this.db.query<PaymentRow>(LOOK_UP, [sessionId, this.name]);
    const [found] = rows;
    if (!found) return { kind: 'unknown' };
    if (found.status === 'PAID') return { kind: 'paid', eventId: eventOf(sessionId), amountFen: found.amount };
    return { kind: found.status === 'CLOSED' || found.expired ? 'closed' : 'open' };
  }

  private async delay(): Promise<void> {
    if (this.options.delayMs > 0) await sleep(this.options.delayMs);
    if (Math.random() < this.options.failureRate) throw new Error(`${this.name} fails on purpose`);
  }
}

interface PaymentRow {
  status: 'OPEN' | 'PAID' | 'CLOSED';
  amount: bigint;
  expired: boolean;
}
