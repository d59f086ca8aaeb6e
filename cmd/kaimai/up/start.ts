import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Listr, type ListrTask } from 'listr2';
import { migrate } from '../../../internal/data/postgres/migrate.js';
import { loadMigrations } from '../../../internal/data/postgres/migration-file.js';
import { errorText } from '../../../internal/kratos/errors/error-text.js';
import { CLUSTERED_ENGINES, startEngines } from '../../../internal/local/clusters/launch.js';
import { configFile } from '../../../internal/local/config-file.js';
import { NAMESPACE, startCluster } from '../../../internal/local/kubernetes/launch.js';
import type { Launch } from '../../../internal/local/launch.js';
import { createLogins } from '../../../internal/local/logins.js';
import { projectRoot, runFolder } from '../../../internal/local/project.js';
import { BIN_FOLDER, rememberOwnUrls, writeRunEnv } from '../../../internal/local/run-env.js';
import { localDataRoot } from '../../../internal/local/servers/data-root.js';
import { nextFreePort } from '../../../internal/local/servers/ports.js';
import type { RunningServer, ServerName } from '../../../internal/local/servers/server.js';
import {
  chooseSources,
  installMissing,
  type Source,
  serverKinds,
  startServers,
} from '../../../internal/local/servers/servers.js';
import { SupervisedService } from '../../../internal/local/services.js';
import { loadDemoData } from '../demo-data.js';
import { migrationsFolder } from '../migrate.js';
import {
  type Context,
  INSPECTOR_PORTS,
  SERVERS,
  SERVICES,
  type Started,
  type UpOptions,
  urlOf,
  variables,
} from './context.js';
import { placeReplicas, type Replica } from './replicas.js';
import { hostsOf } from './summary.js';

const SERVICE_START_TIMEOUT_MS = 60_000;

/** Starts everything, with a line for each step. */
export async function start(launch: Launch, options: UpOptions, signal: AbortSignal): Promise<Context> {
  const root = localDataRoot();
  const context: Context = {
    sources: new Map(),
    servers: new Map(),
    services: new Map(),
    supervised: new Map(),
    addresses: new Map(),
    logins: new Map(),
  };
  const warnings: string[] = [];
  const tasks = new Listr<Context>(
    [
      {
        title: 'Find PostgreSQL, Redis and RabbitMQ',
        async task(ctx, task) {
          const names = options.cluster ? CLUSTERED_ENGINES : SERVERS;
          ctx.sources = await chooseSources(names, { root, place: options.cluster ? 'programs' : options.servers });
          task.title = `Found: ${[...ctx.sources.keys()].map((name) => `${serverKinds[name].title} ${describeSource(ctx.sources.get(name))}`).join(', ')}`;
        },
      },
      {
        title: 'Install missing packages with apt',
        enabled: (ctx) => [...ctx.sources.values()].some((source) => source.type === 'apt'),
        async task(ctx, task) {
          await installMissing(ctx.sources, signal, (line) => {
            if (line.startsWith('Setting up ')) task.output = line;
          });
        },
      },
      {
        title: 'Start servers',
        task(ctx, task) {
          const warn = (message: string) => warnings.push(message);
          const startOptions = { root, port: nextFreePort, signal, removeData: false, warn };
          const starting = options.cluster
            ? startEngines(launch, root, signal)
            : startServers(ctx.sources, startOptions);
          return task.newListr(
            [...starting].map(([name, server]) => startServerTask(name, launch.addServer(server))),
            { concurrent: true },
          );
        },
      },
      {
        title: 'Migrate the schema',
        async task(ctx, task) {
          const applied = await migrateSchema(ctx, root);
          task.title = applied.length === 0 ? 'Schema is up to date' : `Schema migrated: ${applied.join(', ')}`;
        },
      },
      {
        title: 'Create the logins of product and resource',
        // The login of a given URL is the user's choice, and may create no others.
        enabled: (ctx) => ctx.sources.get('postgres')?.type !== 'given',
        async task(ctx) {
          ctx.logins = await createLogins(urlOf(ctx, 'postgres'), SERVICES);
        },
      },
      {
        title: 'Load demo data',
        async task(ctx, task) {
          const loaded = await loadDemoData(urlOf(ctx, 'postgres'));
          task.title = loaded === 0 ? 'Demo data is loaded already' : `Demo data: ${loaded} products`;
        },
      },
      {
        title: 'Start a Kubernetes cluster',
        enabled: () => options.kubernetes === true,
        async task(ctx, task) {
          ctx.kubernetes = await startCluster(launch, signal);
          task.title = `Kubernetes ${ctx.kubernetes.url} (namespace ${NAMESPACE}, kwok plays the nodes)`;
        },
      },
      {
        title: 'Start product and resource',
        async task(ctx, task) {
          const replicas = await placeReplicas(ctx, launch, options.cluster === true);
          return task.newListr(
            replicas.map((replica) => startServiceTask(replica, launch, options, signal)),
            { concurrent: true },
          );
        },
      },
    ],
    {
      ctx: context,
      // `up` handles signals, because it has more to stop than the current task.
      registerSignalListeners: false,
      fallbackRenderer: 'simple',
      rendererOptions: { collapseSubtasks: false },
    },
  );
  try {
    await tasks.run();
  } finally {
    for (const warning of warnings) console.warn(warning);
  }
  signal.throwIfAborted();
  writeRunEnv(variables(context));
  rememberOwnUrls(ownUrls(context));
  writeCommand();
  return context;
}

