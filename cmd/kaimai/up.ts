import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { Command, Option } from 'commander';
import { Listr, type ListrTask } from 'listr2';
import { migrate } from '../../internal/data/postgres/migrate.js';
import { loadMigrations } from '../../internal/data/postgres/migration-file.js';
import { errorText } from '../../internal/kratos/errors/error-text.js';
import { checkConfigFolder, configFile } from '../../internal/local/config-file.js';
import { type ClusterEnvironment, NAMESPACE, startCluster } from '../../internal/local/kubernetes/launch.js';
import { findPrograms, missingPrograms } from '../../internal/local/kubernetes/programs.js';
import { Launch } from '../../internal/local/launch.js';
import { createLogins } from '../../internal/local/logins.js';
import { projectRoot, runFolder } from '../../internal/local/project.js';
import {
  BIN_FOLDER,
  forgetOwnUrls,
  RUN_ENV_FILE,
  rememberOwnUrls,
  removeRunEnv,
  writeRunEnv,
} from '../../internal/local/run-env.js';
import { localDataRoot } from '../../internal/local/servers/data-root.js';
import { nextFreePort } from '../../internal/local/servers/ports.js';
import type { RunningServer, ServerName } from '../../internal/local/servers/server.js';
import {
  chooseSources,
  installMissing,
  PLACES,
  type Place,
  type Source,
  serverKinds,
  startServers,
  supervisedServer,
} from '../../internal/local/servers/servers.js';
import {
  addressVariables,
  pickAddresses,
  type Service,
  type ServiceAddresses,
  type ServiceName,
  SupervisedService,
} from '../../internal/local/services.js';
import { SourceWatcher } from '../../internal/local/source-watcher.js';
import { SUPERVISOR_DEFAULTS, type Supervised, Supervisor } from '../../internal/local/supervisor.js';
import { loadDemoData } from './demo-data.js';
import { migrationsFolder } from './migrate.js';

const SERVERS = ['postgres', 'redis', 'rabbitmq'] as const satisfies ServerName[];
const SERVICES = ['product', 'resource'] as const satisfies ServiceName[];
const SERVICE_START_TIMEOUT_MS = 60_000;
/** For `--inspect`. Far enough apart for the workers of product, which take the ports after its own. */
const INSPECTOR_PORTS: Record<ServiceName, number> = { product: 9229, resource: 9249 };

interface UpOptions {
  readonly watch?: true;
  readonly inspect?: true;
  readonly servers?: Place;
  /** Instances are workloads of a cluster on this machine. */
  readonly kubernetes?: true;
  /** Folder of the configuration files. */
  readonly conf?: string;
}

export const upCommand = new Command('up')
  .description('start everything on this machine: servers, schema, demo data, product and resource')
  .option('--watch', 'compile what is saved and restart product and resource')
  .option(
    '--inspect',
    `let a debugger attach: product on ${INSPECTOR_PORTS.product}, resource on ${INSPECTOR_PORTS.resource}`,
  )
  .addOption(
    new Option(
      '--servers <place>',
      'where to run PostgreSQL, Redis and RabbitMQ (default: where their data is)',
    ).choices(PLACES),
  )
  .option('--kubernetes', 'create instances on a Kubernetes cluster that is started too; its nodes are simulated')
  .option('--conf <folder>', 'folder with product.yaml or resource.yaml, or both (default: configs)')
  .action(async (options: UpOptions) => {
    process.exitCode = await up(options);
  });

/** Runs until a signal, or until the start fails. Resolves with the exit code. */
async function up(options: UpOptions): Promise<number> {
  if (options.conf !== undefined) checkConfigFolder(options.conf);
  if (options.kubernetes && !findPrograms()) {
    console.error(missingPrograms());
    return 1;
  }
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
    const started = await start(launch, options, interruption.signal);
    console.log(describe(started));
    await keepRunning(started, options, interruption.signal);
  } catch (error) {
    if (!interruption.signal.aborted) {
      console.error(`\n${errorText(error)}`);
      code = 1;
    }
  }

  // Cancels what is still starting.
  interruption.abort();
  console.log('\nStopping (a second Ctrl-C kills what is left) …');
  removeRunEnv();
  for (const failure of await launch.end()) {
    console.error(errorText(failure));
    code = 1;
  }
  for (const signal of signals) process.off(signal, onSignal);
  console.log('Stopped.');
  return code;
}

/** Restarts what ends and, with --watch, what changes. Returns on a signal. */
async function keepRunning(started: Started, options: UpOptions, signal: AbortSignal): Promise<void> {
  const report = (message: string) => console.log(`${new Date().toLocaleTimeString('en-GB')} ${message}`);
  const supervise = (unit: Supervised) => new Supervisor(unit, { ...SUPERVISOR_DEFAULTS, report });
  const services = new Map([...started.supervised].map(([name, unit]) => [name, supervise(unit)]));
  const servers = [...started.servers.values()].flatMap((server) => supervisedServer(server) ?? []).map(supervise);
  const running = [...services.values(), ...servers].map((supervisor) => supervisor.run(signal));
  if (options.watch) {
    const watcher = new SourceWatcher({
      root: projectRoot,
      report,
      restart(names, why) {
        for (const name of names) services.get(name)?.restart(why);
      },
      async migrate() {
        const applied = await migrateSchema(started, localDataRoot());
        if (applied.length > 0) report(`Schema migrated: ${applied.join(', ')}`);
      },
    });
    running.push(watcher.run(signal));
  }
  await Promise.all(running);
}

