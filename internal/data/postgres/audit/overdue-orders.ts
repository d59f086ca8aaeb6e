import { ORDER_STATUS } from '../status.js';
import type { SqlInvariant } from './sql-check.js';

export const OVERDUE_ORDERS: SqlInvariant = {
  invariant: 11,
  rules: [
    {
      name: 'overdue_orders',
      // The sweeper runs every second. A minute is longer than any of its pauses.
      text: `SELECT 'order ' || id AS id, format('had to be paid by %s', coalesce(pay_deadline::text, 'no time')) AS detail
        FROM orders
        WHERE status = ${ORDER_STATUS.PENDING}
          AND (pay_deadline IS NULL OR pay_deadline < now() - interval '1 minute')
        ORDER BY id LIMIT $1`,
    },
    {
      name: 'unconfirmed_orders',
      text: `SELECT 'order ' || id AS id, format('had to be confirmed by %s', confirm_deadline) AS detail
        FROM orders WHERE status = ${ORDER_STATUS.SHIPPED} AND confirm_deadline < now() - interval '5 minutes'
        ORDER BY id LIMIT $1`,
    },
  ],
};
