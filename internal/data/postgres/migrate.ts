import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { errorText } from '../../kratos/errors/error-text.js';

/** A file of migrations/: `NNN_name.sql`. Each runs once, in the order of the numbers. */
export interface Migration {
  readonly version: number;
  readonly name: string;
  readonly sql: string;
  /** SHA-256 of the file, hex. */
  readonly checksum: string;
}

/** Advisory lock of all processes that migrate one database. The number itself means nothing. */
const LOCK_KEY = 7_236_001;
const LOCK_TIMEOUT_MS = 120_000;

/** @throws when a file has no number, or the numbers are not 001, 002, … without gap or repetition */
export async function loadMigrations(directory: string): Promise<readonly Migration[]> {
  const files = (await readdir(directory)).filter((f) => f.endsWith('.sql')).sort();
  const migrations: Migration[] = [];
  for (const name of files) {
    const number = /^(\d{3})_/.exec(name)?.[1];
    if (number === undefined) throw new Error(`${name}: the name of a migration must be NNN_what_it_does.sql`);
    const version = Number(number);
    const last = migrations.at(-1)?.version ?? 0;
    if (version === last) throw new Error(`two migrations have the number ${number}`);
    // With a gap, a later migration could take the missing number and would then run out of order.
    if (version !== last + 1) throw new Error(`migration ${numberOf(last + 1)} is missing before ${name}`);
    const sql = await readFile(join(directory, name), 'utf8');
    migrations.push({ version, name, sql, checksum: createHash('sha256').update(sql).digest('hex') });
  }
  return migrations;
}

/**
 * Applies the missing migrations, each in its own transaction. Any number of processes may call it at once: one of them
 * migrates while the others wait.
 *
 * @returns the names of the files that this call applied
 * @throws when the database has a migration that is not in `migrations`, an applied file has changed, or a missing
 * migration is older than an applied one
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
        throw new Error(`the database is ahead: it has ${row.name}, which this version of Kaimai does not have`);
      }
      if (migration.checksum !== row.checksum) {
        throw new Error(`${row.name} has changed since it was applied: add a new migration instead`);
      }
    }
    const done = new Set(applied.rows.map((row) => row.version));
    const newest = applied.rows.at(-1);
    const missing = migrations.filter((m) => !done.has(m.version));
    const late = missing.find((m) => newest !== undefined && m.version < newest.version);
    // It may rely on a schema that the newer one has changed.
    if (late) throw new Error(`${late.name} is missing, but the database already has the newer ${newest?.name}`);
    const names: string[] = [];
    for (const migration of missing) {
      await apply(client, migration);
      names.push(migration.name);
    }
    return names;
  } finally {
    // Ending the session releases the lock.
    await client.end();
  }
}

function numberOf(version: number): string {
  return String(version).padStart(3, '0');
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
    throw new Error(`${migration.name}: ${errorText(err)}`, { cause: err });
  }
}
