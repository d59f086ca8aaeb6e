import { createHash } from 'node:crypto';
import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import pg from 'pg';
import { migrate } from '../internal/data/postgres/migrate.js';
import { loadMigrations } from '../internal/data/postgres/migration-file.js';
import { type SaleKeys, saleKeys } from '../internal/data/redis/seckill-keys.js';
import { projectRoot } from '../internal/local/project.js';
import { isRoot, isTraversable } from '../internal/local/servers/account.js';
import { freePort, isListening } from '../internal/local/servers/ports.js';
import { spawnProcess, stopProcess, untilReady } from '../internal/local/servers/process.js';
import type { RunningServer, ServerName } from '../internal/local/servers/server.js';
import { chooseSources, installMissing, startServer } from '../internal/local/servers/servers.js';
import { TestProcesses } from '../test/support/processes.js';

const START_TIMEOUT_MS = 120_000;
const ENTRIES_MAX = 100_000_000;
const SERVERS = ['postgres', 'redis', 'rabbitmq'] as const;

/** The number that every compared server gets. */
export const WORKERS = availableParallelism();

export interface Sale {
  readonly itemId: bigint;
  readonly epoch: string;
  readonly keys: SaleKeys;
}

interface Client {
  readonly http: string;
}

export interface Listening {
  readonly addr: string;
  readonly pid: number;
}

export interface Space {
  readonly postgresUrl: string;
  readonly redisUrl: string;
  readonly redisDatabase: number;
  readonly redis: Redis;
  readonly queue: string;
}

/** Private servers on free ports, and the processes that the bench runs on them. */
export class Stage {
  private readonly running: RunningServer[] = [];
  private readonly processes = new TestProcesses();
  private readonly endings: (() => Promise<void>)[] = [];
  /** Where the servers have their data. */
  get folder(): string {
    return this.root;
  }
  private readonly root: string;
  private readonly abort = new AbortController();
  private spaces = 0;

  constructor() {
    const base = isRoot && !isTraversable(tmpdir()) ? '/var/tmp' : tmpdir();
    this.root = mkdtempSync(join(base, 'kaimai-bench-'));
    if (isRoot) chmodSync(this.root, 0o711);
  }

  async start(onLine: (line: string) => void): Promise<void> {
    const sources = await chooseSources([...SERVERS]);
    await installMissing(sources, this.abort.signal, onLine);
    const options = { root: this.root, port: freePort, signal: this.abort.signal, removeData: true };
    const started = await Promise.allSettled(
      [...sources].map(async ([name, source]) => this.running.push(await startServer(name, source, options))),
    );
    const failed = started.find((s) => s.status === 'rejected');
    if (failed) throw failed.reason;
  }

  /** Stops everything in reverse order of starting. */
  async end(): Promise<void> {
    this.abort.abort();
    for (const ending of this.endings.reverse()) await ending();
    await this.processes.end();
    await Promise.all(this.running.map((server) => server.stop()));
    rmSync(this.root, { recursive: true, force: true });
  }

  url(name: ServerName): string {
    const found = this.running.find((server) => server.name === name);
    if (!found) throw new Error(`${name} has not been started`);
    return found.url;
  }

  get redisPort(): number {
    return Number(new URL(this.url('redis')).port || '6379');
  }

  /** An isolated space on the servers: a database with the newest schema, a Redis database, a queue. */
  async space(): Promise<Space> {
    const number = ++this.spaces;
    const postgres = new URL(this.url('postgres'));
    const name = `bench_${number}`;
    await this.sql(postgres.href, `CREATE DATABASE ${name}`);
    postgres.pathname = `/${name}`;
    await migrate(postgres.href, await this.migrations());
    const redis = new URL(this.url('redis'));
    redis.pathname = `/${number}`;
    const connection = new Redis(redis.href, { protocol: 2 });
    this.endings.push(async () => connection.disconnect());
    return { postgresUrl: postgres.href, redisUrl: redis.href, redisDatabase: number, redis: connection, queue: name };
  }

