import type { Postgres, Statement } from '../postgres.js';
import { ORDER_STATUS } from '../status.js';
import { BEFORE, KeyedRetention } from './keyed.js';
import { saleOver } from './sale-over.js';

// ONLY: those in the archive are there already. What has an end of its own keeps its order; the function checks again that
// the order is finished and old.
const FIND: Statement = {
  name: 'retention_orders_find',
  text: `SELECT o.id::text AS key, o.created_at >= ${BEFORE} AS young,
      o.status IN (${ORDER_STATUS.CANCELLED}, ${ORDER_STATUS.COMPLETED}) AND o.updated_at < ${BEFORE} AND ${saleOver('o.sale_id')}
        AND NOT EXISTS (SELECT FROM refunds r WHERE r.order_id = o.id AND r.status IN ('REQUESTED', 'APPROVED', 'FAILED'))
        AND NOT EXISTS (SELECT FROM payment_sessions p WHERE p.order_id = o.id AND p.status = 'OPEN') AS deletable
    FROM (SELECT id, status, sale_id, created_at, updated_at FROM ONLY orders WHERE id > $1::bigint ORDER BY id LIMIT $3) AS o
    ORDER BY o.id`,
};

const ARCHIVE: Statement = {
  name: 'retention_orders_archive',
  text: `SELECT archive_orders($1::bigint[], ${BEFORE})::int AS n`,
};

/** Finished orders. They move to the archive with their lines and events; what else refers to them stays where it is. */
export class PgOrderArchive extends KeyedRetention {
  constructor(db: Postgres) {
    super(db, 'orders', { find: FIND, delete: ARCHIVE });
  }
}
