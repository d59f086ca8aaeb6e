import type { OrderStatus } from '../../biz/order/order-state.js';
import type { SaleStatus } from '../../biz/seckill/sale-state.js';
import { type OpenRefundStatus, type SalesState, StateCounts } from '../../biz/state-counts.js';
import type { Postgres, Statement } from './postgres.js';
import { ORDER_STATUS, orderStatusOf, SALE_STATUS, saleStatusOf } from './status.js';

/** The BRIN index on the creation time bounds what is read. */
const ORDERS: Statement = {
  name: 'state_orders',
  text: `SELECT status, count(*)::int AS count FROM orders
    WHERE created_at > now() - interval '24 hours' AND NOT deleted GROUP BY status`,
};

const REFUNDS: Statement = {
  name: 'state_refunds',
  text: `SELECT status, count(*)::int AS count FROM refunds WHERE status IN ('REQUESTED', 'APPROVED', 'FAILED')
    GROUP BY status`,
};

const DEAD_LETTERS: Statement = {
  name: 'state_dead_letters',
  text: `SELECT (SELECT count(*)::int FROM dead_letters WHERE resolved_at IS NULL) AS product,
    (SELECT count(*)::int FROM resource_dead_letters WHERE resolved_at IS NULL) AS resource`,
};

const SALES: Statement = {
  name: 'state_sales',
  text: `SELECT status, count(*)::int AS count, count(*) FILTER (WHERE starts_at < now())::int AS started,
      count(*) FILTER (WHERE ends_at < now())::int AS ended
    FROM sales GROUP BY status`,
};

const CURRENT: Statement = {
  name: 'state_current_sales',
  text: `SELECT item_id, status, total::float8 AS total, sold::float8 AS sold, segments FROM sales
    WHERE status = ${SALE_STATUS.OPEN} OR status = ${SALE_STATUS.SCHEDULED} AND starts_at < now() + interval '1 day'
    ORDER BY status DESC, starts_at, id LIMIT $1`,
};

export class PgStateCounts extends StateCounts {
  constructor(private readonly db: Postgres) {
    super();
  }

  override async orders(): Promise<Record<OrderStatus, number>> {
    const counts = zeros(Object.keys(ORDER_STATUS) as OrderStatus[]);
    const { rows } = await this.db.query<{ status: number; count: number }>(ORDERS, []);
    for (const { status, count } of rows) counts[orderStatusOf(status)] = count;
    return counts;
  }

  override async openRefunds(): Promise<Record<OpenRefundStatus, number>> {
    const counts = zeros<OpenRefundStatus>(['REQUESTED', 'APPROVED', 'FAILED']);
    const { rows } = await this.db.query<{ status: OpenRefundStatus; count: number }>(REFUNDS, []);
    for (const { status, count } of rows) counts[status] = count;
    return counts;
  }

  override async deadLetters(): Promise<Record<'product' | 'resource', number>> {
    const { rows } = await this.db.query<Record<'product' | 'resource', number>>(DEAD_LETTERS, []);
    return rows[0] ?? { product: 0, resource: 0 };
  }

  override async sales(limit: number): Promise<SalesState> {
    const byStatus = zeros(Object.keys(SALE_STATUS) as SaleStatus[]);
    const late = { lateToOpen: 0, lateToClose: 0 };
    const counted = await this.db.query<{ status: number; count: number; started: number; ended: number }>(SALES, []);
    for (const { status, count, started, ended } of counted.rows) {
      byStatus[saleStatusOf(status)] = count;
      if (status === SALE_STATUS.SCHEDULED) late.lateToOpen = started;
      if (status === SALE_STATUS.OPEN) late.lateToClose = ended;
    }
    const { rows } = await this.db.query<CurrentRow>(CURRENT, [limit]);
    const current = rows.map((r) => ({
      itemId: r.item_id,
      status: saleStatusOf(r.status),
      total: r.total,
      sold: r.sold,
      segments: r.segments,
    }));
    return { byStatus, ...late, current };
  }
}

interface CurrentRow {
  item_id: bigint;
  status: number;
  total: number;
  sold: number;
  segments: number;
}

function zeros<Key extends string>(keys: readonly Key[]): Record<Key, number> {
  return Object.fromEntries(keys.map((key) => [key, 0])) as Record<Key, number>;
}
