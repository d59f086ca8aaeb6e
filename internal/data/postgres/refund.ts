import type { OrderActor } from '../../biz/order/order-state.js';
import type { RefundLine } from '../../biz/order/refund-lines.js';
import {
  type NewRefund,
  type Refund,
  type RefundClaim,
  type RefundFilter,
  type RefundKind,
  type RefundMove,
  RefundRepo,
  type RefundStatus,
} from '../../biz/order/refund-state.js';
import type { Page, PageRequest } from '../../biz/page.js';
import type { Transaction } from '../../biz/transaction.js';
import { type Count, Metrics } from '../../kratos/metrics/metrics.js';
import type { Postgres, Statement } from './postgres.js';
import { PrimaryReads, type Reads } from './reads.js';
import { ORDER_STATUS, orderStatusOf } from './status.js';
import { storableText } from './text.js';

const COLUMNS = `id, order_id, user_id, kind, status, amount, reason, payment_id, order_status, requested_by, decision,
  attempts, last_error, created_at, done_at, lines, request_id, request_fingerprint, returned_at, restocked,
  (SELECT provider FROM payments WHERE payments.id = payment_id) AS provider`;
const ERROR_MAX = 1024;

const INSERT: Statement = {
  name: 'refund_insert',
  text: `WITH r AS (
      INSERT INTO refunds (id, order_id, user_id, kind, status, amount, reason, payment_id, order_status, requested_by,
        lines, request_id, request_fingerprint)
      VALUES ($1, $2, $3, $4, $5, $6, left($7, 255), $8, $9, $10, $11::jsonb, $12, $13)
      RETURNING order_id, lines),
    ${countLines('+')}
    SELECT count(*)::int AS lines FROM i`,
};

/** Counts the lines of the refund in `r`, which is locked with its order. */
function countLines(sign: '+' | '-'): string {
  return `i AS (
      UPDATE order_items i SET refunded_quantity = i.refunded_quantity ${sign} l.quantity
      FROM r, jsonb_to_recordset(r.lines) AS l(sku_id bigint, quantity int)
      WHERE i.order_id = r.order_id AND i.sku_id = l.sku_id
      RETURNING i.sku_id)`;
}

const FIND: Statement = {
  name: 'refund_find',
  text: `SELECT ${COLUMNS} FROM refunds WHERE id = $1 AND ($2::uuid IS NULL OR user_id = $2)`,
};

const LOCK: Statement = { name: 'refund_lock', text: `SELECT ${COLUMNS} FROM refunds WHERE id = $1 FOR UPDATE` };

const FIND_BY_PAYMENT: Statement = {
  name: 'refund_find_by_payment',
  text: `SELECT ${COLUMNS} FROM refunds WHERE payment_id = $1 AND kind = 'PAYMENT'`,
};

const LIST_OF_ORDER: Statement = {
  name: 'refund_list_of_order',
  text: `SELECT ${COLUMNS} FROM refunds WHERE order_id = $1 AND kind <> 'PAYMENT' ORDER BY id`,
};

const FILTER = `($1::text IS NULL OR status = $1) AND ($2::uuid IS NULL OR user_id = $2)
  AND ($3::bigint IS NULL OR order_id = $3)`;

const LIST: Statement = {
  name: 'refund_list',
  text: `SELECT ${COLUMNS} FROM refunds WHERE ${FILTER} ORDER BY id DESC OFFSET $4 LIMIT $5`,
};

const COUNT: Statement = { name: 'refund_count', text: `SELECT count(*) AS total FROM refunds WHERE ${FILTER}` };

const SET_STATUS: Statement = {
  name: 'refund_set_status',
  // A refund that is started again is due at once, with all its attempts.
  text: `UPDATE refunds SET status = $2::text, decision = left(coalesce($3, decision), 255),
      done_at = CASE WHEN $2::text = 'DONE' THEN now() END,
      attempts = CASE WHEN $2::text = 'APPROVED' THEN 0 ELSE attempts END,
      next_attempt_at = CASE WHEN $2::text = 'APPROVED' THEN now() ELSE next_attempt_at END
    WHERE id = $1 RETURNING ${COLUMNS}`,
};

