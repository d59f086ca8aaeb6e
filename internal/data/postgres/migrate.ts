import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';

/** A file of migrations/: `NNN_name.sql`, run once, in the order of its number. */
export interface Migration {
  readonly version: number;
  readonly name: string;
  readonly sql: string;
  /** SHA-256 of the file, hex. */
  readonly checksum: string;
}

/** Any number, the same for every migrating process of a database. */
const LOCK_KEY = 7_236_001;
const LOCK_TIMEOUT_MS = 120_000;

/** @throws when two files share a number, or one has none */
export async function loadMigrations(directory: string): Promise<readonly Migration[]> {
  const files = (await readdir(directory)).filter((f) => f.endsWith('.sql')).sort();
  const migrations: Migration[] = [];
  for (const name of files) {
    const number = /^(\d{3})_/.exec(name)?.[1];
    if (number === undefined) throw new Error(`${name}: a migration is named NNN_what_it_does.sql`);
    const version = Number(number);
    if (migrations.at(-1)?.version === version) throw new Error(`two migrations have the number ${number}`);
    const sql = await readFile(join(directory, name), 'utf8');
    migrations.push({ version, name, sql, checksum: createHash('sha256').update(sql).digest('hex') });
  }
  return migrations;
}

/**
 * Applies what is missing, each file in a transaction of its own. Safe when many start at once: one works, the others
 * wait and find it done.
 *
 * @returns the names applied by this call
 * @throws when the database is ahead of `migrations`, or an applied file has changed since
 */
export async function migrate(url: string, migrations: readonly Migration[]): Promise<readonly string[]> {
  const client = new pg.Client({
    connectionString: url,
    connectionTimeoutMillis: 10_000,
    application_name: 'kaimai-migrate',
    options: `-c lock_timeout=${LOCK_TIMEOUT_MS} -c client_min_messages=warning`,
  });
  await client.connect();
  try {
    await client.query('SELECT pg_advisory_lock($1)', [LOCK_KEY]);
    await client.query(`CREATE TABLE IF NOT EXISTS schema_migrations (
      version INT PRIMARY KEY, name VARCHAR(255) NOT NULL, checksum CHAR(64) NOT NULL,
      applied_at TIMESTAMPTZ NOT NULL DEFAULT now())`);
    const applied = await client.query<{ version: number; name: string; checksum: string }>(
      'SELECT version, name, checksum FROM schema_migrations ORDER BY version',
    );
    const known = new Map(migrations.map((m) => [m.version, m]));
    for (const row of applied.rows) {
      const migration = known.get(row.version);
      if (!migration) {
        throw new Error(`the database is ahead: it has ${row.name}, which this version of Kaimai does not know`);
      }
      if (migration.checksum !== row.checksum) {
        throw new Error(`${row.name} has changed since it was applied: an applied migration is never edited`);
      }
    }
    const done = new Set(applied.rows.map((row) => row.version));
    const names: string[] = [];
    for (const migration of migrations) {
      if (done.has(migration.version)) continue;
      await apply(client, migration);
      names.push(migration.name);
    }
    return names;
  } finally {
    // Ends the session, and with it the lock.
    await client.end();
  }
}

async function apply(client: pg.Client, migration: Migration): Promise<void> {
  try {
    await client.query('BEGIN');
    await client.query(migration.sql);
    await client.query('INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)', [
      migration.version,
      migration.name,
      migration.checksum,
    ]);
    await client.query('COMMIT');
  } catch (err) {
    await client.query('ROLLBACK').catch(() => {});
    throw new Error(`${migration.name}: ${(err as Error).message}`, { cause: err });
  }
}
