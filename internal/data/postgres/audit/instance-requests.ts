import { ORDER_STATUS } from '../status.js';
import type { SqlInvariant } from './sql-check.js';

/** Retention deleted events from before the request `r`, which has a result. Then all of them are counted. */
const DELETED = `r.status <> 'REQUESTED' AND r.created_at < (SELECT deleted_before FROM retention_marks
  WHERE kind = 'outbox' AND scope = 'instance.created')`;

export const INSTANCE_REQUESTS: SqlInvariant = {
  invariant: 7,
  rules: [
    {
      name: 'requests_of_orders',
      text: `SELECT 'order ' || o.id AS id,
          format('instance %s, %s requests, %s events', coalesce(o.instance_id::text, 'none'),
            count(DISTINCT r.instance_id), count(DISTINCT b.id)) AS detail
        FROM orders o LEFT JOIN instance_requests r ON r.order_id = o.id
        LEFT JOIN outbox b ON b.topic = 'instance.created' AND b.ref_id = r.instance_id
        WHERE o.order_type = 'INSTANCE' AND o.status IN (${ORDER_STATUS.PAID}, ${ORDER_STATUS.COMPLETED}) GROUP BY o.id
        HAVING count(DISTINCT r.instance_id) <> 1
          OR (count(DISTINCT b.id) <> 1 AND NOT (count(b.id) = 0 AND coalesce(bool_and(${DELETED}), false)))
          OR o.instance_id IS DISTINCT FROM min(r.instance_id)
        ORDER BY o.id LIMIT $1`,
    },
    {
      name: 'events_of_requests',
      text: `SELECT 'instance ' || coalesce(r.instance_id, b.ref_id) AS id,
          CASE WHEN r.instance_id IS NULL THEN 'an event without a request'
            WHEN b.ref_id IS NULL AND (${DELETED}) IS NOT TRUE THEN 'a request without an event'
            WHEN o.id IS NULL
              THEN format('source %s, but its order %s does not exist', r.source, coalesce(r.order_id::text, ''))
            ELSE format('order %s is not paid', o.id) END AS detail
        FROM instance_requests r FULL JOIN (SELECT ref_id FROM outbox WHERE topic = 'instance.created') b
          ON b.ref_id = r.instance_id
        LEFT JOIN orders o ON o.id = r.order_id
        WHERE r.instance_id IS NULL OR (b.ref_id IS NULL AND (${DELETED}) IS NOT TRUE) OR o.status = ${ORDER_STATUS.PENDING}
          OR (o.id IS NULL AND (r.order_id IS NOT NULL OR r.source IN ('SECKILL', 'ORDER')))
        ORDER BY coalesce(r.instance_id, b.ref_id) LIMIT $1`,
    },
    {
      name: 'deleted_events',
      text: `SELECT 'outbox of topic ' || m.scope AS id,
          format('%s requests from before %s have no event, but retention deleted %s rows', r.requests,
            m.deleted_before, m.rows_deleted) AS detail
        FROM retention_marks m CROSS JOIN (
            SELECT count(*) AS requests FROM instance_requests r
            LEFT JOIN outbox b ON b.topic = 'instance.created' AND b.ref_id = r.instance_id
            WHERE b.id IS NULL AND ${DELETED}) r
        WHERE m.kind = 'outbox' AND m.scope = 'instance.created' AND r.requests <> m.rows_deleted LIMIT $1`,
    },
  ],
};
