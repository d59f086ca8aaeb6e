import { type ExpiredPage, type ExpiredRows, RetentionStore } from '../../../biz/retention/retention.js';
import type { Transaction } from '../../../biz/transaction.js';
import type { Postgres, Statement } from '../postgres.js';
import { ORDER_STATUS } from '../status.js';
import { addMark } from './marks.js';
import { type FoundRow, pageOf } from './outbox.js';

const BEFORE = `now() - $2::float8 * interval '1 ms'`;
const CLOSED = `(${ORDER_STATUS.CANCELLED}, ${ORDER_STATUS.COMPLETED})`;

const FIND: Statement = {
  name: 'retention_order_events_find',
  text: `SELECT e.order_id::text AS key, e.first >= ${BEFORE} AS young,
      e.last < ${BEFORE} AND e.versions > 1 AND o.status IN ${CLOSED} AS deletable
    FROM (SELECT order_id, min(at) AS first, max(at) AS last, count(*) AS versions
      FROM order_events WHERE order_id > $1::bigint GROUP BY order_id ORDER BY order_id LIMIT $3) AS e
    LEFT JOIN orders o ON o.id = e.order_id ORDER BY e.order_id`,
};

const DELETE: Statement = {
  name: 'retention_order_events_delete',
  text: `WITH gone AS (DELETE FROM order_events e
      WHERE e.order_id = ANY ($1::bigint[]) AND e.version > 1
        AND EXISTS (SELECT FROM orders o WHERE o.id = e.order_id AND o.status IN ${CLOSED})
        AND NOT EXISTS (SELECT FROM order_events l WHERE l.order_id = e.order_id AND l.at >= ${BEFORE})
      RETURNING e.order_id),
    mark AS (${addMark('product', `'order_events'`, `''`, BEFORE)})
    SELECT count(*)::int AS n FROM gone`,
};

/**
 * Events of orders that are cancelled or completed, long after their last one. The first event stays: it alone tells
 * whether the order was created as paid, and the audit of the payments asks that.
 */
export class PgOrderEventRetention extends RetentionStore {
  override readonly kind = 'order_events';

  constructor(private readonly db: Postgres) {
    super();
  }

  override async find(keepMs: number, from = '0', limit = 0): Promise<ExpiredPage> {
    const { rows } = await this.db.query<FoundRow>(FIND, [from, keepMs, limit]);
    return pageOf(rows, limit);
  }

  override async delete(tx: Transaction, { keys }: ExpiredRows, keepMs: number): Promise<number> {
    const { rows } = await this.db.query<{ n: number }>(DELETE, [keys, keepMs], tx);
    return rows[0]?.n ?? 0;
  }
}
