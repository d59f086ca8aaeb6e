/**
 * The three queries of document 003 (docs/documents.md), on Kaimai's tables and on normalised ones with the same facts.
 */
import { randomInt } from 'node:crypto';
import { formatUserId } from '../internal/biz/identity.js';
import { PgOrderRepo } from '../internal/data/postgres/order.js';
import { Postgres, type Statement } from '../internal/data/postgres/postgres.js';
import type { Bench } from './bench.js';
import { interleave, type Measure } from './figures.js';
import { ID } from './goals.js';

const ORDERS_OF_A_USER = 200;
const ITEMS = 1_000;
const DAYS = 30;
const PAGE = { offset: 0, limit: 20 };
const QUESTIONS = 200;
const STATISTICS_QUESTIONS = 5;

const NORMALISED = `
  CREATE SCHEMA joined;
  CREATE TABLE joined.items (id BIGINT PRIMARY KEY, name VARCHAR(200) NOT NULL, kind VARCHAR(10) NOT NULL);
  CREATE TABLE joined.orders (id BIGINT PRIMARY KEY, user_id UUID NOT NULL, status SMALLINT NOT NULL, source VARCHAR(20) NOT NULL,
    created_at TIMESTAMPTZ NOT NULL, paid_at TIMESTAMPTZ);
  CREATE TABLE joined.order_lines (id BIGINT PRIMARY KEY, order_id BIGINT NOT NULL, item_id BIGINT NOT NULL,
    price BIGINT NOT NULL, quantity INT NOT NULL)`;

const NORMALISED_INDEXES = `
  CREATE INDEX ON joined.orders (user_id);
  CREATE INDEX ON joined.orders (status);
  CREATE INDEX ON joined.order_lines (order_id);
  CREATE INDEX ON joined.order_lines (item_id)`;

/** Order n belongs to user n % users, and was created in the last 30 days. */
function facts(orders: number, users: number): string {
  return `SELECT n, ('00000000-0000-8000-8000-' || lpad(to_hex(n % ${users}), 12, '0'))::uuid AS user_id, 1 + n % ${ITEMS} AS item_id,
      (ARRAY[1, 1, 1, 3, 3, 3, 3, 2, 0, 5])[1 + n % 10]::smallint AS status, 100 + n % 9900 AS price,
      now() - interval '${DAYS} days' * (1 - n::float8 / ${orders}) AS created_at
    FROM generate_series(1, ${orders}) AS n`;
}

const LIST_JOIN: Statement = {
  name: 'bench_list_join',
  text: `SELECT o.id, o.user_id, o.status, o.source, i.kind, i.name, l.quantity, l.price, l.price * l.quantity AS amount,
      o.created_at, o.paid_at
    FROM joined.orders o JOIN joined.order_lines l ON l.order_id = o.id JOIN joined.items i ON i.id = l.item_id
    WHERE o.user_id = $1 ORDER BY o.created_at DESC, o.id DESC OFFSET $2 LIMIT $3`,
};

const COUNT_JOIN: Statement = {
  name: 'bench_count_join',
  text: 'SELECT count(*) AS total FROM joined.orders WHERE user_id = $1',
};

const STATISTICS_JOIN: Statement = {
  name: 'bench_statistics_join',
  text: `SELECT o.status, i.kind, count(DISTINCT o.id) AS orders, sum(l.price * l.quantity) AS amount
    FROM joined.orders o JOIN joined.order_lines l ON l.order_id = o.id JOIN joined.items i ON i.id = l.item_id
    WHERE o.created_at >= now() - interval '1 day' GROUP BY o.status, i.kind ORDER BY 1, 2`,
};

const STATISTICS: Statement = {
  name: 'bench_statistics',
  text: `SELECT status, order_type AS kind, count(*) AS orders, sum(amount) AS amount FROM orders
    WHERE created_at >= now() - interval '1 day' GROUP BY status, order_type ORDER BY 1, 2`,
};

export async function measureJoins(bench: Bench): Promise<void> {
  const { stage, plan, figures, onLine } = bench;
  const { postgresUrl } = await stage.space();
  const users = Math.max(1, Math.round(plan.joinOrders / ORDERS_OF_A_USER));
  await fill(bench, postgresUrl, users);
  const db = new Postgres({
    source: postgresUrl,
    poolSize: 2,
    role: '',
    statementTimeoutMs: 60_000,
    connectTimeoutMs: 10_000,
    applicationName: 'kaimai-bench',
  });
  try {
    const repo = new PgOrderRepo(db);
    const anyone = () => formatUserId(String(randomInt(users)));
    const ask = (id: string, times: number, question: () => Promise<unknown>): Measure => ({
      id,
      run: () => meanMs(times, question),
    });
    const measures = [
      ask(ID.joinList, QUESTIONS, async () => {
        const user = anyone();
        const list = db.query(LIST_JOIN, [user, PAGE.offset, PAGE.limit]);
        const [{ rows }] = await Promise.all([list, db.query(COUNT_JOIN, [user])]);
        if (rows.length !== PAGE.limit) throw new Error(`${rows.length} rows`);
      }),
      ask(ID.ownList, QUESTIONS, async () => {
        const { items } = await repo.list(anyone(), {}, PAGE);
        if (items.length !== PAGE.limit) throw new Error(`${items.length} rows`);
      }),
      ask(ID.joinStatistics, STATISTICS_QUESTIONS, () => db.query(STATISTICS_JOIN, [])),
      ask(ID.ownStatistics, STATISTICS_QUESTIONS, () => db.query(STATISTICS, [])),
    ];
    // Warm up: a server in use has its plans and pages cached.
    for (const measure of measures) await measure.run();
    await interleave(measures, plan.rounds, figures, onLine);
  } finally {
    await db.close();
  }
  figures.skip(ID.ownAccess, 'the schema has no order_content_association yet');
}

async function fill({ stage, plan }: Bench, url: string, users: number): Promise<void> {
  const rows = facts(plan.joinOrders, users);
  await stage.sql(url, `INSERT INTO product_specs (cpu, memory, image) VALUES (2, 4, 'debian-12')`);
  await stage.sql(
    url,
    `INSERT INTO products (id, name, status, price, spec_id) SELECT n, 'Plan ' || n, 1, 9900, 1 FROM generate_series(1, ${ITEMS}) AS n`,
  );
  await stage.sql(
    url,
    `INSERT INTO orders (id, user_id, product_id, product_name, req_id, amount, price, instance_id, status, source, created_at,
        paid_at)
      SELECT n, user_id, item_id, 'Plan ' || item_id, n, price, price, n, status, 'SECKILL', created_at, created_at
      FROM (${rows}) AS facts`,
  );
  await stage.sql(url, NORMALISED);
  await stage.sql(
    url,
    `INSERT INTO joined.items SELECT n, 'Plan ' || n, 'INSTANCE' FROM generate_series(1, ${ITEMS}) AS n`,
  );
  await stage.sql(
    url,
    `INSERT INTO joined.orders SELECT n, user_id, status, 'SECKILL', created_at, created_at FROM (${rows}) AS facts`,
  );
  await stage.sql(url, `INSERT INTO joined.order_lines SELECT n, n, item_id, price, 1 FROM (${rows}) AS facts`);
  await stage.sql(url, NORMALISED_INDEXES);
  await stage.sql(url, 'VACUUM ANALYZE');
}

async function meanMs(times: number, question: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  for (let i = 0; i < times; i++) await question();
  return (performance.now() - startedAt) / times;
}
