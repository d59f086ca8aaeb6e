import { setTimeout as sleep } from 'node:timers/promises';
import { signPayment } from '../../biz/order/payment-signature.js';
import { PaymentSimulator, type PayPageButton, type SimulatedPayment } from '../../biz/order/payment-simulator.js';
import type { Logger } from '../../kratos/log/logger.js';
import type { Postgres, Statement } from '../postgres/postgres.js';
import { eventOf, type SimulatorOptions } from './simulator.js';

const COLUMNS = `session_id, order_id, provider, amount, expires_at,
  CASE WHEN status = 'OPEN' AND expires_at <= now() THEN 'EXPIRED' ELSE status END AS status`;

const FIND: Statement = {
  name: 'simulated_payment_find',
  text: `SELECT ${COLUMNS} FROM simulated_payments WHERE session_id = $1`,
};

const MOVE: Statement = {
  name: 'simulated_payment_move',
  text: `UPDATE simulated_payments SET status = $2
    WHERE session_id = $1 AND status = 'OPEN' AND expires_at > now() RETURNING ${COLUMNS}`,
};

const OUTCOME = { pay: 'PAID', decline: 'DECLINED', close: 'CLOSED' } as const satisfies Record<PayPageButton, string>;
const CALLBACK_TIMEOUT_MS = 10_000;
/** Callbacks under way; beyond that they are lost, as real ones may be. */
const CALLBACKS_MAX = 1_000;

/** What buyers do on the pay page, and the callbacks that follow from it: late, lost or repeated, as configured. */
export class SimulatedPayPage extends PaymentSimulator {
  private calling = 0;

  constructor(
    private readonly db: Postgres,
    private readonly options: SimulatorOptions,
    private readonly logger: Logger,
  ) {
    super();
  }

  override async find(sessionId: bigint): Promise<SimulatedPayment | undefined> {
    const { rows } = await this.db.query<PaymentRow>(FIND, [sessionId]);
    return rows[0] && paymentOf(rows[0]);
  }

  override async press(sessionId: bigint, button: PayPageButton): Promise<SimulatedPayment | undefined> {
    if (button === 'decline') {
      const payment = await this.find(sessionId);
      if (payment?.status === 'OPEN') this.callBackLater(payment, button);
      return payment;
    }
    const { rows } = await this.db.query<PaymentRow>(MOVE, [sessionId, OUTCOME[button]]);
    if (!rows[0]) return this.find(sessionId);
    const payment = paymentOf(rows[0]);
    this.callBackLater(payment, button);
    return payment;
  }

  /** A process that dies before it has called back loses the callback; a look-up finds the payment. */
  private callBackLater(payment: SimulatedPayment, button: PayPageButton): void {
    const { lostCallbackRate, repeatedCallbackRate } = this.options;
    if (this.calling >= CALLBACKS_MAX || Math.random() < lostCallbackRate) return;
    const times = Math.random() < repeatedCallbackRate ? 2 : 1;
    this.calling += 1;
    this.callBack(payment, button, times)
      .catch((err: unknown) => this.logger.warn('the callback of a simulated payment failed', { err }))
      .finally(() => {
        this.calling -= 1;
      });
  }

  private async callBack(payment: SimulatedPayment, button: PayPageButton, times: number): Promise<void> {
    const { baseUrl, secret, delayMs } = this.options;
    const { sessionId, orderId, provider, amountFen } = payment;
    const body = JSON.stringify({
      ...{ provider, eventId: eventOf(sessionId), paymentId: String(sessionId), outcome: OUTCOME[button] },
      paidAmountFen: String(amountFen),
    });
    for (let i = 0; i < times; i++) {
      if (delayMs > 0) await sleep(delayMs, undefined, { ref: false });
      const timestamp = String(Math.floor(Date.now() / 1000));
      await fetch(`${baseUrl}/v1/orders/${orderId}/paid`, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          ...(secret !== '' && {
            'x-payment-timestamp': timestamp,
            'x-payment-signature': signPayment(secret, { timestamp, orderId, body }),
          }),
        },
        body,
        signal: AbortSignal.timeout(CALLBACK_TIMEOUT_MS),
      });
    }
  }
}

interface PaymentRow {
  session_id: bigint;
  order_id: bigint;
  provider: string;
  amount: bigint;
  status: SimulatedPayment['status'];
  expires_at: Date;
}

function paymentOf(row: PaymentRow): SimulatedPayment {
  return {
    sessionId: row.session_id,
    orderId: row.order_id,
    provider: row.provider,
    amountFen: row.amount,
    status: row.status,
    expiresAt: row.expires_at,
  };
}