interface Started {
  servers: Map<ServerName, RunningServer>;
  services: Map<ServiceName, Service>;
  supervised: Map<ServiceName, SupervisedService>;
}

interface Context extends Started {
  cluster?: ClusterEnvironment;
  sources: Map<ServerName, Source>;
  addresses: Map<ServiceName, ServiceAddresses>;
  /** URLs of PostgreSQL for services that log in as themselves. */
  logins: ReadonlyMap<ServiceName, string>;
}

async function start(launch: Launch, options: UpOptions, signal: AbortSignal): Promise<Context> {
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
          ctx.sources = await chooseSources(SERVERS, { root, place: options.servers });
          task.title = `Found: ${SERVERS.map((name) => `${serverKinds[name].title} ${describeSource(ctx.sources.get(name))}`).join(', ')}`;
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
          const starting = startServers(ctx.sources, startOptions);
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
          ctx.cluster = await startCluster(launch, signal);
          task.title = `Kubernetes ${ctx.cluster.url} (namespace ${NAMESPACE}, kwok plays the nodes)`;
        },
      },
      {
        title: 'Start product and resource',
        async task(ctx, task) {
          // All addresses before any service, because the services call each other.
          for (const name of SERVICES) ctx.addresses.set(name, await pickAddresses(name, nextFreePort));
          return task.newListr(
            SERVICES.map((name) => startServiceTask(name, launch, options, signal)),
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

/** The URLs of servers hold their passwords. Those of the caller's environment may belong to other servers. */
const PASSWORDS_IN_URLS = { KAIMAI_POSTGRES_PASSWORD: '', KAIMAI_REDIS_PASSWORD: '', KAIMAI_RABBITMQ_PASSWORD: '' };

function startServiceTask(
  name: ServiceName,
  launch: Launch,
  options: UpOptions,
  signal: AbortSignal,
): ListrTask<Context> {
  return {
    title: name,
    async task(ctx, task) {
      const addresses = ctx.addresses.get(name);
      if (!addresses) throw new Error(`${name} has no addresses`);
      const login = ctx.logins.get(name);
      const service = new SupervisedService(name, {
        addresses,
        env: { ...variables(ctx), ...PASSWORDS_IN_URLS, ...(login && { KAIMAI_DATA_DATABASE_SOURCE: login }) },
        config: configFile(name, options.conf),
        logFile: join(runFolder, `${name}.log`),
        timeoutMs: SERVICE_START_TIMEOUT_MS,
        inspectorPort: options.inspect && INSPECTOR_PORTS[name],
        keepStandby: options.watch === true,
        spawned: (child) => launch.setService(child),
      });
      ctx.supervised.set(name, service);
      ctx.services.set(name, await service.start(signal));
      task.title = `${name} ${addresses.http}, gRPC ${addresses.grpc}`;
    },
  };
}

function urlOf(ctx: Started, name: ServerName): string {
  const server = ctx.servers.get(name);
  if (!server) throw new Error(`${serverKinds[name].title} is not running`);
  return server.url;
}

function variables(ctx: Context): Record<string, string> {
  const result: Record<string, string> = {};
  for (const server of ctx.servers.values()) {
    result[serverKinds[server.name].urlVariable] = server.url;
    Object.assign(result, server.extras);
  }
  for (const [name, addresses] of ctx.addresses) Object.assign(result, addressVariables(name, addresses));
  return { ...result, ...ctx.cluster?.variables };
}

async function migrateSchema(started: Started, root: string): Promise<readonly string[]> {
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

/** The URLs of the servers that this launcher started. */
function ownUrls(ctx: Context): Record<string, string> {
  const started = SERVERS.filter((name) => ctx.sources.get(name)?.type !== 'given');
  return Object.fromEntries(started.map((name) => [serverKinds[name].urlVariable, urlOf(ctx, name)]));
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

function describe({ servers, services, cluster }: Context): string {
  const lines = ['', 'Kaimai is running.', ''];
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
    `  cd ${projectRoot} && . ${relative(projectRoot, RUN_ENV_FILE)}`,
    '  kaimai demo',
    '  kaimai status',
    '  curl -s http://$KAIMAI_PRODUCT_HTTP/v1/products',
    "  redis-cli -u $KAIMAI_REDIS_URL XADD stream:seckill:1001 '*' uid 123 ts 1234567890",
    '  psql "$KAIMAI_POSTGRES_URL" -c "SELECT * FROM instance_logs ORDER BY created_at DESC LIMIT 10"',
    '  curl -s $KAIMAI_RABBITMQ_MANAGEMENT_URL/api/queues',
    ...(cluster ? ['  kubectl get pods'] : []),
    '',
    `Logs: ${inOrder(SERVICES, services)
      .map((service) => relative(process.cwd(), service.logFile))
      .join(', ')}. Ctrl-C stops everything.`,
  );
  return lines.join('\n');
}

function inOrder<K, V>(keys: readonly K[], map: ReadonlyMap<K, V>): V[] {
  return keys.flatMap((key) => map.get(key) ?? []);
}

function withoutLogin(url: string): string {
  return url.replace(/\/\/[^@/]*@/, '//');
}

/** The hosts of a URL, of which it may have several. */
function hostsOf(url: string): string {
  return /^\w+:\/\/([^/?#]*)/.exec(withoutLogin(url))?.[1] ?? url;
}
