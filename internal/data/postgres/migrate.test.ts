import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
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
});

describe('loadMigrations', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'kaimai-migrations-'));
  });
  afterEach(() => rm(folder, { recursive: true }));
  const load = async (...names: readonly string[]) => {
    for (const name of names) await writeFile(join(folder, name), '');
    return (await loadMigrations(folder)).map((m) => m.version);
  };

  it('loads the files in the order of their numbers and ignores other files', async () => {
    assert.deepEqual(await load('002_b.sql', '001_a.sql', 'README.md'), [1, 2]);
  });

  it('refuses a gap in the numbers', async () => {
    await assert.rejects(load('001_a.sql', '003_c.sql'), /migration 002 is missing before 003_c\.sql/);
  });

  it('refuses numbers that do not start at 001', async () => {
    await assert.rejects(load('002_b.sql'), /migration 001 is missing before 002_b\.sql/);
  });

  it('refuses two files with one number', async () => {
    await assert.rejects(load('001_a.sql', '001_b.sql'), /two migrations have the number 001/);
  });

  it('refuses a file without a number', async () => {
    await assert.rejects(load('tables.sql'), /tables\.sql: the name of a migration must be NNN_what_it_does\.sql/);
  });
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
