import type { Payment, Refund } from '../../biz/order/payment.js';
import { PaymentRepo } from '../../biz/order/payment.js';
import type { Transaction } from '../../biz/transaction.js';
import type { Postgres, Statement } from './postgres.js';

const COLUMNS = 'id, order_id, provider, event_id, amount, outcome';

const FIND: Statement = {
  name: 'payment_find',
  text: `SELECT ${COLUMNS} FROM payments WHERE provider = $1 AND event_id = $2`,
};

const FIND_APPLIED: Statement = {
  name: 'payment_find_applied',
  text: `SELECT ${COLUMNS} FROM payments WHERE order_id = $1 AND outcome = 'APPLIED'`,
};

const INSERT: Statement = {
  name: 'payment_insert',
  text: `INSERT INTO payments (${COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (provider, event_id) DO NOTHING`,
};

const INSERT_REFUND: Statement = {
  name: 'refund_insert',
  text: 'INSERT INTO refunds (id, order_id, payment_id, amount, reason) VALUES ($1, $2, $3, $4, left($5, 255))',
};

const FIND_REFUND: Statement = {
  name: 'refund_find_by_payment',
  text: 'SELECT id, order_id, payment_id, amount, reason FROM refunds WHERE payment_id = $1',
};

export class PgPaymentRepo extends PaymentRepo {
  constructor(private readonly db: Postgres) {
    super();
  }

  override async find(tx: Transaction, provider: string, eventId: string): Promise<Payment | undefined> {
    const { rows } = await this.db.query<PaymentRow>(FIND, [provider, eventId], tx);
    return rows[0] && paymentOf(rows[0]);
  }

  override async findApplied(tx: Transaction, orderId: bigint): Promise<Payment | undefined> {
    const { rows } = await this.db.query<PaymentRow>(FIND_APPLIED, [orderId], tx);
    return rows[0] && paymentOf(rows[0]);
  }

  override async insert(tx: Transaction, p: Payment): Promise<boolean> {
    const values = [p.id, p.orderId, p.provider, p.eventId, p.amountFen, p.outcome];
    return (await this.db.query(INSERT, values, tx)).rowCount === 1;
  }

  override async insertRefund(tx: Transaction, r: Refund): Promise<void> {
    await this.db.query(INSERT_REFUND, [r.id, r.orderId, r.paymentId ?? null, r.amountFen, r.reason], tx);
  }

  override async findRefund(tx: Transaction, paymentId: bigint): Promise<Refund | undefined> {
    const { rows } = await this.db.query<RefundRow>(FIND_REFUND, [paymentId], tx);
    return rows[0] && refundOf(rows[0]);
  }
}

interface PaymentRow {
  id: bigint;
  order_id: bigint;
  provider: string;
  event_id: string;
  amount: bigint;
  outcome: Payment['outcome'];
}

interface RefundRow {
  id: bigint;
  order_id: bigint;
  payment_id: bigint | null;
  amount: bigint;
  reason: string;
}

function paymentOf(row: PaymentRow): Payment {
  return {
    id: row.id,
    orderId: row.order_id,
    provider: row.provider,
    eventId: row.event_id,
    amountFen: row.amount,
    outcome: row.outcome,
  };
}

function refundOf(row: RefundRow): Refund {
  return {
    id: row.id,
    orderId: row.order_id,
    paymentId: row.payment_id ?? undefined,
    amountFen: row.amount,
    reason: row.reason,
  };
}
