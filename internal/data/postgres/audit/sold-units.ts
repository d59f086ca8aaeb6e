import { SOLD_QUANTITY } from '../status.js';
import type { SqlInvariant } from './sql-check.js';

/** Units and not orders are counted, because an order of a sku may have several. */
export const SOLD_UNITS: SqlInvariant = {
  invariant: 1,
  rules: [
    {
      name: 'sold_units',
      text: `SELECT 'sale ' || coalesce(s.id, o.sale_id) AS id,
          CASE WHEN s.id IS NULL THEN format('orders hold %s units of a sale that does not exist', o.units)
            ELSE format('sold %s of %s, orders hold %s', s.sold, s.total, coalesce(o.units, 0)) END AS detail
        FROM sales s FULL JOIN (
            SELECT sale_id, sum(${SOLD_QUANTITY}) AS units FROM orders
            WHERE sale_id IS NOT NULL GROUP BY 1) o
          ON o.sale_id = s.id
        WHERE (s.id IS NULL AND o.units > 0) OR s.sold <> coalesce(o.units, 0) OR o.units > s.total
        ORDER BY coalesce(s.id, o.sale_id) LIMIT $1`,
    },
  ],
};
