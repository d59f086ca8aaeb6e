import { ALL_REASONS } from '../../gen/reasons.js';
import { TokenRevocations } from '../biz/user/token-revocation.js';
import { CONFIG, type Config } from '../conf/config.js';
import { loadDescriptors } from '../conf/descriptors.js';
import { LiveConfig } from '../conf/live.js';
import { isLoopback } from '../conf/load.js';
import { ENVELOPE_HEADER, METRICS_NAMESPACE, OWN_ENVELOPES, processOf, serviceName } from '../conf/process.js';
import { projectVersion } from '../conf/version.js';
import { App } from '../kratos/app/app.js';
import { ConfigWatcher } from '../kratos/app/config-watcher.js';
import { Health, healthMetrics } from '../kratos/app/health.js';
import { HealthProbe } from '../kratos/app/health-probe.js';
import { METRICS, metricsRegistry } from '../kratos/app/metrics.js';
import { OpsListener, opsRoute } from '../kratos/app/ops.js';
import type { ProcessContext } from '../kratos/app/process.js';
import { Resources } from '../kratos/app/resources.js';
import type { Server } from '../kratos/app/server.js';
import { all, optional, type ProviderSet, providers, type ValuesOf } from '../kratos/app/wiring.js';
import { Worker } from '../kratos/app/worker.js';
import { reportReadiness, workerMetrics } from '../kratos/app/workers.js';
import { Background, takesRole } from '../kratos/background/background.js';
import { BacklogProbe } from '../kratos/background/background-meter.js';
import { BackgroundMetrics } from '../kratos/background/background-metrics.js';
import { backlogWatch } from '../kratos/background/backlog-watch.js';
import { ConfigError } from '../kratos/config/config-error.js';
import { Logger } from '../kratos/log/logger.js';
import { Metrics } from '../kratos/metrics/metrics.js';
import { AdaptiveLimiter, limiterMetrics } from '../kratos/middleware/adaptive-limiter.js';
import { callerAddress } from '../kratos/middleware/caller-address.js';
import { CpuMeter } from '../kratos/middleware/cpu-meter.js';
import { deadline } from '../kratos/middleware/deadline.js';
import { logging } from '../kratos/middleware/logging.js';
import { metrics } from '../kratos/middleware/metrics.js';
import { rateLimit } from '../kratos/middleware/rate-limit.js';
import { recovery } from '../kratos/middleware/recovery.js';
import { streamAge } from '../kratos/middleware/stream-age.js';
import { streamLimit } from '../kratos/middleware/stream-limit.js';
import { type BucketRate, TokenBuckets } from '../kratos/middleware/token-buckets.js';
import { tracing } from '../kratos/middleware/tracing.js';
import { serviceInstance } from '../kratos/registry/service-instance.js';
import { NoServiceRegistry, ServiceRegistry } from '../kratos/registry/service-registry.js';
import { OtelTrace } from '../kratos/tracing/otel-trace.js';
import { Trace } from '../kratos/tracing/trace.js';
import type { Observer } from '../kratos/transport/chain.js';
import { ClientAddresses } from '../kratos/transport/client-address.js';
import { ConnectionLimit } from '../kratos/transport/connection-limit.js';
import { Dispatcher, ServiceBinding } from '../kratos/transport/dispatcher.js';
import { GrpcListener } from '../kratos/transport/grpc/listener.js';
import { protocolServices } from '../kratos/transport/grpc/protocol-services.js';
import { HttpListener } from '../kratos/transport/http/listener.js';
import { declaredReasons } from '../kratos/transport/openapi/declared-reasons.js';
import { docsRoute } from '../kratos/transport/openapi/docs.js';
import { ServerTls, type ServerTlsFiles } from '../kratos/transport/tls/server-tls.js';
import { validation } from '../kratos/transport/validation.js';
import { accessRules } from './access-rules.js';
import { accountLimit } from './middleware/account-limit.js';
import { type Authenticator, auth, headerAuthenticator, jwtAuthenticator } from './middleware/auth.js';
import { buyerLimit, ORDERS, PURCHASES } from './middleware/buyer-limit.js';
import { PLAIN_ROUTE, type PlainRoute } from './plain-route.js';

/** What exists before the object graph is built. */
export function contextModule({ config, live, logger, worker, resources }: ProcessContext<LiveConfig>): ProviderSet {
  return providers(({ value }) => {
    value(CONFIG, config);
    value(LiveConfig, live);
    value(Logger, logger);
    value(Worker, worker);
    value(Resources, resources);
  });
}

