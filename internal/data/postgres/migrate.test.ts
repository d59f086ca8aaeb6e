import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { useServers } from '../../../test/support/servers.js';
import { projectRoot } from '../../local/project.js';
import { migrate } from './migrate.js';
import { loadMigrations, type Migration } from './migration-file.js';

const directory = join(projectRoot, 'migrations');

describe('migrate', () => {
  const servers = useServers('postgres');
  let migrations: readonly Migration[];
  let made = 0;

  /** An empty database, independent of the suite's own and of its template. */
  async function withEmptyDatabase(work: (url: string) => Promise<void>): Promise<void> {
    const name = `${new URL(servers.postgresUrl).pathname.slice(1)}_m${++made}`;
    const admin = new pg.Client({ connectionString: servers.postgresUrl });
    await admin.connect();
    await admin.query(`CREATE DATABASE ${name} TEMPLATE template0`);
    const url = new URL(servers.postgresUrl);
    url.pathname = `/${name}`;
    try {
      await work(url.href);
    } finally {
      await admin.query(`DROP DATABASE ${name} WITH (FORCE)`);
      await admin.end();
    }
  }

  before(async () => {
    migrations = await loadMigrations(directory);
  });

  it('applies every file once when twenty processes migrate at once', () =>
    withEmptyDatabase(async (url) => {
      const results = await Promise.all(Array.from({ length: 20 }, () => migrate(url, migrations)));
      assert.deepEqual(
        results.flat().sort(),
        migrations.map((m) => m.name),
      );
      assert.deepEqual(await migrate(url, migrations), []);
    }));

  it('continues after the first file was run by hand with psql', () =>
    withEmptyDatabase(async (url) => {
      await runByPsql(url, join(directory, '001_create_tables.sql'));
      assert.deepEqual(
        await migrate(url, migrations),
        migrations.map((m) => m.name),
      );
    }));

  it('refuses a database that has a migration it does not have', () =>
    withEmptyDatabase(async (url) => {
      await migrate(url, migrations);
      await assert.rejects(migrate(url, migrations.slice(0, -1)), /the database is ahead: it has \d{3}_/);
    }));

  it('refuses a migration whose number is below the newest applied one', () =>
    withEmptyDatabase(async (url) => {
      const [first, second, third] = migrations as [Migration, Migration, Migration];
      await migrate(
        url,
        [first, third].map((m) => ({ ...m, sql: '' })),
      );
      await assert.rejects(
        migrate(url, [first, second, third]),
        /002_orders\.sql is missing, but the database already has the newer 003_seckill\.sql/,
      );
      assert.deepEqual(await migrate(url, [first, third]), []);
    }));

  it('refuses a file that has changed since it was applied', () =>
    withEmptyDatabase(async (url) => {
      await migrate(url, migrations);
      const changed = migrations.map((m, i) => (i === 1 ? { ...m, checksum: '0'.repeat(64) } : m));
      await assert.rejects(migrate(url, changed), /002_orders\.sql has changed since it was applied/);
    }));

  it('rolls back a file that fails halfway and names it', () =>
    withEmptyDatabase(async (url) => {
      const broken = {
        version: 1,
        name: '001_broken.sql',
        sql: 'CREATE TABLE a (); SELECT 1/0;',
        checksum: '1'.repeat(64),
      };
      await assert.rejects(migrate(url, [broken]), /001_broken\.sql: division by zero/);
      const client = new pg.Client({ connectionString: url });
      await client.connect();
      const { rows } = await client.query(
        "SELECT to_regclass('a') AS a, (SELECT count(*)::int FROM schema_migrations) AS n",
      );
      await client.end();
      assert.deepEqual(rows, [{ a: null, n: 0 }]);
    }));

  const migration = (version: number, sql: string): Migration => ({
    version,
    name: `${String(version).padStart(3, '0')}_test.sql`,
    sql,
    checksum: String(version).repeat(64).slice(0, 64),
  });
  const TABLE = migration(1, 'CREATE TABLE t (x INT); INSERT INTO t SELECT generate_series(1, 100)');
  const INDEX = migration(2, '-- no transaction\nCREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS t_x ON t (x);\n');

  async function withClient<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    try {
      return await work(client);
    } finally {
      await client.end();
    }
  }
  const isValid = (url: string): Promise<boolean | undefined> =>
    withClient(url, async (client) => {
      const { rows } = await client.query<{ valid: boolean }>(
        "SELECT indisvalid AS valid FROM pg_index WHERE indexrelid = to_regclass('t_x')",
      );
      return rows[0]?.valid;
    });

  it('builds an index CONCURRENTLY although other processes wait to migrate', () =>
    withEmptyDatabase(async (url) => {
      const results = await Promise.all(Array.from({ length: 5 }, () => migrate(url, [TABLE, INDEX])));
      assert.deepEqual(results.flat().sort(), ['001_test.sql', '002_test.sql']);
      assert.equal(await isValid(url), true);
    }));

  it('builds an index anew that a run before it left INVALID', () =>
    withEmptyDatabase(async (url) => {
      await migrate(url, [TABLE]);
      await withClient(url, async (client) => {
        await client.query('INSERT INTO t VALUES (1)');
        await assert.rejects(migrate(url, [TABLE, INDEX]), /002_test\.sql: could not create unique index "t_x"/);
        assert.equal(await isValid(url), false);
        await client.query('DELETE FROM t WHERE ctid = (SELECT max(ctid) FROM t WHERE x = 1)');
      });
      const lines: string[] = [];
      assert.deepEqual(await migrate(url, [TABLE, INDEX], { report: (line) => lines.push(line) }), ['002_test.sql']);
      assert.equal(await isValid(url), true);
      assert.match(
        lines.join('\n'),
        /^applying 002.*\n.*t_x is INVALID, left by a run.*\napplied 002_test\.sql in \d+ ms$/,
      );
    }));

  it('continues after a run that died between an index and its record', () =>
    withEmptyDatabase(async (url) => {
      await migrate(url, [TABLE, INDEX]);
      await withClient(url, (client) => client.query('DELETE FROM schema_migrations WHERE version = 2'));
      assert.deepEqual(await migrate(url, [TABLE, INDEX]), ['002_test.sql']);
    }));

  it('gives up with the name of the migration when it gets no lock in time, and leaves nothing behind', () =>
    withEmptyDatabase(async (url) => {
      await migrate(url, [TABLE]);
      const change = migration(2, 'CREATE TABLE other (); ALTER TABLE t ADD COLUMN y INT');
      await withClient(url, async (reader) => {
        await reader.query('BEGIN; SELECT count(*) FROM t');
        const lines: string[] = [];
        await assert.rejects(
          migrate(url, [TABLE, change], {
            lockTimeoutMs: 20,
            giveUpAfterMs: 1_500,
            report: (line) => lines.push(line),
          }),
          /002_test\.sql: canceling statement due to lock timeout/,
        );
        assert.ok(lines.length >= 2, 'it tried more than once');
        assert.match(lines[1]!, /got no lock at attempt 1, trying again in \d+ ms/);
        await reader.query('COMMIT');
        const { rows } = await reader.query("SELECT to_regclass('other') AS other");
        assert.deepEqual(rows, [{ other: null }]);
      });
      assert.deepEqual(await migrate(url, [TABLE, change]), ['002_test.sql']);
    }));
});

/** Runs the file with psql, or through one connection where the servers run elsewhere and psql is not installed. */
async function runByPsql(url: string, file: string): Promise<void> {
  try {
    await promisify(execFile)('psql', [url, '-v', 'ON_ERROR_STOP=1', '-q', '-f', file]);
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code !== 'ENOENT') throw err;
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    await client.query(await readFile(file, 'utf8'));
    await client.end();
  }
}
