import { mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { join, relative } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import { Listr, type ListrTask } from 'listr2';
import { loadMigrations, migrate } from '../../internal/data/postgres/migrate.js';
import { errorText } from '../../internal/kratos/errors/error-text.js';
import { Launch } from '../../internal/local/launch.js';
import { projectRoot, runFolder } from '../../internal/local/project.js';
import { BIN_FOLDER, forgetOwnUrls, rememberOwnUrls, removeRunEnv, writeRunEnv } from '../../internal/local/run-env.js';
import { localDataRoot } from '../../internal/local/servers/data-root.js';
import { nextFreePort } from '../../internal/local/servers/ports.js';
import { tail } from '../../internal/local/servers/process.js';
import type { RunningServer, ServerName } from '../../internal/local/servers/server.js';
import {
  chooseSources,
  installMissing,
  type Source,
  serverKinds,
  startServer,
} from '../../internal/local/servers/servers.js';
import {
  addressVariables,
  pickAddresses,
  type Service,
  type ServiceAddresses,
  type ServiceName,
  startService,
} from '../../internal/local/services.js';
import { loadDemoData } from './demo-data.js';
import { migrationsFolder } from './migrate.js';

const SERVERS = ['postgres', 'redis', 'rabbitmq'] as const satisfies ServerName[];
const SERVICES = ['product', 'resource'] as const satisfies ServiceName[];
const SERVICE_START_TIMEOUT_MS = 60_000;
const WATCH_INTERVAL_MS = 250;

export const upCommand = new Command('up')
  .description('start everything on this machine: servers, schema, demo data, product and resource')
  .action(async (_options, command: Command) => {
    const others = command.parent?.commands.map((other) => other.name()) ?? [];
    process.exitCode = await up(others);
  });

/** Runs until a signal or until something it runs ends. Resolves with the exit code. */
async function up(commands: readonly string[]): Promise<number> {
  forgetOwnUrls();
  const launch = await Launch.begin();
  const interruption = new AbortController();
  const signals: NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];
  const onSignal = () => {
    if (interruption.signal.aborted) launch.kill();
    else interruption.abort();
  };
  for (const signal of signals) process.on(signal, onSignal);

  let code = 0;
  try {
    const started = await start(launch, interruption.signal);
    console.log(describe(started, commands));
    await watch(launch, interruption.signal);
  } catch (error) {
    if (!interruption.signal.aborted) {
      console.error(`\n${errorText(error)}`);
      code = 1;
    }
  }

  // What is still being started gives up.
  interruption.abort();
  console.log('\nStopping what was started here (again to kill it) …');
  removeRunEnv();
  for (const failure of await launch.end()) {
    console.error(errorText(failure));
    code = 1;
  }
  for (const signal of signals) process.off(signal, onSignal);
  console.log('Stopped.');
  return code;
}

interface Started {
  servers: Map<ServerName, RunningServer>;
  services: Map<ServiceName, Service>;
}

interface Context extends Started {
  sources: Map<ServerName, Source>;
  addresses: Map<ServiceName, ServiceAddresses>;
}

async function start(launch: Launch, signal: AbortSignal): Promise<Started> {
  const context: Context = { sources: new Map(), servers: new Map(), services: new Map(), addresses: new Map() };
  const tasks = new Listr<Context>(
    [
      {
        title: 'Find PostgreSQL, Redis and RabbitMQ',
        async task(ctx, task) {
          ctx.sources = await chooseSources(SERVERS);
          task.title = `Found: ${SERVERS.map((name) => `${serverKinds[name].title} ${describeSource(ctx.sources.get(name))}`).join(', ')}`;
        },
      },
      {
        title: 'Install by apt what is missing',
        enabled: (ctx) => [...ctx.sources.values()].some((source) => source.type === 'apt'),
        async task(ctx, task) {
          await installMissing(ctx.sources, signal, (line) => {
            if (line.startsWith('Setting up ')) task.output = line;
          });
        },
      },
      {
        title: 'Start servers',
        task: (_, task) =>
          task.newListr(
            SERVERS.map((name) => startServerTask(name, launch, signal)),
            { concurrent: true },
          ),
      },
      {
        title: 'Migrate the schema',
        async task(ctx, task) {
          const applied = await migrate(urlOf(ctx, 'postgres'), await loadMigrations(migrationsFolder));
          task.title = applied.length === 0 ? 'Schema is up to date' : `Schema migrated: ${applied.join(', ')}`;
        },
      },
      {
        title: 'Load demo data',
        async task(ctx, task) {
          const loaded = await loadDemoData(urlOf(ctx, 'postgres'));
          task.title = loaded === 0 ? 'Products are there already' : `Demo data: ${loaded} products`;
        },
      },
      {
        title: 'Start product and resource',
        async task(ctx, task) {
          // All addresses before any service: each knows the others'.
          for (const name of SERVICES) ctx.addresses.set(name, await pickAddresses(name, nextFreePort));
          return task.newListr(
            SERVICES.map((name) => startServiceTask(name, launch, signal)),
            { concurrent: true },
          );
        },
      },
    ],
    {
      ctx: context,
      // Signals are handled by `up`, which has more to stop than the task at hand.
      registerSignalListeners: false,
      fallbackRenderer: 'simple',
      rendererOptions: { collapseSubtasks: false },
    },
  );
  await tasks.run();
  signal.throwIfAborted();
  writeRunEnv(variables(context));
  rememberOwnUrls(ownUrls(context));
  linkCommand();
  return context;
}

