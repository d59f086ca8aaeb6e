import type { SqlInvariant, SqlRule } from './sql-check.js';

const INSTANCE_TABLES = ['instance_requests', 'instance_logs'] as const;

/** A copy of an order in the archive would be counted twice, and no index covers both tables. */
const IN_BOTH: readonly SqlRule[] = [
  {
    name: 'orders_in_both',
    text: `SELECT format('order %s', id) AS id, 'is both in orders and in the archive' AS detail
      FROM ONLY orders JOIN orders_archive USING (id) ORDER BY id LIMIT $1`,
  },
  {
    name: 'order_requests_in_both',
    text: `SELECT format('request %s of user %s', request_id, user_id) AS id, format('orders %s, %s', a.id, o.id) AS detail
      FROM ONLY orders o JOIN orders_archive a USING (user_id, request_id) WHERE a.id <> o.id ORDER BY o.id LIMIT $1`,
  },
];

/** Unique indexes and a trigger prevent all of these, so a violation means that one is missing. */
export const DUPLICATES: SqlInvariant = {
  invariant: 6,
  rules: [
    ...IN_BOTH,
    {
      name: 'req_ids',
      // An order of a sku has no product. The stream of its entry identifies the item.
      text: `SELECT format('request number %s of item %s', req_id, item_id) AS id,
          'orders ' || string_agg(id::text, ', ' ORDER BY id) AS detail
        FROM (SELECT DISTINCT o.id, o.req_id, coalesce(o.product_id, o.sku_id, i.item_id) AS item_id
            FROM orders o LEFT JOIN stream_inbox i ON o.product_id IS NULL AND i.order_id = o.id) AS o
        WHERE item_id IS NOT NULL GROUP BY item_id, req_id HAVING count(*) > 1
        ORDER BY min(id) LIMIT $1`,
    },
    ...INSTANCE_TABLES.flatMap((table): SqlRule[] => [
      {
        name: `${table}_sources`,
        text: `SELECT format('%s %s of product %s in ${table}', source, source_id, product_id) AS id,
            'instances ' || string_agg(instance_id::text, ', ' ORDER BY instance_id) AS detail
          FROM ${table} GROUP BY source, product_id, source_id HAVING count(*) > 1
          ORDER BY min(instance_id) LIMIT $1`,
      },
      {
        name: `${table}_instances`,
        text: `SELECT format('instance %s in ${table}', instance_id) AS id, format('%s times', count(*)) AS detail
          FROM ${table} GROUP BY instance_id HAVING count(*) > 1 ORDER BY instance_id LIMIT $1`,
      },
    ]),
    {
      name: 'orders_instances',
      text: `SELECT format('instance %s in orders', instance_id) AS id,
          'orders ' || string_agg(id::text, ', ' ORDER BY id) AS detail
        FROM orders WHERE instance_id IS NOT NULL GROUP BY instance_id HAVING count(*) > 1
        ORDER BY instance_id LIMIT $1`,
    },
  ],
};