  async sql<Row extends pg.QueryResultRow>(url: string, text: string, values: unknown[] = []): Promise<Row[]> {
    const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 10_000 });
    await client.connect();
    try {
      return (await client.query<Row>(text, values)).rows;
    } finally {
      await client.end();
    }
  }

  /** Runs the statements one after the other on one connection. */
  async session(url: string, statements: readonly string[]): Promise<void> {
    const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 10_000 });
    await client.connect();
    try {
      for (const statement of statements) await client.query(statement);
    } finally {
      await client.end();
    }
  }

  /** Starts a Kaimai process in a space like `make run`, with `config` as overrides. */
  service(name: 'product' | 'resource', space: Space, config: Config, env: Record<string, string> = {}) {
    return this.processes.start(name, {
      env: {
        KAIMAI_POSTGRES_URL: space.postgresUrl,
        KAIMAI_REDIS_URL: space.redisUrl,
        KAIMAI_RABBITMQ_URL: this.url('rabbitmq'),
        KAIMAI_LOG_LEVEL: 'warn',
        ...env,
      },
      config: {
        ...config,
        // A load sends all calls as one user: the rate limit is evaluated but never reached.
        seckill: { user_rate: UNREACHED, address_rate: UNREACHED, ...config.seckill },
        order: { user_rate: UNREACHED, address_rate: UNREACHED, ...config.order },
        data: { rabbitmq: { queue: space.queue } },
      },
      timeoutMs: START_TIMEOUT_MS,
    });
  }

  /** Starts any other server; `args` receives the address to listen on. */
  async server(name: string, command: string, args: (addr: string) => string[]): Promise<Listening> {
    const addr = await this.address();
    const port = Number(addr.split(':')[1]);
    const logFile = join(this.root, `${name}.log`);
    const child = spawnProcess({
      name,
      command,
      args: args(addr),
      env: Object.fromEntries(Object.entries(process.env).filter((e): e is [string, string] => e[1] !== undefined)),
      cwd: projectRoot,
      logFile,
      account: undefined,
      stopSignal: 'SIGTERM',
      graceMs: 5_000,
    });
    this.endings.push(() => stopProcess(child));
    await untilReady(child, logFile, () => isListening(port), {
      timeoutMs: START_TIMEOUT_MS,
      signal: this.abort.signal,
    });
    return { addr, pid: child.pid };
  }

  /** A free address. */
  async address(): Promise<string> {
    return `127.0.0.1:${await freePort()}`;
  }

  /** Pids of a server's processes, if they are on this machine. */
  pids(name: ServerName): number[] {
    return this.running
      .filter((server) => server.name === name)
      .flatMap(({ processes }) => processes.map((p) => p.pid));
  }

  /** A folder for servers that a part starts itself; their accounts can pass through it. */
  folderFor(name: string): string {
    const folder = mkdtempSync(join(this.root, `${name}-`));
    chmodSync(folder, 0o711);
    return folder;
  }

  /** Pid of the Redis server, if it is a process on this machine. */
  get redisPid(): number | undefined {
    return this.running.find((server) => server.name === 'redis')?.processes.at(-1)?.pid;
  }

  /** Opens a sale of a product. Its limit allows all purchases of a load generator that uses a single user. */
  async openSale(product: Client, units: number, segments = 1): Promise<Sale> {
    const spec = await post<{ id: string }>(product, '/v1/product-specs', { cpu: 2, memory: 4, image: 'debian-12' });
    const plan = await post<{ id: string }>(product, '/v1/products', {
      name: 'Bench plan',
      priceFen: '9900',
      specId: spec.id,
      status: 'ENABLED',
    });
    await post(product, '/v1/sales', { itemId: plan.id, total: String(units), defaultLimit: 1_000_000, segments });
    const sale = await post<{ epoch: string }>(product, `/v1/sales/${plan.id}/open`, {});
    const itemId = BigInt(plan.id);
    return { itemId, epoch: sale.epoch, keys: saleKeys('', itemId) };
  }

  private migrations() {
    return loadMigrations(join(projectRoot, 'migrations'));
  }
}

/** Counts the purchases admitted since the last call, and removes them from the stream and the buyers. */
export async function takeAdmitted({ redis }: Space, sale: Sale): Promise<number> {
  const admitted = await redis.xlen(sale.keys.stream);
  await redis.unlink(sale.keys.stream, sale.keys.buyers);
  return admitted;
}

const UNREACHED = { per_second: 10_000_000, burst: 10_000_000 };

/** Overrides of the settings in configs/, in the shape of internal/conf/conf.proto. */
type Config = Readonly<Record<string, object>>;

/** Accepts every purchase that the generators can send without any of them being settled. */
export const NO_BACKLOG_LIMIT = { seckill: { backlogLimit: ENTRIES_MAX } };

export const ADMIT_FILE = join(projectRoot, 'api/seckill/v1/admit.lua');

export function admitSha(): string {
  return createHash('sha1').update(readFileSync(ADMIT_FILE)).digest('hex');
}

async function post<T>(product: Client, path: string, body: unknown): Promise<T> {
  const reply = await fetch(`http://${product.http}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-user-role': 'ADMIN' },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(10_000),
  });
  const text = await reply.text();
  if (!reply.ok) throw new Error(`POST ${path}: HTTP ${reply.status} ${text}`);
  return JSON.parse(text) as T;
}
