/** A Redis for one suite, which can be killed, restarted with or without its data, and followed by a replica. */
import { chownSync, cpSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { isRoot, isTraversable, serverAccount } from '../../internal/local/servers/account.js';
import { freePort } from '../../internal/local/servers/ports.js';
import { isAlive, killProcessNow } from '../../internal/local/servers/process.js';
import { redis } from '../../internal/local/servers/redis.js';
import type { RunningServer } from '../../internal/local/servers/server.js';
import { startServer } from '../../internal/local/servers/servers.js';
import { LimitedDisk, type OwnServerOptions } from './limited-disk.js';
import { eventually } from './wait.js';

export class OwnRedis {
  /** A client for inspection; reconnects automatically. */
  readonly client: Redis;
  private readonly root = mkdtempSync(
    join(isRoot && !isTraversable(tmpdir()) ? '/var/tmp' : tmpdir(), 'kaimai-redis-'),
  );
  private readonly abort = new AbortController();
  private server: RunningServer | undefined;
  /** undefined unless it was asked for, and where mounting is not permitted. */
  readonly disk: LimitedDisk | undefined;

  private constructor(
    private readonly port: number,
    { limitedDisk }: OwnServerOptions,
  ) {
    this.disk = limitedDisk ? LimitedDisk.mount(this.root) : undefined;
    this.client = new Redis(port, '127.0.0.1', { lazyConnect: true, maxRetriesPerRequest: null });
    this.client.on('error', () => {});
  }

  /** Whether its program is installed on this machine. */
  static get available(): boolean {
    return redis.find() !== undefined;
  }

  static async start(options: OwnServerOptions = {}): Promise<OwnRedis> {
    const own = new OwnRedis(await freePort(), options);
    await own.restart();
    return own;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  private get data(): string {
    return join(this.root, 'redis', 'appendonlydir');
  }

  get pid(): number {
    return this.server!.processes.at(-1)!.pid;
  }

  /** Restarts it at the same address with its data. */
  async restart(): Promise<void> {
    const options = { root: this.root, port: async () => this.port, signal: this.abort.signal, removeData: true };
    this.server = await startServer('redis', { type: 'programs' }, options);
  }

  /** Starts it again if it has ended, as a supervisor does. */
  async restartIfEnded(): Promise<void> {
    const last = this.server?.processes.at(-1);
    if (last && !isAlive(last)) await this.restart();
  }

  /** Sends SIGKILL: nothing is flushed, and clients are not notified. Resolves when it has exited. */
  async kill(): Promise<void> {
    for (const managed of this.server?.processes ?? []) killProcessNow(managed);
    await eventually('the end of Redis', async () => {
      const probe = new Redis(this.port, '127.0.0.1', { lazyConnect: true, retryStrategy: () => null });
      probe.on('error', () => {});
      const there = await probe.connect().then(
        () => true,
        () => false,
      );
      probe.disconnect();
      return !there;
    });
  }

  /** Deletes its data while it is stopped. */
  wipe(): void {
    rmSync(this.data, { recursive: true });
  }

  /** A copy of its data as they are now, to be put back by `putBack`. */
  copy(): string {
    const copy = `${this.data}.copy`;
    rmSync(copy, { recursive: true, force: true });
    cpSync(this.data, copy, { recursive: true, preserveTimestamps: true });
    return copy;
  }

  /** Replaces its data by a copy while it is dead. */
  putBack(copy: string): void {
    this.wipe();
    renameSync(copy, this.data);
    const account = serverAccount(redis.account);
    if (!account) return;
    for (const name of ['.', ...readdirSync(this.data)]) chownSync(join(this.data, name), account.uid, account.gid);
  }

  /** Takes the end off its append-only file while it is dead, as a crash of the machine may. */
  truncate(bytes: number): void {
    const name = readdirSync(this.data).find((file) => file.endsWith('.incr.aof'));
    if (name === undefined) throw new Error('Redis has no append-only file');
    const file = join(this.data, name);
    truncateSync(file, Math.max(0, statSync(file).size - bytes));
  }

  /** Makes this server a replica, and waits until it is up to date. */
  async follow(primary: OwnRedis): Promise<void> {
    await this.client.replicaof('127.0.0.1', primary.port);
    await eventually('the replica is in step', async () => {
      const info = await this.client.info('replication');
      return info.includes('master_link_status:up') && info.includes('master_sync_in_progress:0');
    });
  }

  async close(): Promise<void> {
    this.abort.abort();
    this.client.disconnect();
    await this.server?.stop();
    this.disk?.unmount();
    rmSync(this.root, { recursive: true, force: true });
  }
}
