import assert from 'node:assert/strict';
import { join } from 'node:path';
import pg from 'pg';
import { AdvisoryLocks } from '../../internal/data/postgres/advisory-locks.js';
import { LeasedName } from '../../internal/data/postgres/leased-name.js';
import { migrate } from '../../internal/data/postgres/migrate.js';
import { loadMigrations } from '../../internal/data/postgres/migration-file.js';
import { Postgres } from '../../internal/data/postgres/postgres.js';
import type { Pooler } from '../../internal/data/postgres/session.js';
import { projectRoot } from '../../internal/local/project.js';
import { freePort } from '../../internal/local/servers/ports.js';
import { OwnPgbouncer } from '../support/own-pgbouncer.js';
import { useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

/** Fewer than the processes have connections to PgBouncer, so that transactions of several share each of them. */
const POOL_SIZE = 5;
const ADMIN = { 'x-user-role': 'ADMIN', 'content-type': 'application/json' };
const BUYER = { 'x-user-id': '7', 'content-type': 'application/json' };
const SESSION = {
  name: 'test_session',
  text: `SELECT current_user AS role, current_setting('statement_timeout') AS timeout, current_setting('TimeZone') AS zone`,
};

describe('Behind PgBouncer in transaction mode', () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();
  let bouncer: OwnPgbouncer | undefined;
  let url: string;

  before(async function () {
    // PgBouncer is optional: make test does not install what most systems run without.
    if (!OwnPgbouncer.available) {
      console.log('    PgBouncer is not installed, so it is not tested: apt-get install pgbouncer');
      this.skip();
    }
    bouncer = await OwnPgbouncer.start(servers.postgresUrl, POOL_SIZE);
    url = bouncer.url(servers.postgresUrl);
  });
  after(() => bouncer?.close());

  const open = (pooler: Pooler, role: string, statementTimeoutMs: number) =>
    new Postgres({
      source: url,
      pooler,
      role,
      statementTimeoutMs,
      poolSize: 2,
      connectTimeoutMs: 5_000,
      applicationName: 'test',
    });

  it('ten processes migrate an empty database, each file once', async () => {
    const name = `${new URL(url).pathname.slice(1)}_bouncer`;
    const admin = new pg.Client({ connectionString: servers.postgresUrl });
    await admin.connect();
    try {
      await admin.query(`CREATE DATABASE ${name} TEMPLATE template0`);
      const empty = new URL(url);
      empty.pathname = `/${name}`;
      const migrations = await loadMigrations(join(projectRoot, 'migrations'));
      const applied = await Promise.all(Array.from({ length: 10 }, () => migrate(empty.href, migrations)));
      assert.deepEqual(
        applied.flat().sort(),
        migrations.map((m) => m.name),
      );
    } finally {
      await admin.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
      await admin.end();
    }
  });

  it('every statement has the settings of its own process, in and outside transactions', async () => {
    const pools = [open('transaction', 'kaimai_product', 7_000), open('transaction', 'kaimai_resource', 9_000)];
    try {
      const rows = await Promise.all(
        Array.from({ length: 40 }, async (_, i) => {
          const pool = pools[i % 2]!;
          const { rows } = await (i % 4 < 2 ? pool.query(SESSION, []) : pool.run((tx) => pool.query(SESSION, [], tx)));
          return rows[0];
        }),
      );
      for (const [i, row] of rows.entries()) {
        const own =
          i % 2 === 0 ? { role: 'kaimai_product', timeout: '7s' } : { role: 'kaimai_resource', timeout: '9s' };
        assert.deepEqual({ ...row }, { ...own, zone: 'UTC' });
      }
      const error = { name: 'test_error', text: 'SELECT 1/0' };
      await assert.rejects(pools[0]!.query(error, []), /division by zero/);
      assert.equal((await pools[0]!.query(SESSION, [])).rows.length, 1);
    } finally {
      await Promise.all(pools.map((pool) => pool.close()));
    }
  });

  it('is one of several hosts, through which a read says what it shows at least', async () => {
    const dead = `127.0.0.1:${await freePort()}`;
    const hosts = new URL(url).host;
    const source = url.replace(`@${hosts}/`, `@${dead},${hosts}/`);
    const settings = { role: 'kaimai_product', poolSize: 2, statementTimeoutMs: 5_000, connectTimeoutMs: 5_000 };
    const pool = new Postgres({ ...settings, source, pooler: 'transaction', applicationName: 'test' });
    let written = -1n;
    pool.writtenFor = async (userIds, position) => {
      assert.deepEqual(userIds, ['7']);
      written = position;
    };
    try {
      await pool.run(async (tx) => {
        pool.writesFor(tx, ['7']);
        await pool.query({ name: 'test_xid', text: 'SELECT pg_current_xact_id()' }, [], tx);
      });
      assert.ok(written > 0n);
      const { position, result } = await pool.queryWithPosition<{ role: string }>(SESSION, []);
      assert.ok(position >= written);
      assert.equal(result.rows[0]?.role, 'kaimai_product');
    } finally {
      await pool.close();
    }
  });

  it('a process that is not told of the pooler refuses to use it', async () => {
    const pool = open('none', '', 5_000);
    try {
      await assert.rejects(pool.ping(), /set data\.database\.pooler to its mode/);
    } finally {
      await pool.close();
    }
  });

  it('replicas hold different names, until they end', async () => {
    const locks = Array.from({ length: 3 }, () => new AdvisoryLocks(url, 5_000, () => {}, 'transaction'));
    try {
      const names = await Promise.all(locks.map((l) => new LeasedName(l, 'bounced').hold()));
      assert.deepEqual(names.sort(), ['bounced', 'bounced.1', 'bounced.2']);
    } finally {
      await Promise.all(locks.map((l) => l.close()));
    }
    const again = new AdvisoryLocks(url, 5_000, () => {}, 'transaction');
    try {
      assert.equal(await new LeasedName(again, 'bounced').hold(), 'bounced');
    } finally {
      await again.close();
    }
  });

  it('a flash sale and an ordinary order end with running instances', async () => {
    const env = { ...servers.env(), KAIMAI_POSTGRES_URL: url, KAIMAI_DATA_DATABASE_POOLER: 'transaction' };
    const product = await processes.start('product', { env });
    await processes.start('resource', { env: { ...env, ...product.env() } });
    const call = async <T>(method: string, path: string, headers: Record<string, string>, body?: unknown) => {
      const reply = await fetch(`http://${product.http}${path}`, {
        method,
        headers,
        ...(body !== undefined && { body: JSON.stringify(body) }),
      });
      const text = await reply.text();
      assert.equal(reply.status, 200, text);
      return JSON.parse(text) as T;
    };
    const spec = await call<{ id: string }>('POST', '/v1/product-specs', ADMIN, {
      cpu: 1,
      memory: 1,
      image: 'debian-12',
    });
    const plan = { name: 'plan', priceFen: '100', specId: spec.id, status: 'ENABLED' };
    const { id: itemId } = await call<{ id: string }>('POST', '/v1/products', ADMIN, plan);
    await call('POST', '/v1/sales', ADMIN, { itemId, total: '10', defaultLimit: 1 });
    await call('POST', `/v1/sales/${itemId}/open`, ADMIN, {});
    const order = await call<{ id: string }>('POST', '/v1/orders', BUYER, { productId: itemId, requestId: 'order-1' });
    await call('POST', `/v1/orders/${order.id}/paid`, ADMIN, { provider: 'manual', eventId: 'payment-1' });
    const purchase = await call<{ code: string }>('POST', '/v1/seckill', BUYER, { itemId, requestId: 'purchase-1' });
    assert.equal(purchase.code, 'QUEUED');
    await eventually('both orders are completed', async () => {
      const { orders } = await call<{ orders: { status: string }[] }>('GET', '/v1/orders', BUYER);
      return orders.length === 2 && orders.every((o) => o.status === 'COMPLETED');
    });
  });
});
