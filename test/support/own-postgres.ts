/** A PostgreSQL for one suite, which can be killed, paused, copied as a standby, promoted and demoted. */
import { execFile } from 'node:child_process';
import { chmodSync, chownSync, copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type pg from 'pg';
import { migrate } from '../../internal/data/postgres/migrate.js';
import { loadMigrations } from '../../internal/data/postgres/migration-file.js';
import { projectRoot } from '../../internal/local/project.js';
import { isRoot, isTraversable, makePrivateDirectory, serverAccount } from '../../internal/local/servers/account.js';
import { freePort } from '../../internal/local/servers/ports.js';
import { postgres, queryOnce } from '../../internal/local/servers/postgres.js';
import { isAlive, killProcessNow } from '../../internal/local/servers/process.js';
import type { RunningServer } from '../../internal/local/servers/server.js';
import { startServer } from '../../internal/local/servers/servers.js';
import { backendsOf, freeze } from './backends.js';
import { LimitedDisk, type OwnServerOptions } from './limited-disk.js';
import { eventually } from './wait.js';

export class OwnPostgres {
  private readonly root = mkdtempSync(join(isRoot && !isTraversable(tmpdir()) ? '/var/tmp' : tmpdir(), 'kaimai-pg-'));
  private readonly abort = new AbortController();
  private server: RunningServer | undefined;
  private thaw = () => {};

  /** undefined unless it was asked for, and where mounting is not permitted. */
  readonly disk: LimitedDisk | undefined;

  private constructor(
    private readonly port: number,
    { limitedDisk }: OwnServerOptions,
  ) {
    this.disk = limitedDisk ? LimitedDisk.mount(this.root) : undefined;
  }

  /** Whether its programs are installed on this machine. */
  static get available(): boolean {
    return postgres.find() !== undefined;
  }

  /** Migrated and empty. */
  static async start(options: OwnServerOptions = {}): Promise<OwnPostgres> {
    const own = new OwnPostgres(await freePort(), options);
    await own.restart();
    await migrate(own.url, await loadMigrations(join(projectRoot, 'migrations')));
    return own;
  }

  /** The superuser's URL of its database. */
  get url(): string {
    return this.server!.url;
  }

  get pid(): number {
    return this.server!.processes.at(-1)!.pid;
  }

  /** Restarts it at the same address with its data. */
  async restart(): Promise<void> {
    const options = { root: this.root, port: async () => this.port, signal: this.abort.signal, removeData: true };
    this.server = await startServer('postgres', { type: 'programs' }, options);
  }

  /** Starts it again if it has ended, as a supervisor does. */
  async restartIfEnded(): Promise<void> {
    const last = this.server?.processes.at(-1);
    if (last && !isAlive(last)) await this.restart();
  }

  /** Sends SIGKILL to it and its backends: nothing is flushed. Resolves when they have exited. */
  async kill(): Promise<void> {
    // Each backend leads a process group of its own.
    const backends = backendsOf(this.pid);
    for (const managed of this.server?.processes ?? []) killProcessNow(managed);
    for (const backend of backends) killProcessNow(backend);
    await eventually('the end of PostgreSQL', () => !backends.some(isAlive));
  }

  /** SIGSTOP to it and its backends. */
  pause(): void {
    this.thaw = freeze(this.pid);
  }

  resume(): void {
    this.thaw();
    this.thaw = () => {};
  }

  /** A streaming standby that has caught up with this server. */
  async standby(): Promise<OwnPostgres> {
    const copy = new OwnPostgres(await freePort(), {});
    const account = serverAccount(postgres.account);
    const dir = join(copy.root, 'postgres');
    makePrivateDirectory(dir, account);
    if (account) chmodSync(copy.root, 0o711);
    const password = join(dir, 'password');
    copyFileSync(join(this.root, 'postgres', 'password'), password);
    if (account) chownSync(password, account.uid, account.gid);
    const source = new URL(this.url);
    source.pathname = '/';
    const args = ['-D', join(dir, 'data'), '-d', source.href, '-R', '-X', 'stream', '-c', 'fast'];
    await promisify(execFile)(join(postgres.find()!, 'pg_basebackup'), args, {
      cwd: dir,
      timeout: 240_000,
      ...(account && { uid: account.uid, gid: account.gid }),
    });
    await copy.restart();
    await this.inStep();
    return copy;
  }

  /** Resolves when every standby has replayed everything that was committed before this call. */
  async inStep(): Promise<void> {
    const [row] = await this.query<{ at: string }>('SELECT pg_current_wal_lsn()::text AS at');
    await eventually('the standby is in step', async () => {
      const [standby] = await this.query<{ in_step: boolean }>(
        'SELECT coalesce(bool_and(replay_lsn >= $1::pg_lsn), false) AS in_step FROM pg_stat_replication',
        [row!.at],
      );
      return standby?.in_step;
    });
  }

  /** Promotes it: it accepts writes from now on. */
  async promote(): Promise<void> {
    await this.query('SELECT pg_promote(true)');
  }

  /** Demotes it: it accepts no more writes and keeps every connection. */
  async demote(): Promise<void> {
    await this.query('ALTER SYSTEM SET default_transaction_read_only = on');
    await this.query('SELECT pg_reload_conf()');
    await eventually('it takes no writes', async () => {
      const [row] = await this.query<{ read_only: string }>(
        "SELECT current_setting('transaction_read_only') AS read_only",
      );
      return row?.read_only === 'on';
    });
  }

  query<Row extends pg.QueryResultRow>(text: string, values: unknown[] = []): Promise<Row[]> {
    return queryOnce(this.url, text, values);
  }

  async close(): Promise<void> {
    this.abort.abort();
    await this.server?.stop();
    this.disk?.unmount();
    rmSync(this.root, { recursive: true, force: true });
  }
}
