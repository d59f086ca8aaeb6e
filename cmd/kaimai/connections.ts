import { Postgres } from '../../internal/data/postgres/postgres.js';
import { RedisServer } from '../../internal/data/redis/redis.js';
import { DemoClient } from './demo/client.js';
import { databasePooler, given, redisPlace, required, serverUrl } from './environment.js';

/** The JSON API of the product process, with the secrets and the certificates that the environment names. */
export function openApi(): DemoClient {
  const secrets = {
    adminToken: given('KAIMAI_AUTH_ADMIN_TOKEN'),
    bffToken: given('KAIMAI_AUTH_BFF_TOKEN'),
    paymentSecret: given('KAIMAI_PAYMENT_SECRET'),
  };
  const { KAIMAI_CLIENT_TLS_CA: ca, KAIMAI_CLIENT_TLS_CERT: cert, KAIMAI_CLIENT_TLS_KEY: key } = process.env;
  return new DemoClient(required('KAIMAI_PRODUCT_HTTP'), secrets, { ca, cert, key });
}

const CONNECT_TIMEOUT_MS = 10_000;
const REPLY_TIMEOUT_MS = 30_000;

/** @param role the role to take after connecting, which limits what the command can write */
export function openPostgres(command: string, role: 'kaimai_product' | 'kaimai_resource'): Postgres {
  return new Postgres({
    source: serverUrl('POSTGRES'),
    pooler: databasePooler(),
    poolSize: 2,
    role,
    statementTimeoutMs: REPLY_TIMEOUT_MS,
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    applicationName: `kaimai-${command}`,
  });
}

export async function openRedis(keyPrefix: string): Promise<RedisServer> {
  const redis = new RedisServer({
    ...redisPlace(),
    readTimeoutMs: REPLY_TIMEOUT_MS,
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    keyPrefix,
  });
  await redis.ready(CONNECT_TIMEOUT_MS);
  return redis;
}
