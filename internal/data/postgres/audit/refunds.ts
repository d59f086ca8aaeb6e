import { ORDER_STATUS } from '../status.js';
import type { SqlInvariant } from './sql-check.js';

/** A refund that waits for a payout this long has missed every retry but the slowest ones. */
const MAX_WAIT = '1 day';

export const REFUNDS: SqlInvariant = {
  invariant: 15,
  rules: [
    {
      name: 'refunds',
      text: `SELECT 'refund ' || r.id AS id,
          format('%s of order %s since %s: %s', r.status, r.order_id, r.created_at, r.last_error) AS detail
        FROM refunds r
        WHERE r.status = 'FAILED'
          OR (r.status IN ('REQUESTED', 'APPROVED') AND r.created_at < now() - interval '${MAX_WAIT}')
        ORDER BY r.id LIMIT $1`,
    },
    {
      name: 'refunding_orders',
      // A WHOLE refund and its order move together: REFUNDING while it is open, CANCELLED when it is done.
      text: `SELECT 'order ' || o.id AS id,
          format('status %s, refunds: %s', o.status, coalesce(string_agg(r.status, ', '), 'none')) AS detail
        FROM orders o LEFT JOIN refunds r ON r.order_id = o.id AND r.kind = 'WHOLE' AND r.status <> 'REFUSED'
        GROUP BY o.id
        HAVING (o.status = ${ORDER_STATUS.REFUNDING})
            <> (count(r.id) FILTER (WHERE r.status IN ('REQUESTED', 'APPROVED', 'FAILED')) = 1)
          OR (count(r.id) FILTER (WHERE r.status = 'DONE') > 0 AND o.status <> ${ORDER_STATUS.CANCELLED})
        ORDER BY o.id LIMIT $1`,
    },
    {
      name: 'refunded_amounts',
      text: `SELECT 'order ' || o.id AS id,
          format('cost %s fen, refunds %s fen, done %s fen, recorded as refunded %s fen', o.amount, sum(r.amount),
            coalesce(sum(r.amount) FILTER (WHERE r.status = 'DONE'), 0), o.refunded_amount) AS detail
        FROM refunds r JOIN orders o ON o.id = r.order_id
        WHERE r.kind IN ('WHOLE', 'LINES') AND r.status <> 'REFUSED'
        GROUP BY o.id
        -- Refunds of whole orders by earlier versions left no trace on the order.
        HAVING sum(r.amount) > o.amount
          OR ((o.kept_quantity IS NOT NULL OR bool_or(r.kind = 'LINES'))
            AND coalesce(sum(r.amount) FILTER (WHERE r.status = 'DONE'), 0) <> o.refunded_amount)
        ORDER BY o.id LIMIT $1`,
    },
    {
      name: 'refunded_units',
      text: `SELECT format('order %s, sku %s', coalesce(i.order_id, l.order_id), coalesce(i.sku_id, l.sku_id)) AS id,
          format('%s units, %s counted as refunded, refunds of lines have %s', i.quantity, i.refunded_quantity,
            coalesce(l.units, 0)) AS detail
        FROM order_items i FULL JOIN (
            SELECT r.order_id, l.sku_id, sum(l.quantity) AS units
            FROM refunds r, jsonb_to_recordset(r.lines) AS l(sku_id bigint, quantity int)
            WHERE r.kind = 'LINES' AND r.status <> 'REFUSED' GROUP BY 1, 2) l
          ON l.order_id = i.order_id AND l.sku_id = i.sku_id
        WHERE coalesce(i.refunded_quantity, 0) <> coalesce(l.units, 0) OR coalesce(l.units, 0) > coalesce(i.quantity, 0)
        ORDER BY coalesce(i.order_id, l.order_id), 1 LIMIT $1`,
    },
  ],
};
