/** What a purchase costs each part, with Redis on one, two and three masters, and with one sale in segments. */
import { setTimeout as sleep } from 'node:timers/promises';
import { DEVELOPMENT_TOKEN } from '../internal/conf/defaults.js';
import { RedisServer } from '../internal/data/redis/redis.js';
import { RedisClusterProcesses } from '../internal/local/clusters/redis-cluster.js';
import { freePort } from '../internal/local/servers/ports.js';
import type { Bench } from './bench.js';
import { type Capacity, capacityId, FORMS, type Part } from './capacity-lines.js';
import { requireNoFailures, streamLoad } from './load.js';
import { COUNTS, cpuSecondsOf } from './processes.js';
import { NO_BACKLOG_LIMIT, type Sale, type Space } from './stage.js';

/** Of every form, so that each master has as many; divisible by 1, 2 and 3. */
const SALES = 6;
/** Sales that are bought from at a time: each load is a process of its own. */
const LOADS = 3;
/** The cost is measured and not the latency, so a busy machine does not end the run. */
const TIMEOUT_MS = 60_000;
const UNITS = 10_000_000;
/** More than a load has purchases: each is made by another user. */
const USERS = 10_000_000;
const BACKGROUND = ['seckill_consumer', 'outbox_relay', 'sale_keeper'];
const DRAIN_MS = 300_000;

export async function measureCapacity(bench: Bench): Promise<void> {
  if (!COUNTS) {
    bench.onLine('capacity: CPU time of processes is only known on Linux');
    return;
  }
  for (let round = 1; round <= bench.plan.rounds; round++) {
    for (const form of FORMS) await measureForm(bench, form, `round ${round}/${bench.plan.rounds}`);
  }
}

async function measureForm(bench: Bench, form: Capacity, round: string): Promise<void> {
  const { stage, figures, onLine } = bench;
  const cluster = await RedisClusterProcesses.start({
    ...{ root: stage.folderFor(`redis-${form.masters}`), port: freePort, masters: form.masters },
    ...{ appendfsync: 'always', nodeTimeoutMs: 15_000 },
  });
  const redis = new RedisServer({
    ...{ addr: '', nodes: cluster.addresses, readTimeoutMs: 30_000, connectTimeoutMs: 10_000, keyPrefix: '' },
  });
  try {
    await redis.ready(10_000);
    const space = await stage.space();
    const env = { KAIMAI_DATA_REDIS_NODES: cluster.addresses.join(',') };
    const api = { server: { roles: ['api'] }, ...NO_BACKLOG_LIMIT };
    const apis = await Promise.all(
      Array.from({ length: form.replicas }, () => stage.service('product', space, api, env)),
    );
    const sales =
      form.segments === undefined
        ? await spreadSales(bench, apis[0]!, cluster, redis)
        : new Array<Sale>(SALES).fill(await stage.openSale(apis[0]!, UNITS, form.segments));
    const segments = Array.from({ length: form.segments ?? 1 }, (_, segment) => segment);
    const items = [...new Set(sales.map(({ itemId }) => itemId))];
    const streams = items.flatMap((itemId) => segments.map((segment) => redis.keys.sale(itemId, segment).stream));
    const masters = cluster.nodes.slice(0, form.masters);
    const replicas = cluster.nodes.slice(form.masters);
    const meter = new Meter({
      product: () => sum(apis.map(({ pid }) => cpuSecondsOf(pid))),
      'Redis master': () => sum(masters.map(({ pid }) => cpuSecondsOf(pid))),
      'Redis replica': () => sum(replicas.map(({ pid }) => cpuSecondsOf(pid))),
    });
    const add = (part: Part, value: number) => {
      figures.add(capacityId(form, part), value);
      onLine(`${round}  ${capacityId(form, part).padEnd(60)} ${value.toFixed(1)}`);
    };

    const before = await redisBytes(cluster, form.masters);
    const bought = await buyFrom(
      bench,
      sales,
      apis.map(({ grpc }) => grpc),
    );
    for (const [part, seconds] of meter.since()) add(`${part}, purchase`, (seconds * 1e6) / bought);
    const admitted = await redisBytes(cluster, form.masters);
    add('Redis memory, until settled', (admitted.memory - before.memory) / bought);
    add('Redis log', (admitted.log - before.log) / bought);
    await Promise.all(apis.map((p) => p.stop()));

    const settling = await stage.service('product', space, { server: { roles: BACKGROUND }, ...NO_BACKLOG_LIMIT }, env);
    const settled = new Meter({
      'product background': () => cpuSecondsOf(settling.pid),
      'Redis master': () => sum(masters.map(({ pid }) => cpuSecondsOf(pid))),
      PostgreSQL: () => sum(stage.pids('postgres').map(cpuSecondsOf)),
      RabbitMQ: () => sum(stage.pids('rabbitmq').map(cpuSecondsOf)),
    });
    const wal = await walBytes(bench, space);
    await drained(bench, space, redis, streams, bought);
    for (const [part, seconds] of settled.since()) add(`${part}, settlement`, (seconds * 1e6) / bought);
    const after = await walBytes(bench, space);
    add('PostgreSQL log', (after.log - wal.log) / bought);
    add('PostgreSQL tables and indexes', (after.tables - wal.tables) / bought);
    add('Redis memory, after that', ((await redisBytes(cluster, form.masters)).memory - before.memory) / bought);
    await settling.stop();
  } finally {
    redis.close();
    await cluster.stop();
  }
}

