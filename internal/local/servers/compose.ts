import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { projectRoot } from '../project.js';
import type { Endpoint, ServerName } from './server.js';

const run = promisify(execFile);
const PASSWORD = 'kaimai';
const PROBE_TIMEOUT_MS = 5_000;
/** Images may have to be pulled. */
const UP_TIMEOUT_MS = 10 * 60_000;

type ComposeServer = Exclude<ServerName, 'etcd'>;

/** Whether a Docker engine answers and the compose plugin is there. */
export async function composeAnswers(): Promise<boolean> {
  try {
    await run('docker', ['info', '--format', '{{.ServerVersion}}'], { timeout: PROBE_TIMEOUT_MS });
    await run('docker', ['compose', 'version'], { timeout: PROBE_TIMEOUT_MS });
    return true;
  } catch {
    return false;
  }
}

/** The servers of docker-compose.yml under a project name that belongs to one data directory. */
export class ComposeProject {
  readonly #name: string;

  constructor(root: string) {
    this.#name = `kaimai-${createHash('sha256').update(root).digest('hex').slice(0, 10)}`;
  }

  /** Starts one server and waits until it is healthy. `ports` gives a free port for a standard one. */
  async start(
    server: ComposeServer,
    port: (standard: number) => Promise<number>,
    signal: AbortSignal,
  ): Promise<Endpoint> {
    switch (server) {
      case 'postgres': {
        const published = await port(5432);
        await this.#up(server, { KAIMAI_POSTGRES_PORT: String(published) }, signal);
        return {
          url: `postgres://postgres:${PASSWORD}@127.0.0.1:${published}/product_db`,
          extras: { PGHOST: '127.0.0.1', PGPORT: String(published), PGUSER: 'postgres', PGPASSWORD: PASSWORD },
        };
      }
      case 'redis': {
        const published = await port(6379);
        await this.#up(server, { KAIMAI_REDIS_PORT: String(published) }, signal);
        return { url: `redis://127.0.0.1:${published}`, extras: {} };
      }
      case 'rabbitmq': {
        const [published, management] = [await port(5672), await port(15672)];
        const env = { KAIMAI_RABBITMQ_PORT: String(published), KAIMAI_RABBITMQ_MANAGEMENT_PORT: String(management) };
        await this.#up(server, env, signal);
        const login = `kaimai:${PASSWORD}`;
        return {
          url: `amqp://${login}@127.0.0.1:${published}`,
          extras: { KAIMAI_RABBITMQ_MANAGEMENT_URL: `http://${login}@127.0.0.1:${management}` },
        };
      }
      default:
        return server satisfies never;
    }
  }

  /** Stops one server; with `removeData` its volumes go as well. */
  async stop(server: ComposeServer, removeData: boolean): Promise<void> {
    const args = removeData ? ['rm', '--force', '--stop', '--volumes', server] : ['stop', '--timeout', '30', server];
    await this.#compose(args, {}, AbortSignal.timeout(60_000));
  }

  async #up(server: ComposeServer, ports: Record<string, string>, signal: AbortSignal): Promise<void> {
    await this.#compose(['up', '--detach', '--wait', '--no-deps', server], ports, signal);
  }

  async #compose(args: string[], env: Record<string, string>, signal: AbortSignal): Promise<void> {
    const file = join(projectRoot, 'docker-compose.yml');
    await run('docker', ['compose', '--file', file, '--project-name', this.#name, ...args], {
      env: { ...process.env, ...env, KAIMAI_PASSWORD: PASSWORD },
      timeout: UP_TIMEOUT_MS,
      signal,
    });
  }
}
