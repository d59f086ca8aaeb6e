/**
 * The three queries of document 003 (docs/documents.md), on Kaimai's tables and on normalised ones with the same facts: the time that
 * PostgreSQL takes to run each, and the time that its caller waits.
 */
import { randomInt } from 'node:crypto';
import pg from 'pg';
import { formatUserId } from '../internal/biz/identity.js';
import { PgEntitlementRepo } from '../internal/data/postgres/entitlement.js';
import { PgOrderRepo } from '../internal/data/postgres/order.js';
import { PgOrderSearchRepo } from '../internal/data/postgres/order-search.js';
import { Postgres, type Statement } from '../internal/data/postgres/postgres.js';
import type { Bench } from './bench.js';
import { interleave, type Measure } from './figures.js';
import { ID } from './goals.js';
import { ghz, requireNoFailures } from './load.js';
import { CONTENTS, CONTENTS_AFTER, fillOrders, STORAGE } from './reads-data.js';
import type { Space } from './stage.js';

const ORDERS_OF_A_USER = 200;
const PAGE = 20;
const QUESTIONS = 200;
const STATISTICS_QUESTIONS = 3;
const DAY_MS = 86_400_000;
const DAYS = 30;
const UTC_OFFSET_MINUTES = 480;

const JOINED_LINES = `JOIN joined.lines l ON l.order_id = o.id LEFT JOIN joined.products p ON p.id = l.product_id
    LEFT JOIN joined.skus k ON k.id = l.sku_id LEFT JOIN joined.spus s ON s.id = k.spu_id
    LEFT JOIN joined.contents c ON c.id = l.content_id`;
const LISTED = `o.id, o.order_type, l.n, coalesce(p.name, k.sku_name, c.title) AS name, s.goods_type, c.content_type, l.price,
    l.quantity, o.amount, o.status, o.paid_at, o.created_at`;

const LIST_JOIN = `SELECT ${LISTED} FROM joined.orders o ${JOINED_LINES}
    WHERE o.user_id = $1 AND NOT o.deleted ORDER BY o.created_at DESC, o.id DESC, l.n`;
/** As the document writes it. */
const LIST = `SELECT order_no, order_type, goods_name, goods_type, goods_price, content_title, content_type, content_price,
    total_amount, status, pay_time, create_time FROM order_info WHERE user_id = $1 AND deleted = 0 ORDER BY create_time DESC`;
const ACCESS_JOIN = `SELECT count(*) > 0 AS has_access FROM joined.orders o JOIN joined.lines l ON l.order_id = o.id
    LEFT JOIN joined.sku_contents s ON s.sku_id = l.sku_id JOIN joined.contents c ON c.id = coalesce(l.content_id, s.content_id)
    WHERE o.user_id = $1 AND c.id = $2 AND o.status IN (1, 3, 4, 5) AND NOT o.deleted AND o.paid_at <= now()
      AND coalesce(o.paid_at + coalesce(s.access_days, c.access_days) * interval '1 day' > now(), true)`;
const ACCESS = `SELECT COUNT(*) > 0 AS has_access FROM order_content_association WHERE user_id = $1 AND content_id = $2
    AND status = 'ACTIVE' AND deleted = 0 AND access_start_time <= NOW() AND (access_end_time IS NULL OR access_end_time > NOW())`;
/** Grouped by order first, which is faster than `count(DISTINCT o.id)`. */
const STATISTICS_JOIN = `SELECT (at AT TIME ZONE 'UTC' + ${UTC_OFFSET_MINUTES} * interval '1 minute')::date AS day, status, order_type,
      count(*) AS orders, sum(amount) AS amount
    FROM (SELECT o.id, o.created_at AS at, o.status, o.order_type, sum(l.price * l.quantity) AS amount
      FROM joined.orders o JOIN joined.lines l ON l.order_id = o.id WHERE o.created_at >= $1 AND o.created_at < $2 GROUP BY o.id) AS sums
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3`;

const PAGE_JOIN: Statement = {
  name: 'bench_page_join',
  text: `SELECT ${LISTED} FROM (SELECT * FROM joined.orders WHERE user_id = $1 AND NOT deleted ORDER BY created_at DESC, id DESC
      LIMIT ${PAGE}) AS o ${JOINED_LINES} ORDER BY o.created_at DESC, o.id DESC, l.n`,
};
const COUNT_JOIN: Statement = {
  name: 'bench_count_join',
  text: 'SELECT count(*) AS total FROM joined.orders WHERE user_id = $1 AND NOT deleted',
};

/** The last 30 days, as GetOrderStats reads them by default. */
function period(): { from: Date; before: Date } {
  const before = Math.ceil(Date.now() / 3_600_000) * 3_600_000;
  return { from: new Date(before - DAYS * DAY_MS), before: new Date(before) };
}