const DISPATCHER_PARTS = {
  config: CONFIG,
  live: LiveConfig,
  logger: Logger,
  metrics: Metrics,
  health: Health,
  limiter: AdaptiveLimiter,
  revocations: optional(TokenRevocations),
  services: all(ServiceBinding),
};

const APP_PARTS = {
  config: CONFIG,
  logger: Logger,
  worker: Worker,
  resources: Resources,
  health: Health,
  dispatcher: Dispatcher,
  grpc: GrpcListener,
  http: HttpListener,
  ops: OpsListener,
  cpu: CpuMeter,
  limiter: AdaptiveLimiter,
  watcher: ConfigWatcher,
  metrics: Metrics,
  backgroundMetrics: BackgroundMetrics,
  registry: optional(ServiceRegistry),
  backgrounds: all(Background),
  probes: all(BacklogProbe),
};

/**
 * The app of a process: its listeners, middleware, health and metrics. Other modules add to it by providing any number of
 *
 * - `ServiceBinding`: an RPC service. It is served by gRPC and, by its google.api.http rules, as JSON.
 * - `Background`: a consumer, relay or sweeper, with the role that turns it on.
 * - `BacklogProbe`: measures what waits for a background server.
 * - `PLAIN_ROUTE`: a route of the JSON listener that is no RPC.
 * - `HealthProbe`: checks a server that the process depends on.
 *
 * and at most one `ServiceRegistry`. Resources are closed through `Resources` and never by a deactivation of inversify,
 * which deactivates in the order of binding and so closes a pool before its users.
 */
export const sharedServerModule: ProviderSet = providers(({ provide, create, assemble }) => {
  create(METRICS, [], metricsRegistry);
  create(Metrics, [METRICS], (registry) => new Metrics(registry, METRICS_NAMESPACE));
  create(Trace, [], () => new OtelTrace());
  provide(Health, [all(HealthProbe), Logger]);
  provide(ConfigWatcher, [LiveConfig, Logger]);
  provide(CpuMeter, []);
  create(AdaptiveLimiter, [LiveConfig, CpuMeter], (live, cpu) => {
    const limiter = new AdaptiveLimiter(live.current.server.rateLimit, () => cpu.percent);
    live.onChange((config) => {
      limiter.options = config.server.rateLimit;
    });
    return limiter;
  });
  assemble(Dispatcher, DISPATCHER_PARTS, makeDispatcher);
  create(GrpcListener, [CONFIG, Dispatcher, Logger], (config, dispatcher, logger) => {
    const { grpc } = config.server;
    const { addr, maxMessageBytes, writeTimeoutMs, fastUnary } = grpc;
    const limits = { maxMessageBytes, writeTimeoutMs, maxConnectionAgeMs: config.server.maxConnectionAgeMs };
    const options = { addr, fastUnary, ...limits, ...securityOf(config, grpc.tls, logger) };
    return new GrpcListener(options, dispatcher);
  });
  create(
    HttpListener,
    [CONFIG, Dispatcher, Logger, Health, Worker, all(PLAIN_ROUTE)],
    (config, dispatcher, logger, health, worker, routes) =>
      new HttpListener(
        {
          ...config.server.http,
          ...securityOf(config, config.server.http.tls, logger),
          maxConnectionAgeMs: config.server.maxConnectionAgeMs,
          envelopeHeader: ENVELOPE_HEADER,
          ownEnvelopes: OWN_ENVELOPES,
          forwardHeaders: FORWARDED_HEADERS,
        },
        loadDescriptors().registry,
        dispatcher,
        logger,
        plainRoutes(config, worker, dispatcher, health, routes),
      ),
  );
  create(BackgroundMetrics, [METRICS], (registry) => new BackgroundMetrics(registry, METRICS_NAMESPACE));
  create(OpsListener, [CONFIG, Health, METRICS], (config, health, registry) => {
    return new OpsListener(config.server.metricsAddr, {
      ready: () => health.ready,
      dependencies: () => health.dependencies,
      metrics: async () => ({ contentType: registry.contentType, text: await registry.metrics() }),
    });
  });
  assemble(App, APP_PARTS, makeApp);
});

/** TLS and the limit of connections of one listener. */
function securityOf({ server }: Config, files: ServerTlsFiles, logger: Logger) {
  const { connections: max, connectionsPerAddress: maxPerAddress } = server.limits;
  return {
    tls: files.cert === '' ? undefined : new ServerTls(files, logger),
    connections: new ConnectionLimit({ max, maxPerAddress }, new ClientAddresses(server.trustedProxies)),
  };
}

