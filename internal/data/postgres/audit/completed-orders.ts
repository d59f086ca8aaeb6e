import { ORDER_STATUS } from '../status.js';
import type { SqlInvariant } from './sql-check.js';

export const COMPLETED_ORDERS: SqlInvariant = {
  invariant: 10,
  rules: [
    {
      name: 'completed_orders',
      text: `SELECT 'order ' || o.id AS id,
          CASE WHEN l.id IS NULL AND o.order_type = 'INSTANCE' THEN 'completed, but no log says SUCCESS'
            ELSE format('paid at %s, completed at %s', coalesce(o.paid_at::text, 'no time'),
              coalesce(o.completed_at::text, 'no time')) END AS detail
        FROM orders o LEFT JOIN instance_logs l ON l.instance_id = o.instance_id AND l.status = 'SUCCESS'
        WHERE o.status = ${ORDER_STATUS.COMPLETED}
          AND ((o.order_type = 'INSTANCE' AND l.id IS NULL) OR (o.paid_at <= o.completed_at) IS NOT TRUE)
        ORDER BY o.id LIMIT $1`,
    },
    {
      name: 'shipped_orders',
      text: `SELECT 'order ' || o.id AS id,
          CASE WHEN s.order_id IS NULL AND o.shipped_at IS NULL THEN 'completed, but never shipped'
            WHEN s.order_id IS NULL THEN 'shipped, but without a shipment'
            ELSE 'a shipment of an order that is not shipped' END AS detail
        FROM orders o LEFT JOIN shipments s ON s.order_id = o.id
        WHERE o.order_type = 'GOODS' AND ((o.shipped_at IS NULL) <> (s.order_id IS NULL)
          OR (o.status = ${ORDER_STATUS.COMPLETED} AND o.shipped_at IS NULL))
        ORDER BY o.id LIMIT $1`,
    },
    {
      name: 'reported_orders',
      text: `SELECT 'order ' || o.id AS id, 'PAID, though its instance was reported SUCCESS' AS detail
        FROM orders o JOIN instance_requests r ON r.order_id = o.id AND r.status = 'SUCCESS'
        WHERE o.status = ${ORDER_STATUS.PAID} AND o.order_type = 'INSTANCE' ORDER BY o.id LIMIT $1`,
    },
  ],
};
