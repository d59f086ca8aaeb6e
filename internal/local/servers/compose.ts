import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { withPassword } from '../../conf/url-password.js';
import { projectRoot } from '../project.js';
import type { Endpoint, ServerName } from './server.js';

const run = promisify(execFile);
/** Where docker-compose.yml takes passwords from. */
const SECRETS = resolve(projectRoot, process.env.KAIMAI_SECRETS || 'deploy/secrets');
const PROBE_TIMEOUT_MS = 5_000;
/** Images may have to be pulled. */
const UP_TIMEOUT_MS = 10 * 60_000;
const STOP_TIMEOUT_MS = 60_000;
const KEPT_ERROR_LINES = 20;

export type ComposeServer = Exclude<ServerName, 'etcd'>;

/** Whether a Docker engine answers and the compose plugin is installed. */
export async function composeAnswers(): Promise<boolean> {
  try {
    await run('docker', ['info', '--format', '{{.ServerVersion}}'], { timeout: PROBE_TIMEOUT_MS });
    await run('docker', ['compose', 'version'], { timeout: PROBE_TIMEOUT_MS });
    return true;
  } catch {
    return false;
  }
}

/**
 * The servers of docker-compose.yml under a project name that belongs to one data directory. Calls of one project run
 * one after the other: two concurrent `docker compose up` create its network twice, and one of them fails.
 */
export class ComposeProject {
  private static readonly projects = new Map<string, ComposeProject>();
  private readonly name: string;
  private readonly running = new Set<ComposeServer>();
  private queue: Promise<unknown> = Promise.resolve();

  private constructor(root: string) {
    this.name = `kaimai-${createHash('sha256').update(root).digest('hex').slice(0, 10)}`;
  }

  static of(root: string): ComposeProject {
    const project = ComposeProject.projects.get(root) ?? new ComposeProject(root);
    ComposeProject.projects.set(root, project);
    return project;
  }

  /**
   * Starts servers in one call and waits until they are healthy.
   *
   * @param port returns a free port for a standard one
   * @throws with the last lines that docker compose wrote
   */
  async start(
    servers: readonly ComposeServer[],
    port: (standard: number) => Promise<number>,
    signal: AbortSignal,
  ): Promise<Map<ComposeServer, Endpoint>> {
    const ports: Record<string, string> = {};
    const endpoints = new Map<ComposeServer, Endpoint>();
    for (const server of servers) endpoints.set(server, await publish(server, port, ports));
    await this.compose(['up', '--detach', '--wait', '--no-deps', ...servers], ports, UP_TIMEOUT_MS, signal);
    for (const server of servers) this.running.add(server);
    return endpoints;
  }

  /** Stops one server. With `removeData` the last one takes the containers, the volumes and the network with it. */
  async stop(server: ComposeServer, removeData: boolean): Promise<void> {
    this.running.delete(server);
    const last = removeData && this.running.size === 0;
    const args = last ? ['down', '--volumes', '--timeout', '30'] : ['stop', '--timeout', '30', server];
    await this.compose(args, {}, STOP_TIMEOUT_MS);
  }

  private compose(args: string[], env: Record<string, string>, timeout: number, signal?: AbortSignal): Promise<void> {
    const call = this.queue.then(async () => {
      const file = join(projectRoot, 'docker-compose.yml');
      try {
        await run('docker', ['compose', '--file', file, '--project-name', this.name, ...args], {
          env: { ...process.env, ...env, KAIMAI_SECRETS: SECRETS },
          timeout,
          ...(signal && { signal }),
        });
      } catch (cause) {
        signal?.throwIfAborted();
        throw new Error(`docker compose ${args.join(' ')} failed:\n${lastLines(cause)}`, { cause });
      }
    });
    this.queue = call.catch(() => {});
    return call;
  }
}

/** Picks the host ports of a server, as variables of docker-compose.yml, and returns where it will listen. */
async function publish(
  server: ComposeServer,
  port: (standard: number) => Promise<number>,
  ports: Record<string, string>,
): Promise<Endpoint> {
  switch (server) {
    case 'postgres': {
      const published = String(await port(5432));
      ports.KAIMAI_POSTGRES_PORT = published;
      const password = secret('postgres_password');
      return {
        url: withPassword(`postgres://postgres@127.0.0.1:${published}/product_db`, password),
        extras: { PGHOST: '127.0.0.1', PGPORT: published, PGUSER: 'postgres', PGPASSWORD: password },
      };
    }
    case 'redis': {
      const published = String(await port(6379));
      ports.KAIMAI_REDIS_PORT = published;
      return { url: withPassword(`redis://127.0.0.1:${published}`, secret('redis_password')), extras: {} };
    }
    case 'rabbitmq': {
      const [published, management] = [String(await port(5672)), String(await port(15672))];
      ports.KAIMAI_RABBITMQ_PORT = published;
      ports.KAIMAI_RABBITMQ_MANAGEMENT_PORT = management;
      const password = secret('rabbitmq_password');
      return {
        url: withPassword(`amqp://kaimai@127.0.0.1:${published}`, password),
        extras: {
          KAIMAI_RABBITMQ_MANAGEMENT_URL: withPassword(`http://kaimai@127.0.0.1:${management}`, password),
        },
      };
    }
    default:
      return server satisfies never;
  }
}

function secret(name: string): string {
  return readFileSync(join(SECRETS, name), 'utf8').replace(/\r?\n$/, '');
}

function lastLines(error: unknown): string {
  const { stderr, message } = error as { stderr?: string; message: string };
  const lines = (stderr?.trim() || message).split('\n');
  return lines.slice(-KEPT_ERROR_LINES).join('\n');
}
