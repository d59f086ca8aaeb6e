import { ORDER_STATUS } from '../status.js';
import type { SqlInvariant } from './sql-check.js';

export const COUPONS: SqlInvariant = {
  invariant: 17,
  rules: [
    {
      name: 'coupons_given_out',
      text: `SELECT 'coupon ' || c.id AS id,
          format('counts %s of %s as given out, users have %s', c.claimed, c.total, coalesce(u.given, 0)) AS detail
        FROM coupons c
        LEFT JOIN (SELECT coupon_id, count(*) AS given FROM user_coupons GROUP BY 1) u ON u.coupon_id = c.id
        WHERE c.claimed <> coalesce(u.given, 0) OR c.claimed > c.total
        ORDER BY c.id LIMIT $1`,
    },
    {
      name: 'coupons_of_orders',
      // The discount says which coupon an order was placed with. An order that was refunded as a whole has used its coupon,
      // or has given it back. The orders are joined in two steps, because most of them have no coupon.
      text: `SELECT 'coupon of user ' || coalesce(u.id, d.rule_id) AS id,
          format('%s by order %s; order %s is in status %s, its buyer %s the owner, its discount is of coupon %s',
            coalesce(u.status, 'not held'), u.order_id, o.id, o.status,
            CASE WHEN o.user_id = u.user_id THEN 'is' ELSE 'is not' END, d.rule_id) AS detail
        FROM (SELECT id, user_id, status, order_id FROM user_coupons WHERE order_id IS NOT NULL) u
        FULL JOIN (
            SELECT DISTINCT d.order_id, d.rule_id FROM order_discounts d JOIN orders o ON o.id = d.order_id
            WHERE d.rule = 'COUPON' AND o.status <> ${ORDER_STATUS.CANCELLED}) d
          ON d.order_id = u.order_id AND d.rule_id = u.id
        LEFT JOIN orders o ON o.id = coalesce(u.order_id, d.order_id)
        WHERE u.id IS NULL OR o.id IS NULL OR o.user_id <> u.user_id
          OR (u.status = 'HELD') <> (o.status = ${ORDER_STATUS.PENDING})
          OR (u.status = 'USED' AND o.paid_at IS NULL)
          OR NOT EXISTS (SELECT FROM order_discounts x WHERE x.order_id = o.id AND x.rule = 'COUPON' AND x.rule_id = u.id)
        ORDER BY coalesce(u.id, d.rule_id) LIMIT $1`,
    },
    {
      name: 'order_discounts',
      text: `SELECT 'order ' || coalesce(o.id, d.order_id) AS id,
          format('its promotion amount is %s fen, its discounts add up to %s fen', o.promotion_amount,
            coalesce(d.amount, 0)) AS detail
        FROM (SELECT id, promotion_amount FROM orders WHERE promotion_amount <> 0) o
        FULL JOIN (SELECT order_id, sum(amount) AS amount FROM order_discounts GROUP BY 1) d ON d.order_id = o.id
        WHERE coalesce(o.promotion_amount, 0) <> coalesce(d.amount, 0)
        ORDER BY coalesce(o.id, d.order_id) LIMIT $1`,
    },
    {
      name: 'order_line_discounts',
      text: `SELECT format('order %s, sku %s', coalesce(i.order_id, d.order_id), coalesce(i.sku_id, d.sku_id)) AS id,
          format('its share of the discounts is %s fen, they add up to %s fen', i.promotion_amount,
            coalesce(d.amount, 0)) AS detail
        FROM (SELECT order_id, sku_id, promotion_amount FROM order_items WHERE promotion_amount <> 0) i
        FULL JOIN (SELECT order_id, sku_id, sum(amount) AS amount FROM order_discounts GROUP BY 1, 2) d
          ON d.order_id = i.order_id AND d.sku_id = i.sku_id
        WHERE coalesce(i.promotion_amount, 0) <> coalesce(d.amount, 0)
        ORDER BY coalesce(i.order_id, d.order_id), 1 LIMIT $1`,
    },
  ],
};
