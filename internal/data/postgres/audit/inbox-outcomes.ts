import type { SqlInvariant } from './sql-check.js';

/** Retention deleted inbox rows of the item of order `o` from before its creation. Then all of them are counted. */
const DELETED = `m.kind = 'inbox_order' AND m.scope = coalesce(o.product_id, o.sku_id)::text AND o.created_at < m.deleted_before`;

export const INBOX_OUTCOMES: SqlInvariant = {
  invariant: 5,
  rules: [
    {
      name: 'inbox_orders',
      text: `SELECT format('entry %s-%s', i.item_id, i.stream_id) AS id,
          CASE WHEN o.id IS NULL THEN format('its order %s does not exist', i.order_id)
            ELSE format('order %s has another user, quantity or sale', o.id) END AS detail
        FROM stream_inbox i LEFT JOIN orders o ON o.id = i.order_id
        WHERE i.outcome = 'ORDER' AND (o.id IS NULL OR o.source <> 'SECKILL'
          OR (o.user_id, o.quantity) IS DISTINCT FROM (i.user_id, i.quantity) OR o.sale_id IS DISTINCT FROM i.sale_id)
        ORDER BY i.created_at, i.item_id, i.stream_id LIMIT $1`,
    },
    {
      name: 'inbox_dead_letters',
      text: `SELECT
          CASE WHEN d.id IS NULL THEN format('entry %s-%s', i.item_id, i.stream_id) ELSE 'dead letter ' || d.id END AS id,
          CASE WHEN d.id IS NULL THEN 'it is DEAD, but has no dead letter'
            ELSE format('%s of %s is not DEAD in the inbox', d.message_id, d.origin) END AS detail
        FROM (SELECT * FROM stream_inbox WHERE outcome = 'DEAD') i
        FULL JOIN (SELECT * FROM dead_letters WHERE origin LIKE 'stream:seckill:%') d
          ON d.origin = 'stream:seckill:' || i.item_id AND d.message_id = i.stream_id
        WHERE i.stream_id IS NULL OR d.id IS NULL
        ORDER BY coalesce(i.created_at, d.created_at), d.id, i.stream_id LIMIT $1`,
    },
    {
      name: 'orders_of_entries',
      text: `SELECT 'order ' || o.id AS id, format('%s inbox rows refer to it', count(i.stream_id)) AS detail
        FROM orders o LEFT JOIN stream_inbox i ON i.order_id = o.id
        LEFT JOIN retention_marks m ON ${DELETED}
        WHERE o.source = 'SECKILL' GROUP BY o.id
        HAVING count(i.stream_id) > 1 OR (count(i.stream_id) = 0 AND count(m.scope) = 0)
        ORDER BY o.id LIMIT $1`,
    },
    {
      name: 'deleted_inbox_rows',
      text: `SELECT 'inbox of item ' || coalesce(m.scope, o.scope) AS id,
          format('%s orders from before %s have no inbox row, but retention deleted %s rows', coalesce(o.orders, 0),
            m.deleted_before, m.rows_deleted) AS detail
        FROM (SELECT * FROM retention_marks WHERE kind = 'inbox_order') m
        FULL JOIN (
            SELECT m.scope, count(*) AS orders FROM orders o JOIN retention_marks m ON ${DELETED}
            WHERE o.source = 'SECKILL' AND NOT EXISTS (SELECT FROM stream_inbox i WHERE i.order_id = o.id)
            GROUP BY m.scope) o
          ON o.scope = m.scope
        WHERE coalesce(o.orders, 0) <> m.rows_deleted
        ORDER BY 1 LIMIT $1`,
    },
  ],
};
