import { REFUNDED } from '../../../biz/order/order-state.js';
import { ORDER_STATUS } from '../status.js';
import type { SqlInvariant } from './sql-check.js';

export const STOCK: SqlInvariant = {
  invariant: 13,
  rules: [
    {
      name: 'stock_levels',
      text: `SELECT 'sku ' || k.id AS id,
          format('stock %s, locked %s; the ledger adds up to %s and %s; sales hold %s, unpaid orders %s', k.stock,
            k.lock_stock, coalesce(m.stock, 0), coalesce(m.locked, 0), coalesce(s.units, 0), coalesce(u.units, 0))
            AS detail
        FROM sku k
        LEFT JOIN (
            SELECT sku_id, sum(stock_delta) AS stock, sum(lock_delta) AS locked FROM stock_moves GROUP BY 1) m
          ON m.sku_id = k.id
        LEFT JOIN (
            SELECT item_id, sum(total - sold - returned) AS units FROM sales WHERE order_type = 'GOODS' GROUP BY 1) s
          ON s.item_id = k.id
        LEFT JOIN (
            SELECT i.sku_id, sum(i.quantity) AS units FROM orders o JOIN order_items i ON i.order_id = o.id
            WHERE o.status = ${ORDER_STATUS.PENDING} GROUP BY 1) u
          ON u.sku_id = k.id
        WHERE k.lock_stock NOT BETWEEN 0 AND k.stock
          OR (k.stock, k.lock_stock) <> (coalesce(m.stock, 0), coalesce(m.locked, 0))
          OR k.lock_stock <> coalesce(s.units, 0) + coalesce(u.units, 0)
        ORDER BY k.id LIMIT $1`,
    },
    {
      name: 'stock_of_orders',
      // The moves of an order follow from its status: an unpaid one holds, a paid one deducts, a cancelled one returns.
      text: `SELECT format('order %s, sku %s', coalesce(o.id, m.order_id), coalesce(o.sku_id, m.sku_id)) AS id,
          format('status %s, %s units; its ledger: %s', o.status, o.quantity, coalesce(m.moves, 'none')) AS detail
        FROM (
            SELECT o.id, o.status, o.close_reason, i.sku_id, i.quantity
            FROM orders o LEFT JOIN order_items i ON i.order_id = o.id WHERE o.order_type = 'GOODS') o
        FULL JOIN (
            SELECT order_id, sku_id, string_agg(kind || ' ' || units, ', ' ORDER BY id) AS moves,
              min(units) FILTER (WHERE kind <> 'RESTOCK') AS least, max(units) FILTER (WHERE kind <> 'RESTOCK') AS most,
              bool_or(kind = 'HOLD') AS held, bool_or(kind = 'DEDUCT') AS deducted, bool_or(kind = 'RETURN') AS returned
            FROM stock_moves WHERE order_id IS NOT NULL GROUP BY 1, 2) m
          ON m.order_id = o.id AND m.sku_id = o.sku_id
        WHERE o.quantity IS NULL OR m.order_id IS NULL OR (m.least, m.most) IS DISTINCT FROM (o.quantity, o.quantity)
          OR CASE
            WHEN o.status = ${ORDER_STATUS.PENDING} THEN NOT m.held OR m.deducted OR m.returned
            WHEN o.status = ${ORDER_STATUS.CANCELLED} AND o.close_reason <> '${REFUNDED}'
              THEN NOT m.held OR m.deducted OR NOT m.returned
            ELSE NOT m.deducted OR m.returned END
        ORDER BY coalesce(o.id, m.order_id), 1 LIMIT $1`,
    },
    {
      name: 'stock_of_refunds',
      // Units that never left come back when their refund is done; shipped ones when their return is received.
      text: `SELECT format('refund %s, sku %s', coalesce(r.id, m.refund_id), coalesce(r.sku_id, m.sku_id)) AS id,
          format('%s units are due back, %s came back', coalesce(r.units, 0), coalesce(m.units, 0)) AS detail
        FROM (
            SELECT r.id, r.order_id, i.sku_id,
              CASE r.kind WHEN 'LINES' THEN l.quantity ELSE i.quantity - i.refunded_quantity END AS units
            FROM refunds r JOIN order_items i ON i.order_id = r.order_id
            LEFT JOIN LATERAL jsonb_to_recordset(r.lines) AS l(sku_id bigint, quantity int) ON l.sku_id = i.sku_id
            WHERE r.kind <> 'PAYMENT' AND CASE r.order_status WHEN ${ORDER_STATUS.PAID} THEN r.status = 'DONE'
              ELSE r.restocked END) r
        FULL JOIN (
            -- Moves of earlier versions name no refund; such an order has one.
            SELECT coalesce(m.refund_id, w.id) AS refund_id, m.order_id, m.sku_id, sum(m.units) AS units
            FROM stock_moves m LEFT JOIN refunds w
              ON m.refund_id IS NULL AND w.order_id = m.order_id AND w.kind = 'WHOLE' AND w.status <> 'REFUSED'
            WHERE m.kind = 'RESTOCK' GROUP BY 1, 2, 3) m
          ON m.refund_id = r.id AND m.order_id = r.order_id AND m.sku_id = r.sku_id
        WHERE coalesce(r.units, 0) <> coalesce(m.units, 0)
        ORDER BY coalesce(r.id, m.refund_id), 1 LIMIT $1`,
    },
    {
      name: 'kept_units',
      text: `SELECT 'order ' || o.id AS id,
          format('%s units, %s kept, %s came back', o.quantity, o.kept_quantity, coalesce(m.units, 0)) AS detail
        FROM orders o LEFT JOIN (
            SELECT order_id, sum(units) AS units FROM stock_moves WHERE kind = 'RESTOCK' GROUP BY 1) m
          ON m.order_id = o.id
        WHERE o.order_type = 'GOODS' AND o.kept_quantity <> o.quantity - coalesce(m.units, 0)
        ORDER BY o.id LIMIT $1`,
    },
  ],
};
