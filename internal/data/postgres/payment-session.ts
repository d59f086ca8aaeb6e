import type { StartedPayment } from '../../biz/order/payment-provider.js';
import {
  type PaymentSession,
  PaymentSessionRepo,
  type PaymentSessionStatus,
} from '../../biz/order/payment-session-state.js';
import type { Transaction } from '../../biz/transaction.js';
import { int8s } from './column.js';
import type { Postgres, Statement } from './postgres.js';

const COLUMNS = `id, order_id, provider, amount, status, pay_url, expires_at, expires_at <= now() AS expired, look_ups,
  close_requested_at IS NOT NULL AS closing`;

const FIND_OPEN: Statement = {
  name: 'payment_session_find_open',
  text: `SELECT ${COLUMNS} FROM payment_sessions
    WHERE order_id = $1 AND provider = $2 AND status = 'OPEN' AND expires_at > now()
      AND close_requested_at IS NULL ORDER BY id DESC LIMIT 1`,
};

const INSERT: Statement = {
  name: 'payment_session_insert',
  text: `INSERT INTO payment_sessions (id, order_id, provider, amount, expires_at, next_look_up_at)
    SELECT $1, id, $3, $4, pay_deadline, now() + $5 * interval '1 ms' FROM orders WHERE id = $2 AND pay_deadline > now()
    RETURNING ${COLUMNS}`,
};

const SET_STARTED: Statement = {
  name: 'payment_session_set_started',
  text: `UPDATE payment_sessions SET pay_url = coalesce(pay_url, $2),
      expires_at = CASE WHEN pay_url IS NULL THEN least(expires_at, $3) ELSE expires_at END
    WHERE id = $1 RETURNING ${COLUMNS}`,
};

const END: Statement = {
  name: 'payment_session_end',
  text: `UPDATE payment_sessions SET status = $4, ended_at = now()
    WHERE id = $1 AND order_id = $2 AND provider = $3 AND status = 'OPEN'`,
};

// A look-up that is under way must not put off the close: it finds another number of look-ups.
const REQUEST_CLOSE: Statement = {
  name: 'payment_session_request_close',
  text: `UPDATE payment_sessions SET close_requested_at = coalesce(close_requested_at, now()), next_look_up_at = now(),
      look_ups = look_ups + 1
    WHERE order_id = ANY ($1::bigint[]) AND status = 'OPEN' AND expires_at > now()`,
};

const CLAIM: Statement = {
  name: 'payment_session_claim',
  text: `UPDATE payment_sessions SET next_look_up_at = now() + $2 * interval '1 ms', look_ups = look_ups + 1
    WHERE id = ANY (ARRAY(
      SELECT id FROM payment_sessions WHERE status = 'OPEN' AND next_look_up_at <= now()
      ORDER BY next_look_up_at LIMIT $1 FOR UPDATE SKIP LOCKED))
    RETURNING ${COLUMNS}`,
};

// Five seconds before the order times out, a payment that is found still pays it.
const LOOK_UP_AGAIN: Statement = {
  name: 'payment_session_look_up_again',
  text: `UPDATE payment_sessions SET next_look_up_at = CASE
      WHEN expires_at > now() + interval '5 s' THEN least(now() + $3 * interval '1 ms', expires_at - interval '5 s')
      WHEN expires_at > now() THEN expires_at + interval '1 s'
      ELSE now() + $3 * interval '1 ms' END
    WHERE id = $1 AND look_ups = $2 AND status = 'OPEN'`,
};

export class PgPaymentSessionRepo extends PaymentSessionRepo {
  constructor(private readonly db: Postgres) {
    super();
  }

  override async findOpen(tx: Transaction, orderId: bigint, provider: string): Promise<PaymentSession | undefined> {
    const { rows } = await this.db.query<SessionRow>(FIND_OPEN, [orderId, provider], tx);
    return rows[0] && sessionOf(rows[0]);
  }

  override async insert(
    tx: Transaction,
    { id, orderId, provider, amountFen }: Pick<PaymentSession, 'id' | 'orderId' | 'provider' | 'amountFen'>,
    lookUpAfterMs: number,
  ): Promise<PaymentSession | undefined> {
    const { rows } = await this.db.query<SessionRow>(INSERT, [id, orderId, provider, amountFen, lookUpAfterMs], tx);
    return rows[0] && sessionOf(rows[0]);
  }

  override async setStarted(id: bigint, { payUrl, expiresAt }: StartedPayment): Promise<PaymentSession> {
    const { rows } = await this.db.query<SessionRow>(SET_STARTED, [id, payUrl, expiresAt]);
    if (!rows[0]) throw new Error(`payment session ${id} does not exist`);
    return sessionOf(rows[0]);
  }

  override async end(
    { id, orderId, provider }: Pick<PaymentSession, 'id' | 'orderId' | 'provider'>,
    status: 'PAID' | 'CLOSED',
  ): Promise<void> {
    await this.db.query(END, [id, orderId, provider, status]);
  }

  override async requestClose(tx: Transaction, orderIds: readonly bigint[]): Promise<void> {
    await this.db.query(REQUEST_CLOSE, [int8s(orderIds, (id) => id)], tx);
  }

  override async claim(limit: number, leaseMs: number): Promise<readonly PaymentSession[]> {
    const { rows } = await this.db.query<SessionRow>(CLAIM, [limit, leaseMs]);
    return rows.map(sessionOf);
  }

  override async lookUpAgain({ id, lookUps }: PaymentSession, waitMs: number): Promise<void> {
    await this.db.query(LOOK_UP_AGAIN, [id, lookUps, waitMs]);
  }
}

interface SessionRow {
  id: bigint;
  order_id: bigint;
  provider: string;
  amount: bigint;
  status: PaymentSessionStatus;
  pay_url: string | null;
  expires_at: Date;
  expired: boolean;
  look_ups: number;
  closing: boolean;
}

function sessionOf(row: SessionRow): PaymentSession {
  return {
    id: row.id,
    orderId: row.order_id,
    provider: row.provider,
    amountFen: row.amount,
    status: row.status,
    payUrl: row.pay_url ?? undefined,
    expiresAt: row.expires_at,
    expired: row.expired,
    lookUps: row.look_ups,
    closing: row.closing,
  };
}
