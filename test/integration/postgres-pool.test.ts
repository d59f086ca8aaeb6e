import assert from 'node:assert/strict';
import pg from 'pg';
import { Registry } from 'prom-client';
import { isUnavailable } from '../../gen/common/v1/errors.js';
import { Postgres } from '../../internal/data/postgres/postgres.js';
import { Metrics } from '../../internal/kratos/metrics/metrics.js';
import { latch } from '../contract/backend.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const LOCK = { name: 'test_lock', text: 'SELECT pg_advisory_xact_lock($1)' };
const READ = { name: 'test_read', text: 'SELECT 1 AS one' };

describe('a pool of connections to PostgreSQL', () => {
  const servers = useServers('postgres');
  const open = (poolSize: number): Postgres =>
    new Postgres({
      source: servers.postgresUrl,
      poolSize,
      role: 'kaimai_product',
      // The longest wait for a lock, too. A client that hangs is given up after 2 s.
      statementTimeoutMs: 8_000,
      connectTimeoutMs: 5_000,
      applicationName: 'test-pool',
    });

  it('takes the locks of a client that hangs inside a transaction before others give up waiting', async () => {
    const [hanging, other] = [open(2), open(2)];
    const [locked, awake] = [latch(), latch()];
    try {
      let attempts = 0;
      const hung = hanging.run(async (tx) => {
        await hanging.query(LOCK, [1], tx);
        attempts += 1;
        locked.open();
        if (attempts === 1) await awake.opened;
        await hanging.query(READ, [], tx);
      });
      await locked.opened;
      await other.run((tx) => other.query(LOCK, [1], tx));
      awake.open();
      await hung;
      assert.equal(attempts, 2);
    } finally {
      awake.open();
      await Promise.all([hanging.close(), other.close()]);
    }
  });

  it('prepares statements under their names, except those that are planned for each execution', async () => {
    const db = open(1);
    try {
      const replanned = { name: 'test_replanned', replan: true, text: 'SELECT $1::int AS given' };
      const prepared = { name: 'test_prepared_names', text: 'SELECT name FROM pg_prepared_statements ORDER BY name' };
      await db.query(READ, []);
      for (const given of [1, 2]) {
        assert.deepEqual((await db.query<{ given: number }>(replanned, [given])).rows, [{ given }]);
      }
      const names = (await db.query<{ name: string }>(prepared, [])).rows.map((row) => row.name);
      assert.deepEqual(names, [prepared.name, READ.name].sort());
    } finally {
      await db.close();
    }
  });

  it('counts connections that were lost while unused', async () => {
    const db = open(1);
    const admin = new pg.Client({ connectionString: servers.postgresUrl });
    await admin.connect();
    try {
      const registry = new Registry();
      db.observe(new Metrics(registry, 'shop'));
      const lost = async () => /^shop_postgres_connection_errors_total (\d+)$/m.exec(await registry.metrics())?.[1];
      const own = { name: 'test_own_pid', text: 'SELECT pg_backend_pid() AS pid' };
      const { rows } = await db.query<{ pid: number }>(own, []);
      assert.equal(await lost(), '0');
      await admin.query('SELECT pg_terminate_backend($1)', [rows[0]?.pid]);
      await eventually('the connection is lost', async () => Number(await lost()) > 0);
      assert.notEqual((await db.query<{ pid: number }>(own, [])).rows[0]?.pid, rows[0]?.pid);
    } finally {
      await Promise.all([admin.end(), db.close()]);
    }
  });

  it('answers reads while every transaction waits for a lock', async () => {
    const holder = new pg.Client({ connectionString: servers.postgresUrl });
    await holder.connect();
    const db = open(4);
    try {
      await holder.query('SELECT pg_advisory_lock(2)');
      const waiting = Promise.allSettled(Array.from({ length: 8 }, () => db.run((tx) => db.query(LOCK, [2], tx))));
      await eventually('transactions wait', async () => {
        const { rows } = await holder.query<{ n: number }>(
          "SELECT count(*)::int AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
        );
        return (rows[0]?.n ?? 0) >= 3;
      });
      for (let i = 0; i < 20; i++) assert.equal((await db.query<{ one: number }>(READ, [])).rows[0]?.one, 1);
      await holder.query('SELECT pg_advisory_unlock(2)');
      const failures = (await waiting).flatMap((o) => (o.status === 'rejected' ? [o.reason] : []));
      assert.ok(failures.every(isUnavailable), String(failures));
      assert.ok(failures.length < 8);
    } finally {
      await holder.end();
      await db.close();
    }
  });
});
