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
      text: `SELECT 'order ' || o.id AS id, format('paid %s fen, refunds %s fen', o.amount, sum(r.amount)) AS detail
        FROM refunds r JOIN orders o ON o.id = r.order_id
        WHERE r.kind = 'WHOLE' AND r.status <> 'REFUSED'
        GROUP BY o.id HAVING sum(r.amount) > o.amount ORDER BY o.id LIMIT $1`,
    },
  ],
};
