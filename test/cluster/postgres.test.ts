import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { migrate } from '../../internal/data/postgres/migrate.js';
import { loadMigrations } from '../../internal/data/postgres/migration-file.js';
import type { Postgres } from '../../internal/data/postgres/postgres.js';
import { RedisServer } from '../../internal/data/redis/redis.js';
import { PostgresClusterProcesses, type PostgresNode } from '../../internal/local/clusters/postgres-cluster.js';
import { projectRoot } from '../../internal/local/project.js';
import { freePort } from '../../internal/local/servers/ports.js';
import { postgres } from '../../internal/local/servers/postgres.js';
import { freeze } from '../support/backends.js';
import { openPostgres } from '../support/instances.js';
import { OwnPgbouncer } from '../support/own-pgbouncer.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';
import { missingProgram } from './missing.js';
import { clusterRoot } from './redis.js';
import { Shop } from './shop.js';

/** An order that was answered 200. */
interface Ordered {
  readonly userId: number;
  readonly orderId: string;
  /** By performance.now(). */
  readonly askedAt: number;
}

const ORDER_LANES = 4;
/** Connections that each pooler has to its server. */
const POOLER_SIZE = 20;

/** A frozen server keeps its sockets and never answers, like one whose disk hangs. */
type Fault = 'killed' | 'frozen';

for (const fault of ['killed', 'frozen'] as const) {
  for (const pooled of [false, true]) {
    const where = pooled ? ', each behind a PgBouncer' : '';
    describe(`product on a PostgreSQL with a synchronous standby${where}`, () => promotion(fault, pooled));
  }
}

function promotion(fault: Fault, pooled: boolean): void {
  const servers = useServers('redis', 'rabbitmq');
  const processes = useProcesses();
  let root: string;
  let cluster: PostgresClusterProcesses;
  let products: TestProcess[];
  let db: Postgres;
  let view: RedisServer;
  const ordered: Ordered[] = [];
  let nextUser = 1_000_000;
  let thaw: (() => void) | undefined;
  const bouncers: OwnPgbouncer[] = [];

  before(async function () {
    if (pooled && !OwnPgbouncer.available) missingProgram(this, 'pgbouncer');
    if (postgres.find() === undefined) missingProgram(this, 'postgres');
    root = clusterRoot('postgres');
    cluster = await PostgresClusterProcesses.start({ root, port: freePort });
    await migrate(cluster.url, await loadMigrations(join(projectRoot, 'migrations')));
    const env = { ...servers.env(), ...(pooled ? await throughPoolers() : { KAIMAI_POSTGRES_URL: cluster.url }) };
    products = await Promise.all([processes.start('product', { env }), processes.start('product', { env })]);
    db = openPostgres(cluster.url, 'kaimai_product');
    view = new RedisServer({ addr: servers.redisUrl, readTimeoutMs: 5_000, connectTimeoutMs: 5_000, keyPrefix: '' });
    await view.ready(5_000);
  });
  after(async () => {
    thaw?.();
    await Promise.all((products ?? []).map((product) => product.stop()));
    view?.close();
    await db?.close();
    await Promise.all(bouncers.map((bouncer) => bouncer.close()));
    await cluster?.stop();
    if (root) rmSync(root, { recursive: true, force: true });
  });

  /** Each server has a pooler of its own, which stays when its server is killed. */
  async function throughPoolers(): Promise<Record<string, string>> {
    const urls: string[] = [];
    for (const { url } of [cluster.primary, cluster.standby]) {
      const bouncer = await OwnPgbouncer.start(url, POOLER_SIZE);
      bouncers.push(bouncer);
      urls.push(bouncer.url(url));
    }
    const [first, second] = urls.map((url) => new URL(url));
    return {
      KAIMAI_POSTGRES_URL: first!.href.replace(`@${first!.host}/`, `@${first!.host},${second!.host}/`),
      KAIMAI_DATA_DATABASE_POOLER: 'transaction',
    };
  }

  async function order(shop: Shop): Promise<number> {
    const userId = nextUser++;
    const askedAt = performance.now();
    const headers = { 'x-user-id': String(userId) };
    const reply = await shop.call('POST', '/v1/orders', headers, { productId: shop.itemId }).catch(() => undefined);
    if (reply?.status === 200) ordered.push({ userId, orderId: reply.body.id!, askedAt });
    return reply?.status ?? 0;
  }

  function orders(shop: Shop): { done(): Promise<ReadonlySet<number>> } {
    let going = true;
    const statuses = new Set<number>();
    const lane = async () => {
      while (going) {
        const status = await order(shop);
        statuses.add(status);
        if (status !== 200) await sleep(20);
      }
    };
    const all = Promise.all(Array.from({ length: ORDER_LANES }, lane));
    return {
      done: async () => {
        going = false;
        await all;
        return statuses;
      },
    };
  }

  const ordersAt = async (node: PostgresNode) => {
    const rows = await node.query<{ id: string }>('SELECT id FROM orders');
    return new Set(rows.map(({ id }) => id));
  };

  async function fail(): Promise<void> {
    if (fault === 'killed') await cluster.primary.kill();
    else thaw = freeze(cluster.primary.pid);
  }

  /** It comes back by itself, and would take writes. */
  async function comeBack(): Promise<void> {
    if (fault === 'killed') await cluster.primary.start();
    else thaw?.();
  }

  it(`sells on at the promoted standby when the primary is ${fault}, loses nothing that was answered, and leaves the old primary alone`, async () => {
    const shop = new Shop(() => products);
    await shop.openSale(5_000);
    const buyers = shop.crowd(4);
    const callers = orders(shop);
    await eventually('some are sold and some are ordered', () => shop.bought.length >= 50 && ordered.length >= 50);

    await fail();
    const failedAt = performance.now();
    await cluster.promote();
    const promotedMs = performance.now() - failedAt;
    const succeeds = () => ordered.some(({ askedAt }) => askedAt > failedAt);
    await eventually('an order succeeds', succeeds, { timeoutMs: 60_000, everyMs: 5 });
    const succeededMs = performance.now() - failedAt;
    console.log(
      `      ${fault}; promoted after ${Math.round(promotedMs)} ms, success after ${Math.round(succeededMs)} ms`,
    );

    await comeBack();
    // A commit that the killed server had, and its standby did not, was never answered.
    const own = fault === 'killed' ? await ordersAt(cluster.primary) : new Set<string>();
    const [soldBefore, orderedMeanwhile] = [shop.bought.length, ordered.length];
    await eventually(
      'both go on',
      () => shop.bought.length >= soldBefore + 50 && ordered.length >= orderedMeanwhile + 50,
    );
    const [old, promoted] = [await ordersAt(cluster.primary), await ordersAt(cluster.standby)];
    const written = [...old].filter((id) => !own.has(id) && !promoted.has(id));
    assert.deepEqual(written, [], 'an order was written to the server that was replaced');
    await cluster.primary.stop();

    await buyers.done();
    const statuses = await callers.done();
    assert.deepEqual(
      [...statuses].filter((status) => ![200, 503, 0].includes(status)),
      [],
    );
    await shop.settled(db, view);
    assert.deepEqual(await shop.lost(), []);
    const { rows } = await db.pool.query<{ id: bigint }>('SELECT id FROM orders WHERE id = ANY($1::bigint[])', [
      ordered.map((o) => o.orderId),
    ]);
    assert.equal(rows.length, ordered.length, 'an order that was answered is gone');
  });
}
