import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { serverAccount } from './account.js';
import { findProgram, isExecutable, versionsIn } from './binaries.js';
import { isListening } from './ports.js';
import { spawnProcess, untilReady } from './process.js';
import type { Endpoint, ServerKind, StartContext } from './server.js';

/**
 * A private RabbitMQ node with its management API. It has an epmd (Erlang's name service) of its own: the shared one of
 * the machine listens on every interface, outlives the node, and would list our node beside the system's.
 */
export const rabbitmq: ServerKind = {
  name: 'rabbitmq',
  title: 'RabbitMQ',
  urlVariable: 'KAIMAI_RABBITMQ_URL',
  aptPackages: ['rabbitmq-server'],
  account: 'rabbitmq',
  find,
  start,
};

/** The script itself, not Debian's wrapper in /usr/sbin: that one insists on its own account, paths and log files. */
function find(): string | undefined {
  if (!findEpmd()) return undefined;
  const debian = '/usr/lib/rabbitmq/lib';
  const script = versionsIn(debian)
    .map((version) => join(debian, version, 'sbin', 'rabbitmq-server'))
    .find(isExecutable);
  return script ?? findProgram('rabbitmq-server');
}

/** @param script of the server, which its command line lies beside */
export function rabbitmqctl(script: string): string {
  return join(dirname(script), 'rabbitmqctl');
}

function findEpmd(): string | undefined {
  const erlang = '/usr/lib/erlang';
  const bundled = versionsIn(erlang)
    .filter((name) => name.startsWith('erts-'))
    .map((name) => join(erlang, name, 'bin', 'epmd'))
    .find(isExecutable);
  return findProgram('epmd') ?? bundled;
}

async function start(script: string, ctx: StartContext): Promise<Endpoint> {
  const epmdPort = await startEpmd(ctx);
  // The data is bound to the node's name, so it must be the same at each start.
  const node = `kaimai-${createHash('sha256').update(ctx.dir).digest('hex').slice(0, 12)}@localhost`;
  return startNode(script, ctx, { epmdPort, node, home: ctx.dir, lines: [] });
}

export function erlangEnvironment(epmdPort: number): Record<string, string> {
  return {
    PATH: process.env.PATH ?? '',
    LANG: 'C.UTF-8',
    ERL_EPMD_ADDRESS: '127.0.0.1',
    ERL_EPMD_PORT: String(epmdPort),
  };
}

/** @returns the port of an epmd of its own */
export async function startEpmd(ctx: StartContext): Promise<number> {
  const epmdPort = await ctx.port(14369);
  const epmdLog = join(ctx.dir, 'epmd.log');
  const epmd = spawnProcess({
    name: 'epmd of RabbitMQ',
    command: findEpmd() ?? 'epmd',
    args: ['-address', '127.0.0.1', '-port', String(epmdPort)],
    env: erlangEnvironment(epmdPort),
    cwd: ctx.dir,
    logFile: epmdLog,
    account: serverAccount(rabbitmq.account),
    // It ignores SIGTERM, and keeps nothing.
    stopSignal: 'SIGKILL',
    graceMs: 5_000,
  });
  ctx.spawned(epmd);
  await untilReady(epmd, epmdLog, () => isListening(epmdPort), { timeoutMs: 10_000, signal: ctx.signal });
  return epmdPort;
}

export interface NodeOptions {
  readonly epmdPort: number;
  /** Its Erlang name. */
  readonly node: string;
  /** The folder of the cookie, which nodes of a cluster share. */
  readonly home: string;
  /** Further lines of its configuration. */
  readonly lines: readonly string[];
}

/** Resolves when the node serves. */
export async function startNode(script: string, ctx: StartContext, options: NodeOptions): Promise<Endpoint> {
  const account = serverAccount(rabbitmq.account);
  const file = (name: string, content: string) => {
    const path = join(ctx.dir, name);
    writeFileSync(path, content, { mode: 0o644 });
    return path;
  };
  const distributionPort = await ctx.port(26672);
  const port = await ctx.port(5672);
  const managementPort = await ctx.port(15672);
  const logFile = join(ctx.dir, 'log');
  const before = logLength(logFile);
  const child = spawnProcess({
    name: rabbitmq.title,
    command: script,
    args: [],
    env: {
      ...erlangEnvironment(options.epmdPort),
      // For the cookie, which is thereby private as well.
      HOME: options.home,
      // Makes the script exec the Erlang VM, so that the pid is the broker's and not a shell's.
      RUNNING_UNDER_SYSTEMD: 'true',
      RABBITMQ_NODENAME: options.node,
      RABBITMQ_DIST_PORT: String(distributionPort),
      RABBITMQ_MNESIA_BASE: join(ctx.dir, 'data'),
      RABBITMQ_LOG_BASE: ctx.dir,
      RABBITMQ_LOGS: '-',
      RABBITMQ_CONFIG_FILE: file(
        'rabbitmq.conf',
        [
          `listeners.tcp.1 = 127.0.0.1:${port}`,
          'management.tcp.ip = 127.0.0.1',
          `management.tcp.port = ${managementPort}`,
          // The figures of the management API follow within a second.
          'collect_statistics_interval = 1000',
          'log.console = true',
          'log.console.level = info',
          ...options.lines,
          '',
        ].join('\n'),
      ),
      RABBITMQ_ENABLED_PLUGINS_FILE: file('enabled_plugins', '[rabbitmq_management].\n'),
      // Without these the system's files under /etc/rabbitmq would be read.
      RABBITMQ_CONF_ENV_FILE: file('rabbitmq-env.conf', ''),
      RABBITMQ_ADVANCED_CONFIG_FILE: join(ctx.dir, 'advanced.config'),
      RABBITMQ_CONFIG_FILES: directory(join(ctx.dir, 'conf.d')),
      RABBITMQ_PID_FILE: join(ctx.dir, 'data', 'pid'),
      RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '-kernel inet_dist_use_interface {127,0,0,1}',
    },
    cwd: ctx.dir,
    logFile,
    account,
    stopSignal: 'SIGTERM',
    graceMs: 30_000,
  });
  ctx.spawned(child);
  await untilReady(child, logFile, () => logAfter(logFile, before).includes('completed with'), {
    timeoutMs: 120_000,
    signal: ctx.signal,
  });
  return {
    url: `amqp://guest:guest@127.0.0.1:${port}`,
    extras: { KAIMAI_RABBITMQ_MANAGEMENT_URL: `http://guest:guest@127.0.0.1:${managementPort}` },
  };
}

function directory(path: string): string {
  mkdirSync(path, { recursive: true });
  return path;
}

function logLength(path: string): number {
  return logAfter(path, 0).length;
}

function logAfter(path: string, length: number): string {
  try {
    const log = readFileSync(path, 'latin1');
    // Shorter than it was: rotated.
    return log.length < length ? log : log.slice(length);
  } catch {
    return '';
  }
}
