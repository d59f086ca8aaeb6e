/** From an admitted purchase to a committed order, and to its instance. */

import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { Bench } from './bench.js';
import { interleave } from './figures.js';
import { ID } from './goals.js';
import { redisBenchmark } from './load.js';
import { ADMIT_FILE, admitSha, NO_BACKLOG_LIMIT, type Sale, type Space } from './stage.js';

const DRAIN_TIMEOUT_MS = 300_000;
const COMPLETE_TIMEOUT_MS = 900_000;
const POLL_MS = 10;
const LOOK_MS = 250;

export async function measureSettlement(bench: Bench): Promise<void> {
  const { plan, figures, onLine } = bench;
  let space: Space | undefined;
  const measures = [
    {
      id: ID.settled,
      run: async () => {
        space = await bench.stage.space();
        return settle(bench, space);
      },
    },
    {
      id: ID.pg,
      run: async () => {
        if (!space) throw new Error('no purchases were settled, so there are no rows to insert');
        return insertLimit(space.postgresUrl);
      },
    },
  ];
  await interleave(measures, plan.rounds, figures, onLine);
  await interleave([{ id: ID.completed, run: () => complete(bench) }], 1, figures, onLine);
}

/** Orders per second while one replica, which does nothing else, settles a full stream. */
async function settle(bench: Bench, space: Space): Promise<number> {
  const { stage, plan } = bench;
  const api = await stage.service('product', space, { server: { roles: ['api'] }, ...NO_BACKLOG_LIMIT });
  const sale = await stage.openSale(api, plan.orders);
  await api.stop();
  await admit(bench, space, sale, plan.orders);

  const consumer = await stage.service('product', space, {
    server: { roles: ['seckill_consumer'] },
    ...NO_BACKLOG_LIMIT,
  });
  const perSecond = await drained(space, sale);
  await consumer.stop();
  const [row] = await stage.sql<{ count: string }>(space.postgresUrl, 'SELECT count(*) FROM orders');
  if (Number(row?.count) !== plan.orders) throw new Error(`${plan.orders} purchases became ${row?.count} orders`);
  return perSecond;
}

/** Admits purchases like a BFF that runs the script itself, each by a different user. */
async function admit({ stage, generators }: Bench, space: Space, sale: Sale, count: number): Promise<void> {
  if (generators.redisBenchmark === undefined) throw new Error('redis-benchmark is not on PATH');
  await space.redis.script('LOAD', readFileSync(ADMIT_FILE, 'utf8'));
  const { meta, stock, req, buyers, vip, stream, seen0, seen1 } = sale.keys;
  await redisBenchmark(generators.redisBenchmark, {
    port: stage.redisPort,
    database: space.redisDatabase,
    sha: admitSha(),
    keys: [meta, stock, req, buyers, vip, stream, seen0, seen1],
    epoch: sale.epoch,
    count,
    pipeline: 16,
  });
}

/** Rate between the first and the last entry that leaves the stream. */
async function drained({ redis }: Space, sale: Sale): Promise<number> {
  const deadline = performance.now() + DRAIN_TIMEOUT_MS;
  const full = await redis.xlen(sale.keys.stream);
  let first: { at: number; left: number } | undefined;
  for (;;) {
    const left = await redis.xlen(sale.keys.stream);
    const at = performance.now();
    if (left < full) first ??= { at, left };
    if (first && left === 0) {
      if (at === first.at)
        throw new Error('all purchases were settled before the first poll: too few to measure a rate');
      return (first.left * 1_000) / (at - first.at);
    }
    if (at > deadline)
      throw new Error(`${left} of ${full} purchases were not settled in ${DRAIN_TIMEOUT_MS / 1_000} s`);
    await sleep(POLL_MS);
  }
}

/** The tables in which a settled purchase has a row. */
const TABLES = ['orders', 'order_events', 'instance_requests', 'outbox', 'stream_inbox'] as const;
/** Rows per transaction and concurrent connections; the best combination is the limit. */
const FORMS = [
  { batch: 500, connections: 1 },
  { batch: 500, connections: 2 },
  { batch: 2_000, connections: 2 },
  { batch: 5_000, connections: 2 },
] as const;

