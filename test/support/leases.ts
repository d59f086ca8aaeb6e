/**
 * Leases on the shared servers for one suite: how they are created and revoked, and how leaked connections are found.
 */
import { Socket } from 'node:net';
import { join } from 'node:path';
import { connect } from 'amqplib';
import { Redis } from 'ioredis';
import pg from 'pg';
import { migrate } from '../../internal/data/postgres/migrate.js';
import { loadMigrations } from '../../internal/data/postgres/migration-file.js';
import { projectRoot } from '../../internal/local/project.js';
import { manage } from './rabbitmq-management.js';
import { atEnd, sharedServer } from './shared-servers.js';
import { eventually } from './wait.js';

export interface Lease {
  url: string;
  managementUrl?: string | undefined;
  /** Prefix of names if the suite has no isolated space. */
  prefix?: string;
  /** The requested queues with a prefix. */
  queues?: Set<string>;
  /** Descriptions of connections that are still open although they had time to close. */
  findLeaks(): Promise<string[]>;
  drop(): Promise<void>;
}

/** Servers notice a closed socket a moment later. */
const CLOSING_MS = 5_000;

async function remaining(list: () => Promise<string[]>): Promise<string[]> {
  let found: string[] = [];
  const none = async () => {
    found = await list();
    return found.length === 0;
  };
  await eventually('no connections', none, { timeoutMs: CLOSING_MS, everyMs: 50 }).catch(() => {});
  return found;
}

async function withClient<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 10_000 });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

function onDatabase(url: string, database: string): string {
  const changed = new URL(url);
  changed.pathname = `/${database}`;
  return changed.href;
}

let template: Promise<string> | undefined;
// A template cannot be copied while another session uses it.
let copying: Promise<unknown> = Promise.resolve();