function makeDispatcher(parts: ValuesOf<typeof DISPATCHER_PARTS>): Dispatcher {
  const { config, health, services } = parts;
  const { grpc, http, limits, trustedProxies } = config.server;
  const descriptors = loadDescriptors();
  const clients = new ClientAddresses(trustedProxies);
  const layers = [
    recovery(),
    ...(config.trace.endpoint === '' ? [] : [tracing()]),
    logging(parts.logger),
    metrics(parts.metrics, (method) => declaredReasons(method, ALL_REASONS, descriptors.registry)),
    deadline({ grpcTimeoutMs: grpc.timeoutMs, httpTimeoutMs: http.timeoutMs }),
    auth(authenticatorOf(config, parts.revocations), descriptors.registry),
    callerAddress(clients, ADDRESSED_SERVICES),
    limitBuyers('purchases', PURCHASES, parts, (config) => config.seckill, clients),
    limitBuyers('orders', ORDERS, parts, (config) => config.order, clients),
    limitAccounts(parts.live, clients),
    streamAge(config.server.streamMaxAgeMs),
    streamLimit({ max: limits.streams, maxPerAddress: limits.streamsPerAddress }, clients),
    rateLimit(parts.limiter),
  ];
  const bindings = [...services, ...protocolServices({ descriptors, services, health, reflection: grpc.reflection })];
  return new Dispatcher(descriptors.registry, bindings, layers, validation(descriptors.registry));
}

/** Services that use the address of their callers. */
const ADDRESSED_SERVICES = ['user.v1.UserService'];

/** Plain headers that calls read by their own names. */
const FORWARDED_HEADERS = [
  'x-user-id',
  'x-user-role',
  'x-internal-token',
  'x-bff-token',
  'x-admin-token',
  'x-real-ip',
  'x-payment-timestamp',
  'x-payment-signature',
  'x-cart-token',
];

/** Users and addresses whose calls a worker counts; a million buckets are some 100 MB. */
const BUCKETS = 100_000;

function limitBuyers(
  calls: string,
  operations: ReadonlySet<string>,
  { live, metrics: target }: Pick<ValuesOf<typeof DISPATCHER_PARTS>, 'live' | 'metrics'>,
  ratesOf: (config: Config) => { readonly userRate: BucketRate; readonly addressRate: BucketRate },
  clients: ClientAddresses,
): Observer {
  const { userRate, addressRate } = ratesOf(live.current);
  const users = new TokenBuckets(userRate, BUCKETS);
  const addresses = new TokenBuckets(addressRate, BUCKETS);
  live.onChange((config) => {
    const rates = ratesOf(config);
    users.rate = rates.userRate;
    addresses.rate = rates.addressRate;
  });
  target.counter(
    'buyer_limit_refused_total',
    'Calls of buyers that were refused by a rate limit: of purchases and their tokens, or of orders.',
    () => [
      [{ calls, limited: 'user' }, users.refused],
      [{ calls, limited: 'address' }, addresses.refused],
    ],
  );
  return buyerLimit(operations, users, addresses, clients);
}

function limitAccounts(live: LiveConfig, clients: ClientAddresses): Observer {
  const { auth } = live.current;
  const registrations = new TokenBuckets(auth.registerRate, BUCKETS);
  const logins = new TokenBuckets(auth.loginRate, BUCKETS);
  live.onChange((config) => {
    registrations.rate = config.auth.registerRate;
    logins.rate = config.auth.loginRate;
  });
  return accountLimit(registrations, logins, clients);
}

/** Routes of the JSON listener that are no RPCs. */
function plainRoutes(
  config: Config,
  worker: Worker,
  dispatcher: Dispatcher,
  health: Health,
  routes: readonly PlainRoute[],
): PlainRoute {
  // The names and states of dependencies are for operators, who ask on server.metrics_addr.
  const ops = { ready: () => health.ready };
  const docs = docsRoute({
    registry: loadDescriptors().registry,
    services: dispatcher.services.filter((name) => !name.startsWith('grpc.')).sort(),
    envelopeHeader: ENVELOPE_HEADER,
    processOf,
    strict: config.server.http.strictBody && config.server.http.strictQuery,
    title: `Kaimai ${worker.process}`,
    version: projectVersion(),
    reasons: ALL_REASONS,
    access: accessRules(loadDescriptors().registry, config.auth.mode === 'jwt' ? 'jwt' : 'header'),
    errorShape: config.server.http.errorShape === 'grpc-gateway' ? 'grpc-gateway' : 'reason',
  });
  return (req, res) =>
    opsRoute(ops, req, res) || (config.server.http.docs && docs(req, res)) || routes.some((route) => route(req, res));
}

function isOnLoopback({ http, grpc }: Config['server']): boolean {
  return isLoopback(http.addr) && isLoopback(grpc.addr);
}

