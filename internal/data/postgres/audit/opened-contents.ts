import { type UnopenedOrder, UnopenedOrders } from '../../../biz/entitlement/entitlement-repair.js';
import type { Postgres, Statement } from '../postgres.js';
import { ORDER_STATUS, orderStatusOf } from '../status.js';
import type { SqlInvariant } from './sql-check.js';

/*
 * Orders that are paid or later and have something to open: the content that they bought, or those that their lines open.
 * Document 003's query reports every paid order without an entitlement; goods that open nothing have none.
 */
const MISSING = `SELECT o.id, o.user_id, o.status, array_agg(w.content_id ORDER BY w.content_id) AS content_ids
  FROM orders o CROSS JOIN LATERAL (
    SELECT o.content_id WHERE o.content_id IS NOT NULL
    UNION SELECT (c->>'content_id')::bigint
    FROM jsonb_array_elements(o.items) AS i, jsonb_array_elements(i->'contents') AS c) AS w(content_id)
  WHERE o.status IN (${ORDER_STATUS.PAID}, ${ORDER_STATUS.SHIPPED}, ${ORDER_STATUS.COMPLETED}) AND NOT EXISTS (
    SELECT FROM order_content_association e WHERE e.order_id = o.id AND e.content_id = w.content_id)`;

const STATUS_NAMES = Object.entries(ORDER_STATUS)
  .map(([name, code]) => `WHEN ${code} THEN '${name}'`)
  .join(' ');

export const OPENED_CONTENTS: SqlInvariant = {
  invariant: 10,
  rules: [
    {
      name: 'unopened_contents',
      text: `SELECT 'order ' || id AS id, format('%s, but its buyer has no entitlement to content %s',
          CASE status ${STATUS_NAMES} END, array_to_string(content_ids, ', ')) AS detail
        FROM (${MISSING} GROUP BY o.id) AS m ORDER BY m.id LIMIT $1`,
    },
    {
      name: 'uncompleted_contents',
      text: `SELECT 'order ' || o.id AS id, 'PAID, though its content is opened' AS detail
        FROM orders o JOIN order_content_association e ON e.order_id = o.id
        WHERE o.order_type = 'CONTENT' AND o.status = ${ORDER_STATUS.PAID} ORDER BY o.id LIMIT $1`,
    },
    {
      name: 'kept_contents',
      text: `SELECT 'entitlement ' || e.id AS id, format('%s, though order %s is %s', e.status, o.id,
          CASE o.status ${STATUS_NAMES} END) AS detail
        FROM order_content_association e JOIN orders o ON o.id = e.order_id
        WHERE o.status IN (${ORDER_STATUS.PENDING}, ${ORDER_STATUS.CANCELLED}) AND e.status <> 'REVOKED'
        ORDER BY e.id LIMIT $1`,
    },
  ],
};

const FIND: Statement = {
  name: 'unopened_orders_find',
  text: `${MISSING} AND o.id > $1 GROUP BY o.id ORDER BY o.id LIMIT $2`,
};

export class PgUnopenedOrders extends UnopenedOrders {
  constructor(private readonly db: Postgres) {
    super();
  }

  override async find(afterId: bigint, limit: number): Promise<readonly UnopenedOrder[]> {
    const { rows } = await this.db.query<UnopenedRow>(FIND, [afterId, limit]);
    return rows.map((row) => ({
      orderId: row.id,
      userId: row.user_id,
      status: orderStatusOf(row.status),
      contentIds: row.content_ids.map(BigInt),
    }));
  }
}

interface UnopenedRow {
  id: bigint;
  user_id: string;
  status: number;
  content_ids: readonly (bigint | string)[];
}
