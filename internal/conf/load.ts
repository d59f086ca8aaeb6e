import { createPrivateKey, createPublicKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { BlockList, isIP } from 'node:net';
import type { JsonObject, JsonValue } from '@bufbuild/protobuf';
import { parseAddress } from '../kratos/app/address.js';
import type { Violation } from '../kratos/config/config-error.js';
import type { Environment, EnvironmentRule } from '../kratos/config/environment.js';
import { type ConfigSpec, loadConfig } from '../kratos/config/load-config.js';
import type { Config } from './config.js';
import { DEFAULTS, DEVELOPMENT_JWT_SECRET, DEVELOPMENT_TOKEN } from './defaults.js';
import { loadDescriptors } from './descriptors.js';
import { parsePostgresUrl, type SessionTarget } from './postgres-url.js';
import { withPassword } from './url-password.js';

/** The environment variables of settings. docs/configuration.md lists them. */
export const ENVIRONMENT_RULE: EnvironmentRule = {
  prefix: 'KAIMAI',
  // The addresses of the resource process, ports of docker-compose.yml, and what Kubernetes tells of services.
  foreign: /^KAIMAI_RESOURCE_((HTTP|GRPC|METRICS)(_PORT)?|SERVICE_.*|PORT(_.*)?)$/,
  renamed: {
    KAIMAI_ENVIRONMENT: 'KAIMAI_SERVER_ENVIRONMENT',
    KAIMAI_INTERNAL_TOKEN: 'KAIMAI_AUTH_INTERNAL_TOKEN',
    KAIMAI_JWT_SECRET: 'KAIMAI_AUTH_JWT_SECRET',
    KAIMAI_PURCHASE_TOKEN_SECRET: 'KAIMAI_SECKILL_TOKEN_SECRET',
    KAIMAI_PREVIOUS_PURCHASE_TOKEN_SECRET: 'KAIMAI_SECKILL_PREVIOUS_TOKEN_SECRET',
    KAIMAI_PRODUCT_WORKERS: 'KAIMAI_SERVER_WORKERS',
    KAIMAI_RESOURCE_WORKERS: 'KAIMAI_SERVER_WORKERS',
  },
};

/**
 * The configuration in a YAML file, or in a directory of them.
 * @throws ConfigError with every violation
 */
export function loadBootstrap(path: string, env: Environment = process.env): Config {
  return loadConfig(path, bootstrapSpec(), env);
}

/** How the configuration of a Kaimai process is read and checked. */
export function bootstrapSpec(): ConfigSpec<Config> {
  const { registry } = loadDescriptors();
  const schema = registry.getMessage('kaimai.conf.Bootstrap');
  if (!schema) throw new Error('gen/descriptor.binpb has no kaimai.conf.Bootstrap: run make api');
  return {
    schema,
    registry,
    defaults: DEFAULTS,
    environment: ENVIRONMENT_RULE,
    addDependentDefaults,
    // `workers: 4` is what people write, although the field has to be text for "auto".
    numbersAsText: ['server.workers'],
    check,
    live: [
      'log.level',
      'server.rateLimit.',
      'order.userRate.',
      'order.addressRate.',
      'seckill.backlogLimit',
      'seckill.maxDeliveries',
      'seckill.userRate.',
      'seckill.addressRate.',
      'auth.registerRate.',
      'auth.loginRate.',
      'seckill.waitingRoomLimit',
    ],
  };
}

/** Defaults that depend on other settings, and URLs with their passwords. */
function addDependentDefaults(json: JsonObject): void {
  const server = json.server as {
    environment: JsonValue;
    grpc: { addr: JsonValue; reflection?: JsonValue };
    http: { addr: JsonValue; docs?: JsonValue };
  };
  if (server.environment === '' && [server.http, server.grpc].every(({ addr }) => isLoopback(String(addr)))) {
    server.environment = 'development';
  }
  server.grpc.reflection ??= server.environment !== 'production';
  server.http.docs ??= server.environment !== 'production';
  const { database, redis, rabbitmq } = json.data as Record<string, Record<string, JsonValue>>;
  if (database && redis && rabbitmq) {
    database.preparedStatements ??= database.pooler !== 'transaction';
    database.source = withPassword(String(database.source), String(database.password));
    if (database.replicaSource !== '') {
      database.replicaSource = withPassword(String(database.replicaSource), String(database.password));
    }
    redis.addr = withPassword(String(redis.addr), String(redis.password));
    rabbitmq.url = withPassword(String(rabbitmq.url), String(rabbitmq.password));
  }
  const payment = json.payment as { simulatedProviders?: JsonValue };
  payment.simulatedProviders ??= server.environment === 'production' ? [] : ['simulator', 'manual', 'demo'];
}

/** Settlement relies on it: it asks only for older entries whether their outcome may have been deleted. */
const MIN_RETENTION_MS = 86_400_000;

/** Rules that involve several fields. */
function check(config: Config): Violation[] {
  const violations: Violation[] = [];
  const add = (path: string, description: string) => violations.push({ path, description });
  const { auth, registry } = config;
  violations.push(...checkEnvironment(config.server));
  violations.push(...checkTokens(auth), ...checkTls(config), ...checkRedis(config.data.redis));
  violations.push(...checkDatabase(config.data.database));
  const production = config.server.environment === 'production';
  if (production && auth.internalToken === DEVELOPMENT_TOKEN) {
    add('auth.internal_token', 'the development token is refused in production');
  }
  if (production && auth.mode === 'header' && auth.bffToken === '') {
    add('auth.bff_token', 'production requires it: identity headers are believed only with this token');
  }
  if (production && config.payment.simulatedProviders.length > 0) {
    add('payment.simulated_providers', 'production takes money and pays it back for real');
  }
  const { algorithm, secret, publicKey, privateKey, issuer, audience } = auth.jwt;
  if (algorithm === 'HS256' && Buffer.byteLength(secret) < 32 && (auth.mode === 'jwt' || secret !== '')) {
    add('auth.jwt.secret', 'HS256 requires at least 32 bytes');
  }
  if (production && algorithm === 'HS256' && secret === DEVELOPMENT_JWT_SECRET) {
    add('auth.jwt.secret', 'the development secret is refused in production');
  }
  if (algorithm !== 'HS256' && privateKey !== '' && !isPair(algorithm, privateKey, publicKey)) {
    add('auth.jwt.private_key', `must be the ${algorithm} private key (PKCS #8, PEM) of public_key`);
  }
  if (auth.mode === 'jwt') {
    if (algorithm !== 'HS256' && !publicKey.includes('-----BEGIN PUBLIC KEY-----')) {
      add('auth.jwt.public_key', `${algorithm} requires a public key in PEM`);
    }
    if (issuer === '') add('auth.jwt.issuer', 'must not be empty');
    if (audience === '') add('auth.jwt.audience', 'must not be empty');
  }
  if (registry.kind === 'none' && config.resource.productAddr.startsWith('discovery:')) {
    add('resource.product_addr', 'discovery:/// requires a service registry: set registry.kind');
  }
  if (registry.kind === 'etcd' && registry.endpoints.length === 0) {
    add('registry.endpoints', 'etcd requires at least one');
  }
  const { outboxMs, inboxMs, orderEventsMs, deadLettersMs, guestCartsMs } = config.retention;
  const kept = {
    ...{ outbox: outboxMs, inbox: inboxMs, order_events: orderEventsMs, dead_letters: deadLettersMs },
    guest_carts: guestCartsMs,
  };
  for (const [kind, ms] of Object.entries(kept)) {
    if (ms > 0 && ms < MIN_RETENTION_MS) add(`retention.${kind}`, 'must be 0s or at least one day');
  }
  const { archiveAfterMs, afterSaleWindowMs } = config.order;
  if (archiveAfterMs > 0 && (archiveAfterMs < MIN_RETENTION_MS || archiveAfterMs <= afterSaleWindowMs)) {
    add('order.archive_after', 'must be 0s, or at least one day and longer than order.after_sale_window');
  }
  for (const [i, proxy] of config.server.trustedProxies.entries()) {
    const [address = '', bits] = proxy.split('/');
    const family = isIP(address);
    if (family === 0 || Number(bits ?? 0) > (family === 4 ? 32 : 128)) {
      add(`server.trusted_proxies[${i}]`, 'must be an address or a network such as 10.0.0.0/8');
    }
  }
  if (config.server.http.corsOrigins.includes('*') && config.server.http.corsOrigins.length > 1) {
    add('server.http.cors_origins', '"*" allows all origins and must be the only entry');
  }
  return violations;
}

/** Development must be asked for by name where another machine can call: there every caller can claim every identity. */
function checkEnvironment({ environment, http, grpc }: Config['server']): Violation[] {
  if (environment !== '') return [];
  // A text that is no address is a violation of its own.
  const reachable = Object.entries({ http, grpc }).filter(([, { addr }]) => /:\d+$/.test(addr) && !isLoopback(addr));
  if (reachable.length === 0) return [];
  const addresses = reachable.map(([name, { addr }]) => `server.${name}.addr ${addr}`).join(' and ');
  return [
    {
      path: 'server.environment',
      description:
        `is not set, and other machines can reach ${addresses}. Set KAIMAI_SERVER_ENVIRONMENT to production, which requires ` +
        'KAIMAI_AUTH_INTERNAL_TOKEN and, with auth.mode header, KAIMAI_AUTH_BFF_TOKEN; or to development if every caller ' +
        'may act as any user and as ADMIN',
    },
  ];
}

/** Hosts that the process could not use are refused before it starts. */
function checkDatabase({ source, replicaSource }: Config['data']['database']): Violation[] {
  const wrong = {
    source: wrongPlace(source, ['read-write', 'primary']),
    replica_source: wrongPlace(replicaSource, ['standby', 'read-only', 'any']),
  };
  return Object.entries(wrong).flatMap(([name, description]) =>
    description === undefined ? [] : [{ path: `data.database.${name}`, description }],
  );
}

function wrongPlace(url: string, targets: readonly SessionTarget[]): string | undefined {
  try {
    const { target } = parsePostgresUrl(url);
    if (target === undefined || targets.includes(target)) return undefined;
    return `must have ${targets.join(' or ')} as target_session_attrs`;
  } catch (err) {
    return (err as Error).message;
  }
}

/** Sentinels need a name to ask for, and a cluster's keys a hash tag of their own. */
function checkRedis({ sentinels, masterName, nodes, keyPrefix }: Config['data']['redis']): Violation[] {
  const violations: Violation[] = [];
  const add = (path: string, description: string) => violations.push({ path: `data.redis.${path}`, description });
  if (sentinels.length > 0 && nodes.length > 0) add('nodes', 'and sentinels exclude each other');
  if (sentinels.length > 0 && masterName === '') add('master_name', 'sentinels require it');
  if (nodes.length > 0 && keyPrefix.includes('{')) add('key_prefix', 'must have no { with nodes');
  return violations;
}

/** A token that authenticates several kinds of callers would give each the rights of all. */
function checkTokens({ internalToken, bffToken, adminToken }: Config['auth']): Violation[] {
  const differs = 'must differ from the other tokens';
  const violations: Violation[] = [];
  if (bffToken !== '' && bffToken === internalToken) violations.push({ path: 'auth.bff_token', description: differs });
  if (adminToken !== '' && [internalToken, bffToken].includes(adminToken)) {
    violations.push({ path: 'auth.admin_token', description: differs });
  }
  return violations;
}

/** Certificates are given by their files, complete. */
function checkTls({ server, client }: Config): Violation[] {
  const all = { 'server.http.tls': server.http.tls, 'server.grpc.tls': server.grpc.tls, 'client.tls': client.tls };
  return Object.entries(all).flatMap(([path, tls]) => {
    const { cert, key, clientCa, ca } = { clientCa: '', ca: '', ...tls };
    const violations: Violation[] = [];
    if ((cert === '') !== (key === '')) violations.push({ path, description: 'cert and key go together' });
    if (clientCa !== '' && cert === '') violations.push({ path, description: 'client_ca requires cert and key' });
    if (path === 'client.tls' && cert !== '' && ca === '') violations.push({ path, description: 'cert requires ca' });
    for (const [name, file] of Object.entries({ cert, key, client_ca: clientCa, ca })) {
      if (file === '' || (name === 'ca' && file === 'system')) continue;
      try {
        readFileSync(file);
      } catch {
        violations.push({ path: `${path}.${name}`, description: 'must be the path of a PEM file that can be read' });
      }
    }
    return violations;
  });
}

/** Whether only this machine can call an address. */
export function isLoopback(addr: string): boolean {
  const { host } = parseAddress(addr.replace(/^[a-z]+:\/\//, ''));
  if (host === 'localhost') return true;
  const family = isIP(host);
  return family !== 0 && LOOPBACK.check(host, family === 6 ? 'ipv6' : 'ipv4');
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8);
LOOPBACK.addAddress('::1', 'ipv6');

function isPair(algorithm: string, privateKey: string, publicKey: string): boolean {
  try {
    const key = createPrivateKey(privateKey);
    const type = algorithm === 'RS256' ? 'rsa' : 'ed25519';
    return key.asymmetricKeyType === type && createPublicKey(key).equals(createPublicKey(publicKey));
  } catch {
    return false;
  }
}