const REFUSE: Statement = {
  name: 'refund_refuse',
  text: `WITH r AS (
      UPDATE refunds SET status = 'REFUSED', decision = left(coalesce($2, decision), 255)
      WHERE id = $1 RETURNING ${COLUMNS}),
    ${countLines('-')}
    SELECT * FROM r`,
};

const SET_RETURNED: Statement = {
  name: 'refund_set_returned',
  text: `UPDATE refunds SET returned_at = now(), restocked = $2 WHERE id = $1 RETURNING ${COLUMNS}`,
};

const CLAIM: Statement = {
  name: 'refund_claim',
  text: `WITH c AS (
      UPDATE refunds SET next_attempt_at = now() + $2 * interval '1 ms', attempts = attempts + 1
      WHERE id = ANY (ARRAY(
        SELECT id FROM refunds WHERE status = 'APPROVED' AND next_attempt_at <= now()
        ORDER BY next_attempt_at LIMIT $1 FOR UPDATE SKIP LOCKED))
      RETURNING ${COLUMNS})
    SELECT c.*, p.event_id FROM c LEFT JOIN payments p ON p.id = c.payment_id ORDER BY c.id`,
};

const RECORD_FAILURE: Statement = {
  name: 'refund_record_failure',
  text: `UPDATE refunds SET last_error = $3, next_attempt_at = now() + $4 * interval '1 ms'
    WHERE id = $1 AND attempts = $2 AND status = 'APPROVED'`,
};

export class PgRefundRepo extends RefundRepo {
  private readonly entered: Readonly<Record<RefundStatus, Count>>;

  constructor(
    private readonly db: Postgres,
    metrics: Metrics = new Metrics(),
    private readonly reads: Reads = new PrimaryReads(db),
  ) {
    super();
    this.entered = metrics.counts(
      'refund_transitions_total',
      'Refunds that entered a status, by status; committed ones only.',
      'to',
      ['REQUESTED', 'APPROVED', 'DONE', 'REFUSED', 'FAILED'],
    );
  }

  override async insert(tx: Transaction, r: NewRefund): Promise<void> {
    const orderStatus = r.orderStatus === undefined ? null : ORDER_STATUS[r.orderStatus];
    const values = [r.id, r.orderId, r.userId, r.kind, r.status, r.amountFen, r.reason, r.paymentId ?? null];
    const request = [r.requestId ?? null, r.requestFingerprint ?? null];
    const lines = r.kind === 'LINES' ? linesJson(r.lines ?? []) : null;
    const { rows } = await this.db.query<{ lines: number }>(
      INSERT,
      [...values, orderStatus, r.requestedBy, lines, ...request],
      tx,
    );
    if (rows[0]?.lines !== (r.lines?.length ?? 0)) throw new Error(`refund ${r.id} has lines that its order has not`);
    this.db.afterCommit(tx, () => this.entered[r.status].add());
    this.db.writesFor(tx, [r.userId]);
  }

  override async find(id: bigint, userId: string | undefined): Promise<Refund | undefined> {
    const { rows } = await this.db.query<RefundRow>(FIND, [id, userId ?? null]);
    return rows[0] && refundOf(rows[0]);
  }

  override async lock(tx: Transaction, id: bigint): Promise<Refund | undefined> {
    const { rows } = await this.db.query<RefundRow>(LOCK, [id], tx);
    return rows[0] && refundOf(rows[0]);
  }

  override async findByPayment(tx: Transaction, paymentId: bigint): Promise<Refund | undefined> {
    const { rows } = await this.db.query<RefundRow>(FIND_BY_PAYMENT, [paymentId], tx);
    return rows[0] && refundOf(rows[0]);
  }

  override async listOfOrder(tx: Transaction, orderId: bigint): Promise<readonly Refund[]> {
    const { rows } = await this.db.query<RefundRow>(LIST_OF_ORDER, [orderId], tx);
    return rows.map(refundOf);
  }

