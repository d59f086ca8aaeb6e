import { unavailable } from '../../../gen/common/v1/errors.js';
import { KratosError } from '../../kratos/errors/error.js';

/** The server is read-only. */
export const READ_ONLY_SQL_TRANSACTION = '25006';

function codeOf(err: unknown): string {
  return typeof err === 'object' && err !== null && 'code' in err && typeof err.code === 'string' ? err.code : '';
}

/** Deadlock or serialization failure. Nothing was changed, and the transaction should be repeated. */
export function isConflict(err: unknown): boolean {
  const code = codeOf(err);
  return code === '40001' || code === '40P01';
}

const NETWORK_CODES = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'ENOTFOUND',
  'EHOSTUNREACH',
  'EAI_AGAIN',
]);

/** The server ends a connection or refuses one: shutdown, too many connections, idle for too long. */
const CLOSING_CODES = new Set(['57P01', '57P02', '57P03', '57P05', '25P03', '53300']);

/** The server was demoted while the connection stood. */
export function isReadOnly(err: unknown): boolean {
  return codeOf(err) === READ_ONLY_SQL_TRANSACTION;
}

export function isSilent(err: unknown): boolean {
  return err instanceof Error && err.message === 'Query read timeout';
}

/** Every connection of the pool stayed in use. */
export function isWaitOver(err: unknown): boolean {
  return err instanceof Error && err.message === 'timeout exceeded when trying to connect';
}

/** The server is away, going away, read-only or full; class 08 and the others as PostgreSQL's appendix A has them. */
export function isConnectionError(err: unknown): boolean {
  const code = codeOf(err);
  if (NETWORK_CODES.has(code) || code.startsWith('08') || CLOSING_CODES.has(code) || isReadOnly(err)) return true;
  // These errors of pg have no code.
  return (
    err instanceof Error &&
    /Connection terminated|timeout expired|timeout exceeded when trying to connect|Query read timeout|Client has encountered a connection error|not queryable/.test(
      err.message,
    )
  );
}

/** A statement or lock timeout, or class 53: out of memory, disk or connections. */
function isOverload(err: unknown): boolean {
  const code = codeOf(err);
  return code === '57014' || code === '55P03' || code.startsWith('53');
}

export function asUnavailable(err: unknown): unknown {
  if (err instanceof KratosError) return err;
  if (isConnectionError(err) || isConflict(err) || isOverload(err))
    return unavailable('the database does not answer', { cause: err });
  return err;
}
