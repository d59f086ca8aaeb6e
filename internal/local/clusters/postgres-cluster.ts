import { execFile } from 'node:child_process';
import { chmodSync, chownSync, copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type pg from 'pg';
import { makePrivateDirectory, serverAccount } from '../servers/account.js';
import { postgres, queryOnce } from '../servers/postgres.js';
import { isAlive, killProcessNow, type SpawnedProcess, stopProcess, until } from '../servers/process.js';

const START_MS = 60_000;
/** What the standby calls itself, and what the primary waits for. */
const STANDBY = 'kaimai_standby';

export interface PostgresClusterOptions {
  /** Must be traversable by every account when root starts servers. */
  readonly root: string;
  port(): Promise<number>;
  /** Called with each process. */
  readonly spawned?: ((child: SpawnedProcess) => void) | undefined;
  /** Whether each commit waits until the standby has it. Default true. */
  readonly synchronous?: boolean;
}

/** One server of the pair, which can be killed and started again. */
export class PostgresNode {
  url = '';
  private readonly dir: string;
  private child: SpawnedProcess | undefined;

  constructor(
    root: string,
    private readonly name: string,
    private readonly port: number,
    private readonly spawned?: (child: SpawnedProcess) => void,
  ) {
    this.dir = join(root, name);
    mkdirSync(this.dir, { recursive: true });
    makePrivateDirectory(this.dir, serverAccount(postgres.account));
  }

  get isAlive(): boolean {
    return this.child !== undefined && isAlive(this.child);
  }

  /** Of the process that accepts connections. */
  get pid(): number {
    return this.child!.pid;
  }

  /** Starts it with the data that it has, or with none. */
  async start(): Promise<void> {
    const { url } = await postgres.start(programs(), {
      dir: this.dir,
      port: async () => this.port,
      spawned: (child) => {
        this.child = child;
        this.spawned?.(child);
      },
      signal: AbortSignal.timeout(START_MS),
    });
    this.url = url;
  }

  /** A copy of this server that will follow it. */
  async copy(root: string, name: string, port: number): Promise<PostgresNode> {
    const standby = new PostgresNode(root, name, port, this.spawned);
    const account = serverAccount(postgres.account);
    const password = join(standby.dir, 'password');
    copyFileSync(join(this.dir, 'password'), password);
    if (account) chownSync(password, account.uid, account.gid);
    chmodSync(password, 0o600);
    const source = new URL(this.url);
    source.pathname = '/';
    source.searchParams.set('application_name', STANDBY);
    const args = ['-D', join(standby.dir, 'data'), '-d', source.href, '-R', '-C', '-S', STANDBY];
    await promisify(execFile)(join(programs(), 'pg_basebackup'), [...args, '-X', 'stream', '-c', 'fast'], {
      cwd: standby.dir,
      timeout: START_MS,
      ...(account && { uid: account.uid, gid: account.gid }),
    });
    return standby;
  }

  query<Row extends pg.QueryResultRow>(text: string, values: unknown[] = []): Promise<Row[]> {
    return queryOnce(this.url, text, values);
  }

  /** SIGKILL: nothing is flushed. Its backends end with it. */
  async kill(): Promise<void> {
    const { child } = this;
    if (!child) return;
    killProcessNow(child);
    await until(`the end of ${this.name}`, () => !isAlive(child), { timeoutMs: 10_000 });
  }

  async stop(): Promise<void> {
    if (this.child && this.isAlive) await stopProcess(this.child);
  }
}

/** A PostgreSQL and its standby. Where that is synchronous, it has on disk what the primary answers. */
export class PostgresClusterProcesses {
  private constructor(
    readonly primary: PostgresNode,
    readonly standby: PostgresNode,
  ) {}

  /** Resolves when the standby follows, and the primary waits for it with each commit. */
  static async start({
    root,
    port,
    spawned,
    synchronous = true,
  }: PostgresClusterOptions): Promise<PostgresClusterProcesses> {
    const primary = new PostgresNode(root, 'postgres-1', await port(), spawned);
    let standby: PostgresNode | undefined;
    try {
      await primary.start();
      standby = await primary.copy(root, 'postgres-2', await port());
      await standby.start();
      // After the copy: the standby waits for none once it is promoted.
      const awaited = synchronous ? STANDBY : '';
      await primary.query(`ALTER SYSTEM SET synchronous_standby_names = '${awaited}'`);
      await primary.query('SELECT pg_reload_conf()');
      const follows = async () => {
        const [row] = await primary.query<{ sync_state: string }>('SELECT sync_state FROM pg_stat_replication');
        return row?.sync_state === (synchronous ? 'sync' : 'async');
      };
      await until('the standby follows', follows, { timeoutMs: START_MS });
    } catch (err) {
      await Promise.all([primary.stop(), standby?.stop()]);
      throw err;
    }
    return new PostgresClusterProcesses(primary, standby);
  }

  /** For `data.database.source`: the hosts of both. */
  get url(): string {
    const [first, second] = [new URL(this.primary.url), new URL(this.standby.url)];
    return first.href.replace(`@${first.host}/`, `@${first.host},${second.host}/`);
  }

  /** The standby takes writes from now on. */
  async promote(): Promise<void> {
    await this.standby.query('SELECT pg_promote(true)');
  }

  async stop(): Promise<void> {
    await Promise.all([this.primary.stop(), this.standby.stop()]);
  }
}

function programs(): string {
  const found = postgres.find();
  if (found === undefined) throw new Error('PostgreSQL was not found');
  return found;
}