async function makeTemplate(server: string): Promise<string> {
  const name = `kaimai_template_${process.pid}_${Date.now()}`;
  await withClient(server, (client) => client.query(`CREATE DATABASE ${name}`));
  await migrate(onDatabase(server, name), await loadMigrations(join(projectRoot, 'migrations')));
  atEnd(() => withClient(server, (client) => client.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`)));
  return name;
}

export async function leasePostgres(suite: string): Promise<Lease> {
  const { url: server } = await sharedServer('postgres');
  template ??= makeTemplate(server);
  const source = await template;
  const copy = copying.then(() =>
    withClient(server, (client) => client.query(`CREATE DATABASE ${suite} TEMPLATE ${source}`)),
  );
  copying = copy.catch(() => {});
  await copy;
  return {
    url: onDatabase(server, suite),
    findLeaks: () =>
      withClient(server, (client) =>
        remaining(async () => {
          const { rows } = await client.query<{ pid: number; application_name: string; query: string }>(
            `SELECT pid, application_name, query FROM pg_stat_activity
             WHERE datname = $1 AND backend_type = 'client backend'`,
            [suite],
          );
          return rows.map((row) => `PostgreSQL ${row.application_name || row.pid}, last statement: ${row.query}`);
        }),
      ),
    drop: () => withClient(server, async (client) => void (await client.query(`DROP DATABASE ${suite} WITH (FORCE)`))),
  };
}

const CLAIM = 'kaimai:test:claimed';
const REDIS_DATABASES = 1024;
const taken = new Set<number>();

export async function leaseRedis(): Promise<Lease> {
  const { url: server } = await sharedServer('redis');
  const { client, database } = await claimRedisDatabase(server);
  const url = onDatabase(server, String(database));
  return {
    url,
    findLeaks: () =>
      remaining(async () => {
        const own = await client.client('ID');
        const list = String(await client.client('LIST'))
          .trim()
          .split('\n');
        const others = list.filter((line) => line.includes(` db=${database} `) && !line.startsWith(`id=${own} `));
        return others.map((line) => `Redis ${line}`);
      }),
    async drop() {
      await client.flushdb();
      await client.quit();
      taken.delete(database);
    },
  };
}

/** Finds an empty database. A server that was given may be in use, for example by other test runs. */
async function claimRedisDatabase(server: string): Promise<{ client: Redis; database: number }> {
  const client = new Redis(server, { lazyConnect: true, connectionName: 'kaimai-test' });
  await client.connect();
  try {
    for (let database = 1; database < REDIS_DATABASES; database++) {
      if (taken.has(database)) continue;
      taken.add(database);
      await client.select(database);
      const empty = await client.eval(
        `if redis.call('DBSIZE') > 0 then return 0 end
         redis.call('SET', KEYS[1], '1')
         return 1`,
        1,
        CLAIM,
      );
      if (empty === 1) {
        const single = (await sharedServer('redis')).processes.length > 0;
        // A private server has no other users, and a suite may need an empty database.
        if (single) await client.del(CLAIM);
        return { client, database };
      }
      taken.delete(database);
    }
    throw new Error('no empty Redis database');
  } catch (error) {
    client.disconnect();
    throw error;
  }
}

export async function leaseRabbitmq(suite: string): Promise<Lease> {
  const { url: server, extras } = await sharedServer('rabbitmq');
  const managementUrl = extras.KAIMAI_RABBITMQ_MANAGEMENT_URL ?? (await givenManagement(server));
  if (!managementUrl) {
    const prefix = `${suite}.`;
    const queues = new Set<string>();
    return { url: server, prefix, queues, findLeaks: async () => [], drop: () => deleteQueues(server, queues) };
  }
  const { username } = new URL(managementUrl);
  await manage(managementUrl, 'PUT', `vhosts/${suite}`);
  await manage(managementUrl, 'PUT', `permissions/${suite}/${username}`, { configure: '.*', write: '.*', read: '.*' });
  return {
    url: onDatabase(server, suite),
    managementUrl,
    // The management API shows connections seconds late; the sockets of this process are up to date.
    findLeaks: () => remaining(async () => ownSockets(Number(new URL(server).port || 5672))),
    drop: async () => void (await manage(managementUrl, 'DELETE', `vhosts/${suite}`)),
  };
}

function ownSockets(remotePort: number): string[] {
  const { _getActiveHandles: handles } = process as unknown as { _getActiveHandles(): unknown[] };
  const sockets = handles
    .call(process)
    .filter((handle) => handle instanceof Socket && handle.remotePort === remotePort);
  return sockets.map((socket) => `RabbitMQ, local port ${(socket as Socket).localPort}`);
}

async function deleteQueues(server: string, queues: Set<string>): Promise<void> {
  const connection = await connect(server);
  try {
    const channel = await connection.createChannel();
    for (const queue of queues) await channel.deleteQueue(queue);
  } finally {
    await connection.close();
  }
}

/** The management API of a given server: at the URL in the variable, or on the default port of its host. */
async function givenManagement(server: string): Promise<string | undefined> {
  const { hostname, username, password } = new URL(server);
  const login = username ? `${username}:${password}` : 'guest:guest';
  const url = process.env.KAIMAI_RABBITMQ_MANAGEMENT_URL ?? `http://${login}@${hostname}:15672`;
  return manage(url, 'GET', 'overview').then(
    () => url,
    () => undefined,
  );
}

export async function leaseEtcd(suite: string): Promise<Lease> {
  const { url } = await sharedServer('etcd');
  const prefix = `/${suite}`;
  const encode = (text: string) => Buffer.from(text).toString('base64');
  return {
    url,
    prefix,
    findLeaks: async () => [],
    async drop() {
      const range = { key: encode(`${prefix}/`), range_end: encode(`${prefix}0`) };
      const response = await fetch(`${url}/v3/kv/deleterange`, {
        method: 'POST',
        body: JSON.stringify(range),
        signal: AbortSignal.timeout(10_000),
      });
      if (!response.ok) throw new Error(`etcd: ${response.status} ${await response.text()}`);
    },
  };
}
