import {
  type OrderSearchFilter,
  OrderSearchRepo,
  type OrderStatsPeriod,
  type OrderStatsRow,
} from '../../biz/order/order-search.js';
import type { Order, OrderType } from '../../biz/order/order-state.js';
import { ORDER_COLUMNS, type OrderRow, orderOf } from './order-row.js';
import type { Postgres, Statement } from './postgres.js';
import { ORDER_STATUS, orderStatusOf } from './status.js';

interface Condition {
  readonly name: string;
  readonly sql: (parameter: string) => string;
  readonly of: (filter: OrderSearchFilter, belowId: bigint | undefined) => unknown;
}

/** One for each thing to filter by. A statement has those that are given, so that the planner can use their indexes. */
const CONDITIONS: readonly Condition[] = [
  { name: 'status', sql: (p) => `status = ${p}`, of: ({ status }) => status && ORDER_STATUS[status] },
  { name: 'type', sql: (p) => `order_type = ${p}`, of: (f) => f.orderType },
  { name: 'source', sql: (p) => `source = ${p}`, of: (f) => f.source },
  { name: 'user', sql: (p) => `user_id = ${p}`, of: (f) => f.userId },
  { name: 'sale', sql: (p) => `sale_id = ${p}`, of: (f) => f.saleId },
  {
    name: 'sku',
    sql: (p) => `id IN (SELECT order_id FROM order_items WHERE sku_id = ${p})`,
    of: (f) => f.skuId,
  },
  { name: 'from', sql: (p) => `created_at >= ${p}`, of: (f) => f.createdFrom },
  { name: 'before', sql: (p) => `created_at < ${p}`, of: (f) => f.createdBefore },
  { name: 'below', sql: (p) => `id < ${p}`, of: (_, belowId) => belowId },
];

// The offset turns a moment into local time, whose date is the day. A period is found by the BRIN index.
const STATS: Statement = {
  name: 'order_stats',
  text: `SELECT to_char(created_at AT TIME ZONE 'UTC' + $3::int * interval '1 minute', 'YYYY-MM-DD') AS day, status, order_type,
      count(*) AS orders, sum(amount)::bigint AS amount
    FROM orders WHERE created_at >= $1 AND created_at < $2 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3`,
};

export class PgOrderSearchRepo extends OrderSearchRepo {
  constructor(private readonly db: Postgres) {
    super();
  }

  override async search(
    filter: OrderSearchFilter,
    belowId: bigint | undefined,
    limit: number,
  ): Promise<readonly Order[]> {
    const given = CONDITIONS.flatMap(({ name, sql, of }) => {
      const value = of(filter, belowId);
      return value === undefined ? [] : [{ name, sql, value }];
    });
    const where = given.map(({ sql }, i) => sql(`$${i + 2}`)).join(' AND ');
    const statement: Statement = {
      name: ['order_search', ...given.map((c) => c.name)].join('_'),
      text: `SELECT ${ORDER_COLUMNS} FROM orders ${where === '' ? '' : `WHERE ${where}`} ORDER BY id DESC LIMIT $1`,
    };
    const { rows } = await this.db.query<OrderRow>(statement, [limit, ...given.map((c) => c.value)]);
    return rows.map(orderOf);
  }

  override async stats({ from, before, utcOffsetMinutes }: OrderStatsPeriod): Promise<readonly OrderStatsRow[]> {
    const { rows } = await this.db.query<StatsRow>(STATS, [from, before, utcOffsetMinutes]);
    return rows.map((row) => ({
      day: row.day,
      status: orderStatusOf(row.status),
      orderType: row.order_type,
      orders: row.orders,
      amountFen: row.amount,
    }));
  }
}

interface StatsRow {
  day: string;
  status: number;
  order_type: OrderType;
  orders: bigint;
  amount: bigint;
}
