import { ORDER_STATUS } from '../status.js';
import type { SqlInvariant } from './sql-check.js';

const PAID = `(${ORDER_STATUS.PAID}, ${ORDER_STATUS.COMPLETED}, ${ORDER_STATUS.SHIPPED})`;
const NOT_LIVE = `(${ORDER_STATUS.CANCELLED}, ${ORDER_STATUS.REFUNDING})`;
/** What the granted refunds of a payment add up to. */
const REFUNDED = "coalesce(sum(r.amount) FILTER (WHERE r.status <> 'REFUSED'), 0)";

export const PAYMENTS: SqlInvariant = {
  invariant: 12,
  rules: [
    {
      name: 'payments',
      // Payment by payment: two wrong refunds may cancel each other out in the sums.
      text: `SELECT 'payment ' || p.id AS id,
          format('%s fen of order %s, %s, refunds: %s', p.amount, p.order_id, p.outcome,
            coalesce(string_agg(r.amount || ' fen', ', ' ORDER BY r.id), 'none')) AS detail
        FROM payments p JOIN orders o ON o.id = p.order_id LEFT JOIN refunds r ON r.payment_id = p.id
        GROUP BY p.id, o.id
        HAVING CASE
          WHEN p.outcome = 'REFUNDED' THEN count(r.id) <> 1 OR min(r.amount) <> p.amount OR min(r.kind) <> 'PAYMENT'
          WHEN o.status IN ${NOT_LIVE} THEN ${REFUNDED} <> p.amount OR bool_or(r.kind = 'PAYMENT')
          -- Refunds of lines leave the order as it is.
          ELSE o.status NOT IN ${PAID} OR p.amount <> o.amount OR ${REFUNDED} > p.amount
            OR coalesce(bool_or(r.status <> 'REFUSED' AND r.kind <> 'LINES'), false) END
        ORDER BY p.id LIMIT $1`,
    },
    {
      name: 'paid_orders',
      // A prepaid flash-sale order starts as PAID: its money was received elsewhere. An order that costs nothing is PAID by
      // the system, without a payment.
      text: `SELECT 'order ' || o.id AS id, format('has %s payments', count(p.id)) AS detail
        FROM orders o LEFT JOIN payments p ON p.order_id = o.id AND p.outcome = 'APPLIED'
        WHERE o.status IN ${PAID} AND NOT EXISTS (
          SELECT FROM order_events e
          WHERE e.order_id = o.id AND e.version = 1 AND e.to_status = ${ORDER_STATUS.PAID})
        GROUP BY o.id
        HAVING count(p.id) <> CASE WHEN o.amount = 0 AND EXISTS (
          SELECT FROM order_events e
          WHERE e.order_id = o.id AND e.to_status = ${ORDER_STATUS.PAID} AND e.actor = 'system') THEN 0 ELSE 1 END
        ORDER BY o.id LIMIT $1`,
    },
    {
      name: 'payment_sessions',
      text: `SELECT 'payment session ' || id AS id,
          format('of order %s at %s expired at %s and is still open', order_id, provider, expires_at) AS detail
        FROM payment_sessions WHERE status = 'OPEN' AND expires_at < now() - interval '1 day' ORDER BY id LIMIT $1`,
    },
    {
      name: 'payment_sums',
      text: `SELECT 'all payments' AS id,
          format('%s fen received, %s fen refunded, %s fen due', captured, refunded, due) AS detail
        FROM (SELECT coalesce(sum(amount), 0) AS captured FROM payments) p,
          (SELECT coalesce(sum(amount), 0) AS refunded FROM refunds
            WHERE payment_id IS NOT NULL AND status <> 'REFUSED') r,
          (SELECT coalesce(sum(o.amount - coalesce(l.amount, 0)), 0) AS due
            FROM orders o LEFT JOIN (
                SELECT order_id, sum(amount) AS amount FROM refunds
                WHERE kind = 'LINES' AND status <> 'REFUSED' GROUP BY 1) l
              ON l.order_id = o.id
            WHERE o.status IN ${PAID}
              AND EXISTS (SELECT FROM payments a WHERE a.order_id = o.id AND a.outcome = 'APPLIED')) o
        WHERE captured - refunded <> due LIMIT $1`,
    },
  ],
};
