import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { errorText } from '../../kratos/errors/error-text.js';
import { connectClient } from './hosts.js';
import { type Migration, type OutsideStatement, outsideStatements } from './migration-file.js';

export interface MigrateOptions {
  /**
   * Longest wait of a statement for a lock. A statement that waits for an exclusive lock makes every later call on its
   * table wait behind it, so this is the longest delay that a migration adds to a call. Default 200 ms.
   */
  readonly lockTimeoutMs?: number;
  /** How long a migration that gets no lock is tried again. Default 10 minutes. */
  readonly giveUpAfterMs?: number;
  /** Told of every step in one line. */
  readonly report?: (line: string) => void;
}

/** Advisory lock of all processes that migrate one database. The number itself means nothing. */
const LOCK_KEY = 7_236_001;
const LOCK_TIMEOUT_MS = 200;
const GIVE_UP_AFTER_MS = 600_000;
/** How often a process that waits for another one's migration looks. */
const POLL_MS = 100;
const FIRST_PAUSE_MS = 200;
const LAST_PAUSE_MS = 5_000;
/** lock_not_available; deadlock_detected. */
const RETRIED = new Set(['55P03', '40P01']);

/**
 * Applies the missing migrations, each in its own transaction or, where its first line says so, each statement by itself.
 * Any number of processes may call it at once: one of them migrates while the others wait. Buyers may go on meanwhile.
 *
 * @returns the names of the files that this call applied
 * @throws when the database has a migration that is not in `migrations`, an applied file has changed, a missing
 * migration is older than an applied one, or a migration got no lock in time
 */
export async function migrate(
  url: string,
  migrations: readonly Migration[],
  options: MigrateOptions = {},
): Promise<readonly string[]> {
  const client = await connect(url);
  try {
    const lock = await connect(url);
    try {
      return await new Migrator(client, lock, options).run(migrations);
    } finally {
      // Ending the session releases the lock.
      await lock.end();
    }
  } finally {
    await client.end();
  }
}

function connect(url: string): Promise<pg.Client> {
  return connectClient(url, { application_name: 'kaimai-migrate' });
}

class Migrator {
  private readonly lockTimeoutMs: number;
  private readonly giveUpAfterMs: number;
  private readonly report: (line: string) => void;

  constructor(
    private readonly client: pg.Client,
    /** A connection of its own, which holds the lock. */
    private readonly lock: pg.Client,
    { lockTimeoutMs = LOCK_TIMEOUT_MS, giveUpAfterMs = GIVE_UP_AFTER_MS, report = () => {} }: MigrateOptions,
  ) {
    this.lockTimeoutMs = lockTimeoutMs;
    this.giveUpAfterMs = giveUpAfterMs;
    this.report = report;
  }

  async run(migrations: readonly Migration[]): Promise<readonly string[]> {
    await this.becomeTheOnlyOne();
    await this.client.query(`CREATE TABLE IF NOT EXISTS schema_migrations (
      version INT PRIMARY KEY, name VARCHAR(255) NOT NULL, checksum CHAR(64) NOT NULL,
      applied_at TIMESTAMPTZ NOT NULL DEFAULT now())`);
    const names: string[] = [];
    for (const migration of await this.missing(migrations)) {
      this.report(`applying ${migration.name}`);
      const startedMs = performance.now();
      // Fails if the connection was lost, and the lock with it.
      await this.lock.query('SELECT 1');
      await this.apply(migration);
      names.push(migration.name);
      this.report(`applied ${migration.name} in ${Math.round(performance.now() - startedMs)} ms`);
    }
    return names;
  }

  /**
   * Waits until no other process migrates. By asking again and again: a session that waits inside a statement has a
   * snapshot, and the CREATE INDEX CONCURRENTLY of the other process would wait for its end in turn. The lock
   * belongs to a transaction that stays open and has no snapshot either: behind a pooler in transaction mode, others would
   * get the connection of a session, and the lock with it.
   */
  private async becomeTheOnlyOne(): Promise<void> {
    const giveUpAtMs = performance.now() + 2 * this.giveUpAfterMs;
    for (let told = false; ; told = true) {
      await this.lock.query('BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0');
      const { rows } = await this.lock.query<{ held: boolean }>('SELECT pg_try_advisory_xact_lock($1) AS held', [
        LOCK_KEY,
      ]);
      if (rows[0]?.held) return;
      await this.lock.query('ROLLBACK');
      if (!told) this.report('another process migrates this database: waiting for it');
      if (performance.now() > giveUpAtMs)
        throw new Error('another process has been migrating this database for too long');
      await sleep(POLL_MS * (0.5 + Math.random()));
    }
  }

