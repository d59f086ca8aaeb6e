import {
  type OrderSearchFilter,
  OrderSearchRepo,
  type OrderStatsPeriod,
  type OrderStatsRow,
} from '../../biz/order/order-search.js';
import type { Order, OrderType } from '../../biz/order/order-state.js';
import { ORDER_COLUMNS, type OrderRow, orderOf } from './order-row.js';
import type { Postgres, Statement } from './postgres.js';
import { PrimaryReads, type Reads } from './reads.js';
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

/** Of a row of `order_stats`; a whole number of them is a day anywhere but in a few small time zones. */
const SLOT_MS = 1_800_000;

function stats(name: string, from: string): Statement {
  // The offset turns a moment into local time, whose date is the day.
  return {
    name,
    text: `SELECT to_char(day, 'YYYY-MM-DD') AS day, status, order_type, orders::bigint, amount::bigint FROM (
        SELECT (at AT TIME ZONE 'UTC' + $3::int * interval '1 minute')::date AS day, status, order_type, sum(orders) AS orders,
          sum(amount) AS amount FROM (${from}) AS counts GROUP BY 1, 2, 3) AS sums
      WHERE orders <> 0 ORDER BY 1, 2, 3`,
  };
}

// A period is found by the BRIN index.
const orders = (
  from: string,
  before: string,
) => `SELECT created_at AS at, status, order_type, 1 AS orders, amount FROM orders
  WHERE created_at >= ${from} AND created_at < ${before}`;

const STATS_OF_ORDERS = stats('order_stats_of_orders', orders('$1::timestamptz', '$2::timestamptz'));
// Only what is left of the first and the last half hour is counted order by order.
const STATS = stats(
  'order_stats',
  `SELECT created_from AS at, status, order_type, orders, amount FROM order_stats
    WHERE created_from >= $4::timestamptz AND created_from < $5::timestamptz
  UNION ALL ${orders('$1::timestamptz', '$4')} UNION ALL ${orders('$5', '$2::timestamptz')}`,
);

export class PgOrderSearchRepo extends OrderSearchRepo {
  static readonly STATS = STATS;

  constructor(
    db: Postgres,
    private readonly reads: Reads = new PrimaryReads(db),
  ) {
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
    const { rows } = await this.reads.query<OrderRow>(undefined, statement, [limit, ...given.map((c) => c.value)]);
    return rows.map(orderOf);
  }

  override async stats({ from, before, utcOffsetMinutes }: OrderStatsPeriod): Promise<readonly OrderStatsRow[]> {
    const slots = {
      from: new Date(Math.ceil(from.getTime() / SLOT_MS) * SLOT_MS),
      before: new Date(Math.floor(before.getTime() / SLOT_MS) * SLOT_MS),
    };
    const countsSlots = slots.from < slots.before && (utcOffsetMinutes * 60_000) % SLOT_MS === 0;
    const period = [from, before, utcOffsetMinutes];
    const { rows } = countsSlots
      ? await this.reads.query<StatsRow>(undefined, STATS, [...period, slots.from, slots.before])
      : await this.reads.query<StatsRow>(undefined, STATS_OF_ORDERS, period);
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
