import type { Postgres, Statement } from './postgres.js';
import { ORDER_STATUS, SALE_STATUS } from './status.js';

/** Work that waits. `oldest` is undefined where nothing does. */
export interface Backlog {
  readonly name: string;
  readonly count: bigint;
  readonly oldest: Date | undefined;
}

const BACKLOGS: Statement = {
  name: 'operations_backlogs',
  text: `SELECT 'outbox ' || topic AS name, count(*) AS count, min(created_at) AS oldest
      FROM outbox WHERE published_at IS NULL GROUP BY topic
    UNION ALL SELECT 'orders past their payment deadline', count(*), min(pay_deadline)
      FROM orders WHERE status = ${ORDER_STATUS.PENDING} AND pay_deadline < now()
    UNION ALL SELECT 'orders past their confirm deadline', count(*), min(confirm_deadline)
      FROM orders WHERE status = ${ORDER_STATUS.SHIPPED} AND confirm_deadline < now()
    UNION ALL SELECT 'instances requested', count(*), min(created_at) FROM instance_requests WHERE status = 'REQUESTED'
    UNION ALL SELECT 'instances being created', count(*), min(created_at) FROM instance_logs WHERE status = 'PROCESSING'
    UNION ALL SELECT 'instances to report', count(*), min(updated_at)
      FROM instance_logs WHERE status <> 'PROCESSING' AND reported_at IS NULL
    UNION ALL SELECT 'refunds to pay out', count(*), min(created_at) FROM refunds WHERE status = 'APPROVED'
    UNION ALL SELECT 'dead letters of product', count(*), min(created_at) FROM dead_letters WHERE resolved_at IS NULL
    UNION ALL SELECT 'dead letters of resource', count(*), min(created_at)
      FROM resource_dead_letters WHERE resolved_at IS NULL`,
};

export async function backlogs(db: Postgres): Promise<readonly Backlog[]> {
  const { rows } = await db.query<{ name: string; count: bigint; oldest: Date | null }>(BACKLOGS, []);
  return rows.map((row) => ({ ...row, oldest: row.oldest ?? undefined }));
}

export interface OpenSale {
  readonly itemId: bigint;
  readonly name: string;
  readonly total: number;
  readonly sold: number;
  readonly endsAt: Date | undefined;
  readonly segments: number;
}

const OPEN_SALES: Statement = {
  name: 'operations_open_sales',
  text: `SELECT item_id, name, total::int AS total, sold::int AS sold, ends_at, segments FROM sales
    WHERE status = ${SALE_STATUS.OPEN} ORDER BY id`,
};

export async function openSales(db: Postgres): Promise<readonly OpenSale[]> {
  const { rows } = await db.query<Omit<OpenSale, 'itemId' | 'endsAt'> & { item_id: bigint; ends_at: Date | null }>(
    OPEN_SALES,
    [],
  );
  return rows.map(({ item_id: itemId, ends_at: endsAt, ...row }) => ({ ...row, itemId, endsAt: endsAt ?? undefined }));
}

/** Something that happened to an order. */
export interface OrderEvent {
  readonly at: Date;
  readonly source: string;
  readonly text: string;
}

const STATUS_NAMES = Object.entries(ORDER_STATUS)
  .map(([name, code]) => `WHEN ${code} THEN '${name}'`)
  .join(' ');

// The time of a stream entry is in its id.
const TIMELINE: Statement = {
  name: 'operations_order_timeline',
  text: `WITH requests AS (SELECT * FROM instance_requests WHERE order_id = $1)
    SELECT at, source, text FROM (
      SELECT to_timestamp(split_part(stream_id, '-', 1)::numeric / 1000.0) AS at, 'stream' AS source, 0 AS place,
          format('purchase %s-%s of %s units', item_id, stream_id, quantity) AS text
        FROM stream_inbox WHERE order_id = $1
      UNION ALL SELECT created_at, 'inbox', 1, outcome FROM stream_inbox WHERE order_id = $1
      UNION ALL SELECT at, 'order', 2, format('%s, version %s, by %s%s', CASE to_status ${STATUS_NAMES} END, version, actor,
          CASE WHEN reason = '' THEN '' ELSE ': ' || reason END) FROM order_events WHERE order_id = $1
      UNION ALL SELECT created_at, 'payment', 3, format('%s fen by %s, event %s: %s', amount, provider, event_id, outcome)
        FROM payments WHERE order_id = $1
      UNION ALL SELECT created_at, 'instance', 4, format('instance %s requested', instance_id) FROM requests
      UNION ALL SELECT o.created_at, 'outbox', 5, format('%s written', o.topic) FROM outbox o JOIN requests r
        ON o.topic = 'instance.created' AND o.ref_id = r.instance_id
      UNION ALL SELECT o.published_at, 'queue', 6, format('%s published', o.topic) FROM outbox o JOIN requests r
        ON o.topic = 'instance.created' AND o.ref_id = r.instance_id WHERE o.published_at IS NOT NULL
      UNION ALL SELECT l.created_at, 'resource', 7, format('instance %s received', l.instance_id) FROM instance_logs l
        JOIN requests r USING (instance_id)
      UNION ALL SELECT l.updated_at, 'resource', 8, format('instance %s is %s%s', l.instance_id, l.status,
          CASE WHEN l.reason = '' THEN '' ELSE ': ' || l.reason END) FROM instance_logs l JOIN requests r USING (instance_id)
        WHERE l.status <> 'PROCESSING'
      UNION ALL SELECT reported_at, 'instance', 9, format('instance %s reported as %s', instance_id, status) FROM requests
        WHERE reported_at IS NOT NULL
      UNION ALL SELECT created_at, 'refund', 10, format('refund %s (%s) of %s fen: %s%s', id, kind, amount, reason,
          CASE WHEN status = 'DONE' THEN '' ELSE '; now ' || status END || CASE WHEN last_error = '' THEN ''
            ELSE ', last error: ' || last_error END) FROM refunds WHERE order_id = $1
      UNION ALL SELECT returned_at, 'refund', 11, format('refund %s: the units came back', id) FROM refunds
        WHERE order_id = $1 AND returned_at IS NOT NULL
      UNION ALL SELECT done_at, 'refund', 12, format('refund %s paid out', id) FROM refunds
        WHERE order_id = $1 AND done_at IS NOT NULL
    ) AS events ORDER BY at, place`,
};

/** Everything that the tables know of an order, oldest first; empty for an unknown order. */
export async function orderTimeline(db: Postgres, orderId: bigint): Promise<readonly OrderEvent[]> {
  const { rows } = await db.query<{ at: Date; source: string; text: string }>(TIMELINE, [orderId]);
  return rows;
}