  private async missing(migrations: readonly Migration[]): Promise<readonly Migration[]> {
    const applied = await this.client.query<{ version: number; name: string; checksum: string }>(
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
    return missing;
  }

  private async apply(migration: Migration): Promise<void> {
    const statements = outsideStatements(migration);
    const { name } = migration;
    try {
      if (!statements) return await this.untilLocked(name, () => this.inTransaction(migration));
      // These wait for a lock that conflicts with no read or write, so nothing waits behind them.
      await this.client.query(`SET lock_timeout = ${this.giveUpAfterMs}`);
      for (const statement of statements) await this.untilLocked(name, () => this.outside(name, statement));
      await this.record(migration);
    } catch (err) {
      throw new Error(`${name}: ${errorText(err)}`, { cause: err });
    }
  }

  /** Runs `step` until it gets its locks. Between two tries everything else goes on. */
  private async untilLocked(name: string, step: () => Promise<void>): Promise<void> {
    const giveUpAtMs = performance.now() + this.giveUpAfterMs;
    for (let attempt = 1; ; attempt++) {
      try {
        return await step();
      } catch (err) {
        if (!RETRIED.has((err as { code?: string }).code ?? '') || performance.now() >= giveUpAtMs) throw err;
        const pauseMs = Math.min(FIRST_PAUSE_MS * 2 ** (attempt - 1), LAST_PAUSE_MS) * (0.5 + Math.random());
        this.report(
          `${name}: got no lock at attempt ${attempt}, trying again in ${Math.round(pauseMs)} ms${await this.suspects()}`,
        );
        await sleep(pauseMs);
      }
    }
  }

  private async inTransaction(migration: Migration): Promise<void> {
    try {
      await this.client.query('BEGIN');
      await this.client.query(`SET LOCAL lock_timeout = ${this.lockTimeoutMs}`);
      await this.client.query(migration.sql);
      await this.record(migration);
      await this.client.query('COMMIT');
    } catch (err) {
      await this.client.query('ROLLBACK').catch(() => {});
      throw err;
    }
  }

  private async outside(name: string, { sql, creates }: OutsideStatement): Promise<void> {
    if (creates !== undefined && (await this.isInvalid(creates))) {
      // IF NOT EXISTS would take what a failed or killed run left for the index.
      this.report(`${name}: ${creates} is INVALID, left by a run that did not finish: building it anew`);
      await this.client.query(`DROP INDEX CONCURRENTLY IF EXISTS ${creates}`);
    }
    await this.client.query(sql);
  }

  private async isInvalid(index: string): Promise<boolean> {
    const { rows } = await this.client.query<{ invalid: boolean }>(
      'SELECT NOT indisvalid AS invalid FROM pg_index WHERE indexrelid = to_regclass($1)',
      [index],
    );
    return rows[0]?.invalid === true;
  }

  private async record({ version, name, checksum }: Migration): Promise<void> {
    await this.client.query('INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)', [
      version,
      name,
      checksum,
    ]);
  }

  /** The oldest transactions: one of them probably has the lock. */
  private async suspects(): Promise<string> {
    const { rows } = await this.client.query<{ text: string }>(
      `SELECT format('%s %s for %s s: %s', application_name, pid, extract(epoch FROM now() - xact_start)::int,
          left(regexp_replace(query, '\\s+', ' ', 'g'), 60)) AS text
        FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start < now() - interval '0.1 second'
        ORDER BY xact_start LIMIT 2`,
    );
    return rows.length === 0 ? '' : `; oldest transactions: ${rows.map((row) => row.text).join('; ')}`;
  }
}
