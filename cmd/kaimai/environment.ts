import { parsePostgresUrl } from '../../internal/conf/postgres-url.js';
import { withPassword } from '../../internal/conf/url-password.js';
import type { Pooler } from '../../internal/data/postgres/session.js';
import type { RedisPlace } from '../../internal/data/redis/redis-connection.js';
import { formatViolation, type Violation } from '../../internal/kratos/config/config-error.js';
import { readVariable } from '../../internal/kratos/config/environment.js';

/**
 * @returns a variable of the environment, which includes .run/env while `kaimai up` runs (see adoptRunEnv), or the content of
 * the file that `<name>_FILE` names
 */
export function required(name: string): string {
  const value = given(name);
  if (value !== undefined) return value;
  throw new Error(`${name} is not set. Set it, or start Kaimai with \`kaimai up\``);
}

/** The pooler at the address of the database, as the processes are told of it. */
export function databasePooler(): Pooler {
  const pooler = process.env.KAIMAI_DATA_DATABASE_POOLER || 'none';
  if (pooler === 'none' || pooler === 'session' || pooler === 'transaction') return pooler;
  throw new Error('KAIMAI_DATA_DATABASE_POOLER must be none, session or transaction');
}

/** @returns like `required`; undefined if the variable is not set */
export function given(name: string): string | undefined {
  const violations: Violation[] = [];
  const value = readVariable(name, process.env, violations);
  if (violations.length > 0) throw new Error(violations.map(formatViolation).join('; '));
  return value;
}

/** @returns `KAIMAI_<SERVER>_URL` with the password in `KAIMAI_<SERVER>_PASSWORD`, if that is set */
export function serverUrl(server: 'POSTGRES' | 'REDIS' | 'RABBITMQ'): string {
  const url = withPassword(required(`KAIMAI_${server}_URL`), given(`KAIMAI_${server}_PASSWORD`) ?? '');
  return server === 'POSTGRES' ? checkedUrl(url, 'KAIMAI_POSTGRES_URL') : url;
}

/** Where Redis is, as the processes are told of it. */
export function redisPlace(): RedisPlace {
  const list = (name: string) =>
    given(name)
      ?.split(',')
      .map((item) => item.trim()) ?? [];
  const nodes = list('KAIMAI_DATA_REDIS_NODES');
  const sentinels = list('KAIMAI_DATA_REDIS_SENTINELS');
  return {
    addr: nodes.length + sentinels.length > 0 ? '' : serverUrl('REDIS'),
    nodes,
    sentinels,
    masterName: given('KAIMAI_DATA_REDIS_MASTER_NAME'),
    sentinelPassword: given('KAIMAI_DATA_REDIS_SENTINEL_PASSWORD'),
    password: given('KAIMAI_REDIS_PASSWORD'),
  };
}

/** @param option the value of --url, if there was one */
export function databaseUrl(option: string | undefined): string {
  return option === undefined ? serverUrl('POSTGRES') : checkedUrl(option, '--url');
}

/** @throws Error that names where the URL comes from, if its hosts make no sense */
function checkedUrl(url: string, name: string): string {
  try {
    parsePostgresUrl(url);
  } catch (err) {
    throw new Error(`${name} ${(err as Error).message}`);
  }
  return url;
}
