import type { Postgres, Statement } from '../postgres.js';
import { ORDER_STATUS } from '../status.js';
import { BEFORE, KeyedRetention } from './keyed.js';
import { addMark } from './marks.js';

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
export class PgOrderEventRetention extends KeyedRetention {
  constructor(db: Postgres) {
    super(db, 'order_events', { find: FIND, delete: DELETE });
  }
}
