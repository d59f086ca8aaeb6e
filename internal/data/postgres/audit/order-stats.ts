import type { SqlInvariant } from './sql-check.js';

export const ORDER_STATS: SqlInvariant = {
  invariant: 18,
  rules: [
    {
      name: 'order_stats',
      text: `SELECT format('half hour %s, status %s, %s', created_from, status, order_type) AS id,
          format('counted %s orders of %s fen, there are %s of %s', coalesce(s.orders, 0), coalesce(s.amount, 0),
            coalesce(o.orders, 0), coalesce(o.amount, 0)) AS detail
        FROM (SELECT created_from, status, order_type, sum(orders) AS orders, sum(amount) AS amount
            FROM order_stats GROUP BY 1, 2, 3) AS s
        FULL JOIN (SELECT date_bin('30 min', created_at, '2000-01-01Z') AS created_from, status, order_type,
            count(*)::numeric AS orders, sum(amount) AS amount FROM orders GROUP BY 1, 2, 3) AS o
          USING (created_from, status, order_type)
        WHERE (coalesce(s.orders, 0), coalesce(s.amount, 0)) <> (coalesce(o.orders, 0), coalesce(o.amount, 0))
        ORDER BY created_from, status, order_type LIMIT $1`,
    },
  ],
};