export async function measureReads(bench: Bench): Promise<void> {
  const { stage, plan, figures, onLine } = bench;
  const space = await stage.space();
  const users = Math.max(1, Math.round(plan.joinOrders / ORDERS_OF_A_USER));
  await fillOrders(stage, space, plan.joinOrders, users);
  await reportStorage(bench, space);
  const db = new Postgres({
    ...{ source: space.postgresUrl, poolSize: 2, role: '', statementTimeoutMs: 600_000 },
    ...{ connectTimeoutMs: 10_000, applicationName: 'kaimai-bench' },
  });
  const client = new pg.Client({ connectionString: space.postgresUrl });
  try {
    await client.connect();
    const statements = new Explained(client);
    const user = () => formatUserId(String(randomInt(users)));
    const content = () => String(CONTENTS_AFTER + 1 + randomInt(CONTENTS));
    const days = () => [period().from.toISOString(), period().before.toISOString()];
    const inside = async (
      id: string,
      text: string,
      times: number,
      values: () => readonly string[],
    ): Promise<Measure> => {
      const statement = await statements.prepare(text);
      return { id, run: () => statement(times, values) };
    };
    const measures = [
      await inside(ID.joinListInside, LIST_JOIN, QUESTIONS, () => [user()]),
      await inside(ID.ownListInside, LIST, QUESTIONS, () => [user()]),
      await inside(ID.joinAccessInside, ACCESS_JOIN, QUESTIONS, () => [user(), content()]),
      await inside(ID.ownAccessInside, ACCESS, QUESTIONS, () => [user(), content()]),
      await inside(ID.joinStatisticsInside, STATISTICS_JOIN, STATISTICS_QUESTIONS, days),
      await inside(ID.ownStatisticsInside, PgOrderSearchRepo.STATS.text, STATISTICS_QUESTIONS, () => {
        const [from = '', before = ''] = days();
        return [from, before, String(UTC_OFFSET_MINUTES), from, before];
      }),
      ...atCaller(db, user, content),
      ...(await overRpc(bench, space)),
    ];
    // Warm up: a server in use has its plans and pages cached.
    for (const measure of measures) await measure.run();
    await interleave(measures, plan.rounds, figures, onLine);
  } finally {
    await client.end();
    await db.close();
  }
}

/** Statements that PostgreSQL has prepared, and how long it takes to run them. */
class Explained {
  private prepared = 0;

  constructor(private readonly client: pg.Client) {}

  async prepare(text: string): Promise<(times: number, values: () => readonly string[]) => Promise<number>> {
    const name = `bench_${++this.prepared}`;
    await this.client.query(`PREPARE ${name} AS ${text}`);
    return async (times, values) => {
      let sum = 0;
      for (let i = 0; i < times; i++) {
        const call = `${name}(${values()
          .map((value) => this.client.escapeLiteral(value))
          .join(', ')})`;
        // Without a clock reading for each row.
        const { rows } = await this.client.query<{ 'QUERY PLAN': readonly { 'Execution Time': number }[] }>(
          `EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) EXECUTE ${call}`,
        );
        sum += rows[0]!['QUERY PLAN'][0]!['Execution Time'];
      }
      return sum / times;
    };
  }
}

/** What ListOrders, CheckAccess and GetOrderStats ask of PostgreSQL, and a join that answers the same, through the same driver. */
function atCaller(db: Postgres, user: () => string, content: () => string): Measure[] {
  const orders = new PgOrderRepo(db);
  const search = new PgOrderSearchRepo(db);
  const entitlements = new PgEntitlementRepo(db, { offsetMs: 0 });
  const measure = (id: string, times: number, question: () => Promise<unknown>): Measure => ({
    id,
    run: async () => {
      const startedAt = performance.now();
      for (let i = 0; i < times; i++) await question();
      return (performance.now() - startedAt) / times;
    },
  });
  const accessJoin = { name: 'bench_access_join', text: ACCESS_JOIN };
  const statisticsJoin = { name: 'bench_statistics_join', text: STATISTICS_JOIN };
  return [
    measure(ID.joinList, QUESTIONS, () => {
      const id = user();
      return Promise.all([db.query(PAGE_JOIN, [id]), db.query(COUNT_JOIN, [id])]);
    }),
    measure(ID.ownList, QUESTIONS, () => orders.list(user(), {}, { offset: 0, limit: PAGE })),
    measure(ID.joinAccess, QUESTIONS, () => db.query(accessJoin, [user(), content()])),
    measure(ID.ownAccess, QUESTIONS, () => entitlements.check({ userId: user(), contentId: BigInt(content()) })),
    measure(ID.joinStatistics, STATISTICS_QUESTIONS, () => db.query(statisticsJoin, [period().from, period().before])),
    measure(ID.ownStatistics, STATISTICS_QUESTIONS, () =>
      search.stats({ ...period(), utcOffsetMinutes: UTC_OFFSET_MINUTES }),
    ),
  ];
}

/** CheckAccess and GetOrderStats over gRPC, on one worker process. */
async function overRpc({ stage, plan, generators, figures }: Bench, space: Space): Promise<Measure[]> {
  const program = generators.ghz;
  const scenarios = [
    [ID.accessGhz, 'check-access', { id: String(CONTENTS_AFTER + 1) }],
    [ID.statisticsGhz, 'order-stats', { utc_offset_minutes: UTC_OFFSET_MINUTES }],
  ] as const;
  if (program === undefined) {
    for (const [id] of scenarios) figures.skip(id, 'ghz cannot be had here');
    return [];
  }
  const product = await stage.service('product', space, { server: { roles: ['api'] } });
  return scenarios.map(([id, scenario, data]) => ({
    id,
    run: async () => {
      const load = await ghz(program, { scenario, data, target: product.grpc, seconds: plan.seconds });
      requireNoFailures(load);
      return load.perSecond;
    },
  }));
}

async function reportStorage({ stage, figures, onLine }: Bench, { postgresUrl }: Space): Promise<void> {
  const [row] = await stage.sql<Record<'joined' | 'own' | 'copied_orders' | 'copied_lines' | 'copied_tables', string>>(
    postgresUrl,
    STORAGE,
  );
  if (!row) throw new Error('one row is always there');
  const copied = Number(row.copied_orders) + Number(row.copied_lines) + Number(row.copied_tables);
  figures.add(ID.storage, Number(row.own) / Number(row.joined));
  figures.add(ID.copies, copied / (Number(row.own) - copied));
  onLine(`storage: ${mib(Number(row.own))} against ${mib(Number(row.joined))} of joined tables; copies ${mib(copied)}`);
}

function mib(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}
