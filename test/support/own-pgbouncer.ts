/** A PgBouncer in transaction mode in front of a PostgreSQL, for one suite. */
import { chmodSync, chownSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isRoot, isTraversable, serverAccount } from '../../internal/local/servers/account.js';
import { findProgram } from '../../internal/local/servers/binaries.js';
import { freePort, isListening } from '../../internal/local/servers/ports.js';
import { type SpawnedProcess, spawnProcess, stopProcess, untilReady } from '../../internal/local/servers/process.js';

export class OwnPgbouncer {
  private constructor(
    private readonly port: number,
    private readonly folder: string,
    private readonly child: SpawnedProcess,
  ) {}

  /** Whether its program is installed on this machine. */
  static get available(): boolean {
    return findProgram('pgbouncer') !== undefined && (!isRoot || serverAccount('postgres') !== undefined);
  }

  /**
   * @param serverUrl PostgreSQL; every database of it is served, with the login in the URL
   * @param poolSize connections to each database
   */
  static async start(serverUrl: string, poolSize: number): Promise<OwnPgbouncer> {
    const server = new URL(serverUrl);
    const port = await freePort();
    const folder = mkdtempSync(join(isRoot && !isTraversable(tmpdir()) ? '/var/tmp' : tmpdir(), 'kaimai-pgbouncer-'));
    // It does not run as root.
    const account = serverAccount('postgres');
    chmodSync(folder, 0o700);
    const file = (name: string, lines: readonly string[]) => {
      writeFileSync(join(folder, name), `${lines.join('\n')}\n`);
      return join(folder, name);
    };
    const quoted = [server.username, server.password].map((text) => `"${decodeURIComponent(text)}"`);
    const users = file('users', [quoted.join(' ')]);
    const configuration = file('pgbouncer.ini', [
      '[databases]',
      `* = host=${server.hostname} port=${server.port || 5432}`,
      '[pgbouncer]',
      'listen_addr = 127.0.0.1',
      `listen_port = ${port}`,
      'unix_socket_dir =',
      'auth_type = trust',
      `auth_file = ${users}`,
      'pool_mode = transaction',
      `default_pool_size = ${poolSize}`,
    ]);
    if (account) for (const path of [folder, users, configuration]) chownSync(path, account.uid, account.gid);
    const logFile = join(folder, 'log');
    const child = spawnProcess({
      name: 'PgBouncer',
      command: findProgram('pgbouncer') ?? 'pgbouncer',
      args: [configuration],
      env: { PATH: process.env.PATH ?? '' },
      cwd: folder,
      logFile,
      account,
      // Without waiting for its clients.
      stopSignal: 'SIGTERM',
      graceMs: 5_000,
    });
    const signal = new AbortController().signal;
    await untilReady(child, logFile, () => isListening(port), { timeoutMs: 10_000, signal });
    return new OwnPgbouncer(port, folder, child);
  }

  /** `serverUrl` by way of this PgBouncer. */
  url(serverUrl: string): string {
    const url = new URL(serverUrl);
    url.host = `127.0.0.1:${this.port}`;
    return url.href;
  }

  async close(): Promise<void> {
    await stopProcess(this.child);
    rmSync(this.folder, { recursive: true, force: true });
  }
}
