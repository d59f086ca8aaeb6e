import { chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { makePrivateDirectory, serverAccount } from '../servers/account.js';
import { isAlive, killProcessNow, type SpawnedProcess, spawnProcess, stopProcess, until } from '../servers/process.js';
import { redis } from '../servers/redis.js';

export interface NodeOptions {
  readonly name: string;
  /** Its own directory. */
  readonly dir: string;
  readonly port: number;
  /** Lines of its configuration besides address, directory and log. */
  readonly lines: readonly string[];
  readonly sentinel?: boolean;
  /** Called with each process of the node. */
  readonly spawned?: ((child: SpawnedProcess) => void) | undefined;
}

/** One Redis process of a cluster on this machine, or a Sentinel, which can be killed and started again. */
export class RedisNode {
  readonly client: Redis;
  private child: SpawnedProcess | undefined;

  constructor(private readonly options: NodeOptions) {
    this.client = new Redis(options.port, '127.0.0.1', { lazyConnect: true, maxRetriesPerRequest: 0 });
    this.client.on('error', () => {});
  }

  get port(): number {
    return this.options.port;
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  get pid(): number {
    return this.child?.pid ?? 0;
  }

  /** @throws with the end of its log when it does not answer within 10 s */
  async start(): Promise<void> {
    const { name, dir, port, lines, sentinel } = this.options;
    const program = redis.find();
    if (program === undefined) throw new Error('redis-server was not found');
    const account = serverAccount(redis.account);
    mkdirSync(dir, { recursive: true });
    makePrivateDirectory(dir, account);
    const file = join(dir, 'redis.conf');
    if (!this.child || !sentinel) {
      const common = ['bind 127.0.0.1', `port ${port}`, 'protected-mode yes', `dir "${dir}"`];
      writeFileSync(file, `${[...common, ...lines].join('\n')}\n`, { mode: 0o644 });
      // A Sentinel writes what it learns into this file.
      if (account) chownSync(file, account.uid, account.gid);
    }
    this.child = spawnProcess({
      name,
      command: program,
      args: [file, ...(sentinel ? ['--sentinel'] : [])],
      env: { PATH: process.env.PATH ?? '', LC_ALL: 'C' },
      cwd: dir,
      logFile: join(dir, 'log'),
      account,
      stopSignal: 'SIGTERM',
      graceMs: 10_000,
    });
    const { child } = this;
    this.options.spawned?.(child);
    await until(
      `${name} did not answer`,
      async () => {
        if (child.exit !== undefined) throw new Error(`${name} ${child.exit}: see ${join(dir, 'log')}`);
        return (await this.client.ping().catch(() => '')) === 'PONG';
      },
      { timeoutMs: 10_000 },
    );
  }

  get isAlive(): boolean {
    return this.child !== undefined && isAlive(this.child);
  }

  /** SIGKILL. */
  async kill(): Promise<void> {
    const { child } = this;
    if (!child) return;
    killProcessNow(child);
    await until(`the end of ${this.options.name}`, () => !isAlive(child), { timeoutMs: 10_000 });
  }

  /** Stops answering, with all connections open. */
  freeze(): void {
    process.kill(this.pid, 'SIGSTOP');
  }

  thaw(): void {
    process.kill(this.pid, 'SIGCONT');
  }

  async stop(): Promise<void> {
    this.client.disconnect();
    if (!this.child || !this.isAlive) return;
    this.thaw();
    await stopProcess(this.child);
  }
}