  override async list({ status, userId, orderId }: RefundFilter, page: PageRequest): Promise<Page<Refund>> {
    const filter = [status ?? null, userId ?? null, orderId ?? null];
    const [list, count] = await Promise.all([
      this.reads.query<RefundRow>(userId, LIST, [...filter, page.offset, page.limit]),
      this.reads.query<{ total: bigint }>(userId, COUNT, filter),
    ]);
    return { items: list.rows.map(refundOf), total: count.rows[0]?.total ?? 0n };
  }

  override async setStatus(tx: Transaction, refund: Refund, { to, decision }: RefundMove): Promise<Refund> {
    const { rows } =
      to === 'REFUSED'
        ? await this.db.query<RefundRow>(REFUSE, [refund.id, decision ?? null], tx)
        : await this.db.query<RefundRow>(SET_STATUS, [refund.id, to, decision ?? null], tx);
    const changed = refundOf(rows[0] ?? gone(refund));
    this.db.afterCommit(tx, () => this.entered[to].add());
    this.db.writesFor(tx, [changed.userId]);
    return changed;
  }

  override async setReturned(tx: Transaction, refund: Refund, restocked: boolean): Promise<Refund> {
    const { rows } = await this.db.query<RefundRow>(SET_RETURNED, [refund.id, restocked], tx);
    return refundOf(rows[0] ?? gone(refund));
  }

  override async claim(limit: number, leaseMs: number): Promise<readonly RefundClaim[]> {
    const { rows } = await this.db.query<ClaimRow>(CLAIM, [limit, leaseMs]);
    return rows.map((row) => ({
      refund: refundOf(row),
      payment: row.provider === null ? undefined : { provider: row.provider, eventId: row.event_id },
    }));
  }

  override async recordFailure(refund: Refund, reason: string, retryAfterMs: number): Promise<void> {
    await this.db.query(RECORD_FAILURE, [refund.id, refund.attempts, storableText(reason, ERROR_MAX), retryAfterMs]);
  }
}

interface RefundRow {
  id: bigint;
  order_id: bigint;
  user_id: string;
  kind: RefundKind;
  status: RefundStatus;
  amount: bigint;
  reason: string;
  payment_id: bigint | null;
  order_status: number | null;
  requested_by: OrderActor;
  decision: string;
  attempts: number;
  last_error: string;
  created_at: Date;
  done_at: Date | null;
  lines: readonly LineJson[] | null;
  request_id: string | null;
  request_fingerprint: string | null;
  returned_at: Date | null;
  restocked: boolean;
  provider: string | null;
}

type ClaimRow = RefundRow & ({ provider: string; event_id: string } | { provider: null });

function refundOf(row: RefundRow): Refund {
  return {
    id: row.id,
    orderId: row.order_id,
    userId: row.user_id,
    kind: row.kind,
    status: row.status,
    amountFen: row.amount,
    reason: row.reason,
    paymentId: row.payment_id ?? undefined,
    provider: row.provider ?? undefined,
    orderStatus: row.order_status === null ? undefined : orderStatusOf(row.order_status),
    requestedBy: row.requested_by,
    decision: row.decision,
    attempts: row.attempts,
    lastError: row.last_error,
    createdAt: row.created_at,
    doneAt: row.done_at ?? undefined,
    lines: row.lines?.map(lineOf) ?? [],
    requestId: row.request_id ?? undefined,
    requestFingerprint: row.request_fingerprint ?? undefined,
    returnedAt: row.returned_at ?? undefined,
    restocked: row.restocked,
  };
}

/** A line of a refund as its row has it. Ids and amounts are text, because JSON numbers lose digits. */
interface LineJson {
  readonly sku_id: string;
  readonly quantity: number;
  readonly amount: string;
}

function linesJson(lines: readonly RefundLine[]): string {
  return JSON.stringify(
    lines.map(
      ({ skuId, quantity, amountFen }): LineJson => ({ sku_id: String(skuId), quantity, amount: String(amountFen) }),
    ),
  );
}

function lineOf({ sku_id, quantity, amount }: LineJson): RefundLine {
  return { skuId: BigInt(sku_id), quantity, amountFen: BigInt(amount) };
}

function gone({ id }: Refund): never {
  throw new Error(`refund ${id} does not exist`);
}
