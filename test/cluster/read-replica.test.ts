import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { migrate } from '../../internal/data/postgres/migrate.js';
import { loadMigrations } from '../../internal/data/postgres/migration-file.js';
import { PostgresClusterProcesses } from '../../internal/local/clusters/postgres-cluster.js';
import { projectRoot } from '../../internal/local/project.js';
import { freePort } from '../../internal/local/servers/ports.js';
import { postgres } from '../../internal/local/servers/postgres.js';
import { seriesValue } from '../support/metrics-text.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';
import { missingProgram } from './missing.js';
import { clusterRoot } from './redis.js';
import { Shop } from './shop.js';

const LANES = 6;

describe('two replicas of product with a read replica of PostgreSQL', () => {
  const servers = useServers('redis', 'rabbitmq');
  const processes = useProcesses();
  let root: string;
  let cluster: PostgresClusterProcesses;
  let products: TestProcess[];
  let nextUser = 2_000_000;

  before(async function () {
    if (postgres.find() === undefined) missingProgram(this, 'postgres');
    root = clusterRoot('postgres');
    cluster = await PostgresClusterProcesses.start({ root, port: freePort, synchronous: false });
    await migrate(cluster.url, await loadMigrations(join(projectRoot, 'migrations')));
    const env = {
      ...servers.env(),
      KAIMAI_POSTGRES_URL: cluster.url,
      KAIMAI_DATA_DATABASE_REPLICA_SOURCE: cluster.url,
    };
    products = await Promise.all([processes.start('product', { env }), processes.start('product', { env })]);
  });
  after(async () => {
    await Promise.all((products ?? []).map((product) => product.stop()));
    await cluster?.stop();
    if (root) rmSync(root, { recursive: true, force: true });
  });

  /** Reads of both replicas by their outcome. */
  async function reads(outcome: string): Promise<number> {
    const texts = products.map(async ({ metrics }) => (await fetch(`http://${metrics}/metrics`)).text());
    const series = `kaimai_postgres_replica_reads_total{outcome="${outcome}"}`;
    return (await Promise.all(texts)).reduce((sum, text) => sum + (seriesValue(text, series) ?? 0), 0);
  }

  it('list each order to its user at once, at both, while it lags, is killed and comes back', async () => {
    const shop = new Shop(() => products);
    await shop.openSale(10);
    let going = true;
    let listed = 0;
    const wrong: string[] = [];
    // Shop calls any of the two: the order is made at one, and listed at one.
    const lane = async () => {
      while (going) {
        const userId = String(nextUser++);
        const headers = { 'x-user-id': userId };
        const order = await shop.call('POST', '/v1/orders', headers, { productId: shop.itemId });
        for (let i = 0; i < 4; i++) {
          const { status, body } = await shop.call('GET', '/v1/orders', headers);
          const ids = ((body.orders ?? []) as { id: string }[]).map((o) => o.id);
          if (order.status !== 200 || status !== 200 || ids.join() !== order.body.id) {
            wrong.push(`user ${userId}: ${order.status} ${order.body.id}, then ${status} ${ids.join()}`);
          }
          listed += 1;
        }
      }
    };
    const lanes = Promise.all(Array.from({ length: LANES }, lane));
    const furtherLists = async (n: number) => {
      const before = listed;
      await eventually('lists are answered', () => listed >= before + n);
    };
    try {
      await furtherLists(100);
      await eventually('the replica answers', async () => (await reads('replica')) > 0);

      await cluster.standby.query('SELECT pg_wal_replay_pause()');
      await furtherLists(100);
      assert.ok((await reads('behind')) > 0, 'no list was late for the replica');
      await cluster.standby.query('SELECT pg_wal_replay_resume()');

      await cluster.standby.kill();
      await furtherLists(100);
      assert.ok((await reads('away')) > 0, 'no list found the replica away');
      await cluster.standby.start();
      const before = await reads('replica');
      await eventually('the replica answers again', async () => (await reads('replica')) > before);
      await sleep(500);
    } finally {
      going = false;
      await lanes;
    }
    assert.deepEqual(wrong, []);
    const [replica, behind, away] = await Promise.all(['replica', 'behind', 'away'].map(reads));
    console.log(
      `      ${listed} lists: ${replica} by the replica, ${behind} too early for it, ${away} while it was away`,
    );
  });
});
