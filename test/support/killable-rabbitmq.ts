import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isRoot, isTraversable } from '../../internal/local/servers/account.js';
import { freePort } from '../../internal/local/servers/ports.js';
import { killProcessNow } from '../../internal/local/servers/process.js';
import { rabbitmq } from '../../internal/local/servers/rabbitmq.js';
import type { RunningServer } from '../../internal/local/servers/server.js';
import { startServer } from '../../internal/local/servers/servers.js';

/** A RabbitMQ for one suite, which can be killed and restarted with the same data at the same address. */
export class KillableRabbitmq {
  private readonly root = mkdtempSync(join(isRoot && !isTraversable(tmpdir()) ? '/var/tmp' : tmpdir(), 'kaimai-kill-'));
  private readonly ports = new Map<number, number>();
  private readonly abort = new AbortController();
  private server: RunningServer | undefined;

  /** Whether its programs are installed on this machine. */
  static get available(): boolean {
    return rabbitmq.find() !== undefined;
  }

  get url(): string {
    return this.server!.url;
  }

  async start(): Promise<void> {
    const options = { root: this.root, port: (standard: number) => this.port(standard), signal: this.abort.signal };
    this.server = await startServer('rabbitmq', { type: 'programs' }, { ...options, removeData: true });
  }

  get pid(): number {
    return this.server!.processes.at(-1)!.pid;
  }

  /** With credentials. */
  get managementUrl(): string {
    return this.server!.extras.KAIMAI_RABBITMQ_MANAGEMENT_URL!;
  }

  /** Sends SIGKILL: nothing is flushed, and clients are not notified. */
  kill(): void {
    killProcessNow(this.server!.processes.at(-1)!);
  }

  async close(): Promise<void> {
    this.abort.abort();
    await this.server?.stop();
    rmSync(this.root, { recursive: true, force: true });
  }

  private async port(standard: number): Promise<number> {
    const port = this.ports.get(standard) ?? (await freePort());
    this.ports.set(standard, port);
    return port;
  }
}
