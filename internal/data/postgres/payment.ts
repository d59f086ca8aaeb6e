import type { Payment } from '../../biz/order/payment.js';
import { PaymentRepo } from '../../biz/order/payment.js';
import type { Transaction } from '../../biz/transaction.js';
import { type Count, Metrics } from '../../kratos/metrics/metrics.js';
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

export class PgPaymentRepo extends PaymentRepo {
  private readonly outcomes: Readonly<Record<Payment['outcome'], Count>>;

  constructor(
    private readonly db: Postgres,
    metrics: Metrics = new Metrics(),
  ) {
    super();
    this.outcomes = metrics.counts(
      'payments_total',
      'Payments that were received: APPLIED paid its order, REFUNDED is paid back.',
      'outcome',
      ['APPLIED', 'REFUNDED'],
    );
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
    if ((await this.db.query(INSERT, values, tx)).rowCount !== 1) return false;
    this.db.afterCommit(tx, () => this.outcomes[p.outcome].add());
    return true;
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
