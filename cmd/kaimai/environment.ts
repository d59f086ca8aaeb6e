import type { Pooler } from '../../internal/data/postgres/session.js';
import { formatViolation, type Violation } from '../../internal/kratos/config/config-error.js';
import { readVariable } from '../../internal/kratos/config/environment.js';

/**
 * @returns a variable of the environment, which includes .run/env while `kaimai up` runs (see adoptRunEnv), or the content of
 * the file that `<name>_FILE` names
 */
export function required(name: string): string {
  const violations: Violation[] = [];
  const value = readVariable(name, process.env, violations);
  if (violations.length > 0) throw new Error(violations.map(formatViolation).join('; '));
  if (value !== undefined) return value;
  throw new Error(`${name} is not set. Set it, or start Kaimai with \`kaimai up\``);
}

/** The pooler at the address of the database, as the processes are told of it. */
export function databasePooler(): Pooler {
  const pooler = process.env.KAIMAI_DATA_DATABASE_POOLER || 'none';
  if (pooler === 'none' || pooler === 'session' || pooler === 'transaction') return pooler;
  throw new Error('KAIMAI_DATA_DATABASE_POOLER must be none, session or transaction');
}

/** @param given the value of --url, if there was one */
export function databaseUrl(given: string | undefined): string {
  return given ?? required('KAIMAI_POSTGRES_URL');
}