function authenticatorOf(config: Config, revocations: TokenRevocations | undefined): Authenticator {
  if (config.auth.mode === 'jwt') {
    return jwtAuthenticator({ ...config.auth, isRevoked: revocations?.isRevoked.bind(revocations) });
  }
  return headerAuthenticator({ ...config.auth, adminByRole: config.server.environment !== 'production' });
}

function makeApp(parts: ValuesOf<typeof APP_PARTS>): App {
  const { config, logger, worker, resources, health, dispatcher, grpc, http } = parts;
  const registry = parts.registry ?? new NoServiceRegistry();
  checkRoles(config, worker, parts.backgrounds);
  if (config.server.environment !== 'production' && !isOnLoopback(config.server)) {
    logger.warn('development environment: every caller that reaches this process can act as any user and as ADMIN', {
      http: config.server.http.addr,
      grpc: config.server.grpc.addr,
    });
  }
  const servers: Server[] = [];
  exportProcess(parts);
  // Several workers are asked through their primary.
  if (worker.count === 1 && config.server.metricsAddr !== '') servers.push(parts.ops);
  servers.push(parts.watcher, health);
  for (const b of parts.backgrounds) {
    if (!b.runsIn(config.server.roles, worker)) continue;
    b.server.observe?.(parts.backgroundMetrics.of(b.server.name));
    servers.push(b.server);
  }
  const here = new Set(servers.map((s) => s.name));
  // Every worker would measure the same.
  const watched = worker.index === 0 ? parts.probes.filter((p) => here.has(p.server)) : [];
  if (watched.length > 0) servers.push(backlogWatch(watched, parts.backgroundMetrics, logger));
  const serves = takesRole(config.server.roles, 'api');
  servers.push(parts.cpu);
  if (serves) servers.push(handlers(dispatcher), grpc, http);
  reportReadiness(health);
  return new App({
    name: worker.process,
    logger,
    servers,
    health,
    drainDelayMs: config.server.drainDelayMs,
    stopTimeoutMs: config.server.stopTimeoutMs,
    // Only replicas with role `api` register with service discovery.
    register: async () => {
      if (!serves) return;
      const instance = serviceInstance(worker, {
        name: serviceName(worker.process),
        version: projectVersion(),
        ...config.registry,
        grpc: { addr: config.server.grpc.addr, port: grpc.port, secure: config.server.grpc.tls.cert !== '' },
        http: { addr: config.server.http.addr, port: http.port, secure: config.server.http.tls.cert !== '' },
      });
      await registry.register(instance);
    },
    deregister: () => registry.deregister(),
    close: () => resources.close(),
  });
}

function exportProcess(parts: ValuesOf<typeof APP_PARTS>): void {
  const { metrics: target, worker, health, cpu, limiter, grpc, http } = parts;
  const labels = { process: worker.process, version: projectVersion(), node: process.version };
  target.gauge('build_info', '1, with the version of the program.', 'max', () => [[labels, 1]]);
  target.gauge(
    'cpu_percent',
    'Smoothed CPU usage in percent of one core; of several workers the highest.',
    'max',
    () => {
      return cpu.percent;
    },
  );
  target.gauge(
    'event_loop_utilization',
    'Smoothed share of the time in which the event loop was busy, from 0 to 1; of several workers the highest.',
    'max',
    () => cpu.eventLoopUtilization,
  );
  target.gauge('server_connections', 'Open connections of callers, by transport.', 'sum', () => [
    [{ transport: 'grpc' }, grpc.openConnections],
    [{ transport: 'http' }, http.openConnections],
  ]);
  healthMetrics(target, health);
  limiterMetrics(target, limiter);
  const readyCount = () => (health.ready ? 1 : 0);
  if (worker.count === 1) workerMetrics(target, 1, { restarts: 0, readyCount });
}

function checkRoles(config: Config, worker: Worker, backgrounds: readonly Background[]): void {
  const known = ['api', ...new Set(backgrounds.map((b) => b.role))];
  const unknown = config.server.roles.filter((r) => !known.includes(r));
  if (unknown.length === 0) return;
  throw new ConfigError(
    'configuration',
    unknown.map((r) => ({
      path: 'server.roles',
      description: `${worker.process} has no role "${r}", only ${known.join(', ')}`,
    })),
  );
}

/** Stops after the listeners: a handler whose caller has left may still use what is closed next. */
function handlers(dispatcher: Dispatcher): Server {
  return {
    name: 'handlers',
    start: async () => undefined,
    stop: (deadline) => dispatcher.drain(deadline),
  };
}