type Product = { readonly http: string };

/** Opens sales until every master has the same number of them, and returns those. */
async function spreadSales(
  { stage }: Bench,
  product: Product,
  cluster: RedisClusterProcesses,
  redis: RedisServer,
): Promise<Sale[]> {
  const masters = cluster.nodes.length / 2;
  const sales = new Map<number, Sale[]>();
  for (let found = 0; found < SALES; ) {
    const sale = await stage.openSale(product, UNITS);
    const keys = redis.keys.sale(sale.itemId);
    const { port } = await cluster.masterOf(keys.meta);
    const here = sales.get(port) ?? [];
    sales.set(port, here);
    if (here.length === SALES / masters) continue;
    here.push({ ...sale, keys });
    found += 1;
  }
  // One of each master in turn, so that those that are bought from together lie on different ones.
  return Array.from({ length: SALES / masters }, (_, i) => [...sales.values()].flatMap((of) => of[i] ?? [])).flat();
}

/** @returns how many purchases were admitted */
async function buyFrom(bench: Bench, sales: readonly Sale[], targets: readonly string[]): Promise<number> {
  let bought = 0;
  for (let i = 0; i < sales.length; i += LOADS) {
    const loads = await Promise.all(
      sales.slice(i, i + LOADS).map(({ itemId }, k) => {
        const target = targets[k % targets.length]!;
        const firstUser = 1 + (i + k) * USERS;
        const load = { target, token: DEVELOPMENT_TOKEN, itemId, seconds: bench.plan.seconds, firstUser };
        return streamLoad({ ...load, scattered: true, perMessage: 1, timeoutMs: TIMEOUT_MS });
      }),
    );
    for (const load of loads) {
      requireNoFailures(load);
      bought += load.answered;
    }
  }
  bench.onLine(`${bought} purchases`);
  return bought;
}

/** Waits until every purchase is an order whose message is confirmed. */
async function drained(
  { stage }: Bench,
  space: Space,
  redis: RedisServer,
  streams: readonly string[],
  bought: number,
): Promise<void> {
  const deadline = performance.now() + DRAIN_MS;
  const waiting = async () => {
    const lengths = await Promise.all(streams.map((stream) => redis.commands.xlen(stream)));
    if (sum(lengths) > 0) return sum(lengths);
    const text = 'SELECT count(*) FILTER (WHERE published_at IS NULL) AS left, count(*) AS all FROM outbox';
    const [row] = await stage.sql<{ left: string; all: string }>(space.postgresUrl, text);
    return Number(row?.left) + Math.max(0, bought - Number(row?.all));
  };
  for (let left = await waiting(); left > 0; left = await waiting()) {
    if (performance.now() > deadline) throw new Error(`${left} purchases were not settled in ${DRAIN_MS / 1_000} s`);
    await sleep(200);
  }
}

async function redisBytes(cluster: RedisClusterProcesses, masters: number): Promise<{ memory: number; log: number }> {
  const infos = await Promise.all(
    cluster.nodes.slice(0, masters).map(async ({ client }) => {
      return `${await client.info('memory')}${await client.info('persistence')}`;
    }),
  );
  const of = (field: string) => sum(infos.map((info) => Number(new RegExp(`^${field}:(\\d+)`, 'm').exec(info)?.[1])));
  return { memory: of('used_memory_dataset'), log: of('aof_current_size') };
}

async function walBytes({ stage }: Bench, { postgresUrl }: Space): Promise<{ log: number; tables: number }> {
  const text = `SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') AS log, pg_database_size(current_database()) AS tables`;
  const [row] = await stage.sql<{ log: string; tables: string }>(postgresUrl, text);
  return { log: Number(row?.log), tables: Number(row?.tables) };
}

/** CPU seconds of parts between two looks. */
class Meter<Name extends string> {
  private readonly begin: readonly [Name, number][];

  constructor(private readonly parts: Readonly<Record<Name, () => number>>) {
    this.begin = this.look();
  }

  since(): [Name, number][] {
    const now = new Map(this.look());
    return this.begin.map(([name, seconds]) => [name, (now.get(name) ?? seconds) - seconds]);
  }

  private look(): [Name, number][] {
    return (Object.entries(this.parts) as [Name, () => number][]).map(([name, read]) => [name, read()]);
  }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, n) => total + n, 0);
}