function startServerTask(name: ServerName, launch: Launch, signal: AbortSignal): ListrTask<Context> {
  const { title } = serverKinds[name];
  return {
    title,
    async task(ctx, task) {
      const source = ctx.sources.get(name);
      if (!source) throw new Error(`${title} was not looked for`);
      const options = { root: localDataRoot(), port: nextFreePort, signal, removeData: false };
      const server = await launch.addServer(startServer(name, source, options));
      ctx.servers.set(name, server);
      task.title = `${title} ${new URL(server.url).host} (${server.origin})`;
    },
  };
}

function startServiceTask(name: ServiceName, launch: Launch, signal: AbortSignal): ListrTask<Context> {
  return {
    title: name,
    async task(ctx, task) {
      const addresses = ctx.addresses.get(name);
      if (!addresses) throw new Error(`${name} has no addresses`);
      const logFile = join(runFolder, `${name}.log`);
      const service = await startService(name, {
        addresses,
        env: variables(ctx),
        config: join(projectRoot, `configs/${name}.yaml`),
        logFile,
        timeoutMs: SERVICE_START_TIMEOUT_MS,
        signal,
        spawned: (child) => launch.addService(child, logFile),
      });
      ctx.services.set(name, service);
      task.title = `${name} ${addresses.http}, gRPC ${addresses.grpc}`;
    },
  };
}

/** Returns on a signal, throws when something that should run has ended. */
async function watch(launch: Launch, signal: AbortSignal): Promise<void> {
  for (;;) {
    const casualty = launch.casualty();
    if (casualty) {
      const log = casualty.logFile ? ` The end of its log (${casualty.logFile}):\n${tail(casualty.logFile)}` : '';
      throw new Error(`${casualty.name} has ended by itself.${log}`);
    }
    if (signal.aborted) return;
    await sleep(WATCH_INTERVAL_MS, undefined, { signal }).catch(() => {});
  }
}

function urlOf(ctx: Context, name: ServerName): string {
  const server = ctx.servers.get(name);
  if (!server) throw new Error(`${serverKinds[name].title} does not run`);
  return server.url;
}

function variables(ctx: Context): Record<string, string> {
  const result: Record<string, string> = {};
  for (const server of ctx.servers.values()) {
    result[serverKinds[server.name].urlVariable] = server.url;
    Object.assign(result, server.extras);
  }
  for (const [name, addresses] of ctx.addresses) Object.assign(result, addressVariables(name, addresses));
  return result;
}

/** The URLs of servers that were started here. */
function ownUrls(ctx: Context): Record<string, string> {
  const started = SERVERS.filter((name) => ctx.sources.get(name)?.type !== 'given');
  return Object.fromEntries(started.map((name) => [serverKinds[name].urlVariable, urlOf(ctx, name)]));
}

function describeSource(source: Source | undefined): string {
  switch (source?.type) {
    case 'given':
      return 'by URL';
    case 'compose':
      return 'by docker compose';
    case 'programs':
      return 'on this machine';
    case 'apt':
    case undefined:
      return 'to be installed';
    default:
      return source satisfies never;
  }
}

/** So that `. .run/env` makes `kaimai` a command. */
function linkCommand(): void {
  mkdirSync(BIN_FOLDER, { recursive: true });
  const link = join(BIN_FOLDER, 'kaimai');
  rmSync(link, { force: true });
  symlinkSync(join(projectRoot, 'dist/cmd/kaimai/main.js'), link);
}

function describe({ servers, services }: Started, commands: readonly string[]): string {
  const lines = ['', 'Kaimai is open.', ''];
  for (const { name, http, grpc, metrics } of inOrder(SERVICES, services)) {
    lines.push(`  ${name.padEnd(11)} http://${http}   gRPC ${grpc}   http://${metrics}/metrics`);
  }
  for (const { name, url, extras } of inOrder(SERVERS, servers)) {
    const management = extras.KAIMAI_RABBITMQ_MANAGEMENT_URL;
    lines.push(
      `  ${serverKinds[name].title.padEnd(11)} ${withoutLogin(url)}${management ? `   ${withoutLogin(management)}` : ''}`,
    );
  }
  lines.push(
    '',
    'Try, in another terminal:',
    '',
    `  cd ${projectRoot} && . .run/env`,
    ...(commands.includes('demo') ? ['  kaimai demo'] : []),
    '  curl -s http://$KAIMAI_PRODUCT_HTTP/v1/products',
    "  redis-cli -u $KAIMAI_REDIS_URL XADD stream:seckill:1001 '*' uid 123 ts 1234567890",
    '  psql "$KAIMAI_POSTGRES_URL" -c "SELECT * FROM instance_logs ORDER BY created_at DESC LIMIT 10"',
    '  curl -s $KAIMAI_RABBITMQ_MANAGEMENT_URL/api/queues',
    '',
    `Logs: ${inOrder(SERVICES, services)
      .map((service) => relative(process.cwd(), service.logFile))
      .join(', ')}. Ctrl-C stops all of it.`,
  );
  return lines.join('\n');
}

function inOrder<K, V>(keys: readonly K[], map: ReadonlyMap<K, V>): V[] {
  return keys.flatMap((key) => map.get(key) ?? []);
}

function withoutLogin(url: string): string {
  return url.replace(/\/\/[^@/]*@/, '//');
}