/**
 * Inserts the rows that Kaimai wrote again, from tables without indexes into empty ones with the same columns,
 * constraints
 * and indexes: no client, no reads and no decisions. Returns the orders per second of the best combination.
 */
async function insertLimit(url: string): Promise<number> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const inserts: string[] = [];
    await client.query('CREATE SCHEMA bench_limit');
    for (const table of TABLES) {
      const { rows } = await client.query<{ name: string }>(
        `SELECT quote_ident(column_name) AS name FROM information_schema.columns
          WHERE table_schema = 'public' AND table_name = $1 AND is_generated = 'NEVER' ORDER BY ordinal_position`,
        [table],
      );
      const columns = rows.map((row) => row.name).join(', ');
      await client.query(
        `CREATE UNLOGGED TABLE bench_limit.${table}_rows AS SELECT row_number() OVER () AS bench_n, ${columns} FROM ${table}`,
      );
      await client.query(`CREATE INDEX ON bench_limit.${table}_rows (bench_n)`);
      await client.query(`CREATE TABLE bench_limit.${table} (LIKE ${table} INCLUDING ALL)`);
      inserts.push(
        `INSERT INTO bench_limit.${table} (${columns}) SELECT ${columns} FROM bench_limit.${table}_rows
          WHERE bench_n > $from AND bench_n <= $to`,
      );
    }
    await client.query('ANALYZE');
    const counted = await client.query<{ count: string }>('SELECT count(*) FROM bench_limit.orders_rows');
    const total = Number(counted.rows[0]?.count);
    let best = 0;
    for (const { batch, connections } of FORMS) {
      await client.query(`TRUNCATE ${TABLES.map((t) => `bench_limit.${t}`).join(', ')}`);
      await client.query('CHECKPOINT');
      best = Math.max(best, await insertAll(url, inserts, { total, batch, connections }));
    }
    return best;
  } finally {
    await client.end();
  }
}

async function insertAll(
  url: string,
  inserts: readonly string[],
  { total, batch, connections }: { total: number; batch: number; connections: number },
): Promise<number> {
  const clients = Array.from({ length: connections }, () => new pg.Client({ connectionString: url }));
  await Promise.all(clients.map((client) => client.connect()));
  try {
    let next = 0;
    const startedAt = performance.now();
    await Promise.all(
      clients.map(async (client) => {
        while (next < total) {
          const from = next;
          next += batch;
          // One round trip for the whole transaction.
          const statements = inserts.map((i) => i.replace('$from', String(from)).replace('$to', String(from + batch)));
          await client.query(['BEGIN', ...statements, 'COMMIT'].join(';\n'));
        }
      }),
    );
    return (total * 1_000) / (performance.now() - startedAt);
  } finally {
    await Promise.all(clients.map((client) => client.end()));
  }
}

/** Seconds from the first purchase to the last instance. */
async function complete(bench: Bench): Promise<number> {
  const { stage, plan, figures } = bench;
  const space = await stage.space();
  const product = await stage.service('product', space, NO_BACKLOG_LIMIT);
  const resource = await stage.service('resource', space, {}, product.env());
  const sale = await stage.openSale(product, plan.completed);
  const startedAt = performance.now();
  await admit(bench, space, sale, plan.completed);
  const done = await completedOrders(bench, space);
  const seconds = (performance.now() - startedAt) / 1_000;
  figures.add(ID.completedShare, done / plan.completed);
  await product.stop();
  await resource.stop();
  if (done < plan.completed) throw new Error(`${done} of ${plan.completed} in ${seconds.toFixed(0)} s`);
  return seconds;
}

async function completedOrders({ plan }: Bench, space: Space): Promise<number> {
  const client = new pg.Client({ connectionString: space.postgresUrl });
  await client.connect();
  try {
    const deadline = performance.now() + COMPLETE_TIMEOUT_MS;
    for (;;) {
      const { rows } = await client.query<{ count: string }>('SELECT count(*) FROM orders WHERE status = 3');
      const done = Number(rows[0]?.count);
      if (done >= plan.completed || performance.now() > deadline) return done;
      await sleep(LOOK_MS);
    }
  } finally {
    await client.end();
  }
}