function startServerTask(name: ServerName, starting: Promise<RunningServer>): ListrTask<Context> {
  const { title } = serverKinds[name];
  return {
    title,
    async task(ctx, task) {
      const server = await starting;
      ctx.servers.set(name, server);
      task.title = `${title} ${hostsOf(server.url)} (${server.origin})`;
    },
  };
}

/** Buyers open pay pages through the balancer, not at the replica that made the link. */
function payPages(ctx: Context): Record<string, string> {
  return { KAIMAI_PAYMENT_SIMULATOR_BASE_URL: `http://${ctx.addresses.get('product')?.http}` };
}

/** The URLs of servers hold their passwords. Those of the caller's environment may belong to other servers. */
const PASSWORDS_IN_URLS = { KAIMAI_POSTGRES_PASSWORD: '', KAIMAI_REDIS_PASSWORD: '', KAIMAI_RABBITMQ_PASSWORD: '' };

function startServiceTask(
  { service: name, label, addresses }: Replica,
  launch: Launch,
  options: UpOptions,
  signal: AbortSignal,
): ListrTask<Context> {
  return {
    title: label,
    async task(ctx, task) {
      const login = ctx.logins.get(name);
      const service = new SupervisedService(name, {
        label,
        addresses,
        env: {
          ...variables(ctx),
          ...PASSWORDS_IN_URLS,
          ...(login && { KAIMAI_DATA_DATABASE_SOURCE: login }),
          ...(options.cluster && { KAIMAI_SERVER_REPLICA: label, ...payPages(ctx) }),
        },
        config: configFile(name, options.conf),
        logFile: join(runFolder, `${label}.log`),
        timeoutMs: SERVICE_START_TIMEOUT_MS,
        inspectorPort: options.inspect && INSPECTOR_PORTS[name],
        keepStandby: options.watch === true,
        spawned: (child) => launch.setService(child),
      });
      ctx.supervised.set(label, service);
      ctx.services.set(label, await service.start(signal));
      task.title = `${label} ${addresses.http}, gRPC ${addresses.grpc}`;
    },
  };
}

/** @returns the migrations that were applied */
export async function migrateSchema(started: Started, root: string): Promise<readonly string[]> {
  try {
    return await migrate(urlOf(started, 'postgres'), await loadMigrations(migrationsFolder));
  } catch (cause) {
    if (started.servers.get('postgres')?.processes.length === 0) throw cause;
    // A migration that is being written changes after it was applied.
    throw new Error(`${errorText(cause)}\nFor an empty local database stop this, delete ${root} and start again.`, {
      cause,
    });
  }
}

/** What the shells of an earlier launch may still name: the servers that this launcher started. */
function ownUrls(ctx: Context): Record<string, string> {
  const started = SERVERS.filter((name) => ctx.sources.get(name)?.type !== 'given');
  const urls = Object.fromEntries(started.map((name) => [serverKinds[name].urlVariable, urlOf(ctx, name)]));
  return Object.assign(urls, ...[...ctx.servers.values()].map(({ extras }) => extras));
}

function describeSource(source: Source | undefined): string {
  switch (source?.type) {
    case 'given':
      return 'given by URL';
    case 'compose':
      return 'docker compose';
    case 'programs':
      return 'on this machine';
    case 'apt':
    case undefined:
      return 'to be installed';
    default:
      return source satisfies never;
  }
}

/** Makes `kaimai` a command for shells that read .run/env. It runs on this Node: theirs may be older. */
function writeCommand(): void {
  mkdirSync(BIN_FOLDER, { recursive: true });
  const file = join(BIN_FOLDER, 'kaimai');
  // Earlier versions left a link to main.js here.
  rmSync(file, { force: true });
  const quoted = [process.execPath, join(projectRoot, 'dist/cmd/kaimai/main.js')].map(
    (path) => `'${path.replaceAll("'", `'\\''`)}'`,
  );
  writeFileSync(file, `#!/bin/sh\nexec ${quoted.join(' ')} "$@"\n`, { mode: 0o755 });
}
