/** An etcd for one suite, which can be killed and restarted with the same data at the same address. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isRoot, isTraversable } from '../../internal/local/servers/account.js';
import { freePort } from '../../internal/local/servers/ports.js';
import { killProcessNow } from '../../internal/local/servers/process.js';
import type { RunningServer } from '../../internal/local/servers/server.js';
import { chooseSources, installMissing, startServer } from '../../internal/local/servers/servers.js';
import { START_TIMEOUT_MS } from './shared-servers.js';
import { eventually } from './wait.js';

export class OwnEtcd {
  private readonly ports = new Map<number, number>();
  private readonly abort = new AbortController();
  private root: string | undefined;
  private server: RunningServer | undefined;

  get url(): string {
    if (!this.server) throw new Error('read it inside a hook or a test');
    return this.server.url;
  }

  /** Starts or restarts it. */
  async restart(): Promise<void> {
    this.root ??= mkdtempSync(join(isRoot && !isTraversable(tmpdir()) ? '/var/tmp' : tmpdir(), 'kaimai-etcd-'));
    const sources = await chooseSources(['etcd']);
    // A server that was given must not be killed.
    sources.set(
      'etcd',
      sources.get('etcd')?.type === 'apt' ? { type: 'apt', packages: ['etcd-server'] } : { type: 'programs' },
    );
    await installMissing(sources, this.abort.signal, (line) => console.error(`  ${line}`));
    this.server = await startServer('etcd', sources.get('etcd') ?? { type: 'programs' }, {
      root: this.root,
      port: async (standard) => {
        const port = this.ports.get(standard) ?? (await freePort());
        this.ports.set(standard, port);
        return port;
      },
      signal: this.abort.signal,
      removeData: true,
    });
  }

  /** Sends SIGKILL; resolves when the port is closed. */
  async kill(): Promise<void> {
    for (const managed of this.server?.processes ?? []) killProcessNow(managed);
    await eventually('the end of etcd', () =>
      fetch(`${this.url}/health`, { signal: AbortSignal.timeout(1_000) }).then(
        () => false,
        () => true,
      ),
    );
  }

  /** Pauses it: it keeps its connections and answers none of them. */
  async pause(): Promise<void> {
    for (const { pid } of this.server?.processes ?? []) process.kill(pid, 'SIGSTOP');
  }

  async resume(): Promise<void> {
    for (const { pid } of this.server?.processes ?? []) process.kill(pid, 'SIGCONT');
  }

  /** @internal */
  async end(): Promise<void> {
    this.abort.abort();
    await this.server?.stop();
    if (this.root) rmSync(this.root, { recursive: true, force: true });
  }
}

/** Registers the hooks of the enclosing suite. */
export function useOwnEtcd(): OwnEtcd {
  const etcd = new OwnEtcd();
  before('etcd', async function () {
    this.timeout(START_TIMEOUT_MS);
    await etcd.restart();
  });
  after('stop etcd', async () => {
    await etcd.end();
  });
  return etcd;
}
