import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { useServers } from '../../../test/support/servers.js';
import { projectRoot } from '../../local/project.js';
import { loadMigrations, type Migration, migrate } from './migrate.js';

const directory = join(projectRoot, 'migrations');

describe('migrate', () => {
  const servers = useServers('postgres');
  let migrations: readonly Migration[];
  let made = 0;

  /** An empty database beside the suite's own, so that the server's template plays no part. */
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

  it('applies every file once when twenty start at once', () =>
    withEmptyDatabase(async (url) => {
      const results = await Promise.all(Array.from({ length: 20 }, () => migrate(url, migrations)));
      assert.deepEqual(
        results.flat().sort(),
        migrations.map((m) => m.name),
      );
      assert.deepEqual(await migrate(url, migrations), []);
    }));

  it('goes on from a first file that psql ran by hand', () =>
    withEmptyDatabase(async (url) => {
      await runByPsql(url, join(directory, '001_create_tables.sql'));
      assert.deepEqual(
        await migrate(url, migrations),
        migrations.map((m) => m.name),
      );
    }));

  it('refuses a database that is ahead of it', () =>
    withEmptyDatabase(async (url) => {
      await migrate(url, migrations);
      await assert.rejects(migrate(url, migrations.slice(0, -1)), /the database is ahead: it has \d{3}_/);
    }));

  it('refuses a file that changed after it was applied', () =>
    withEmptyDatabase(async (url) => {
      await migrate(url, migrations);
      const changed = migrations.map((m, i) => (i === 1 ? { ...m, checksum: '0'.repeat(64) } : m));
      await assert.rejects(migrate(url, changed), /002_orders\.sql has changed since it was applied/);
    }));

  it('leaves nothing of a file that fails half-way, and names it', () =>
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
});

/** As the first document says; where the servers run elsewhere and psql is not here, its one connection stands in. */
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
