import type { KratosError } from '../errors/error.js';
import type { Logger } from '../log/logger.js';
import type { Call } from '../transport/call.js';
import { Observer } from '../transport/chain.js';

/**
 * Writes one line for each call when it ends. Internal errors are logged as errors with their cause, unavailable
 * servers and exceeded deadlines as warnings, and everything else at debug, so that a flood of calls is not a flood of
 * lines.
 */
export function logging(logger: Logger): Observer {
  return new Observer(() => (call) => {
    const startedAt = performance.now();
    return (err) => write(logger, call, err, performance.now() - startedAt);
  });
}

function write(logger: Logger, call: Call, err: KratosError | undefined, tookMs: number): void {
  const level = levelOf(err);
  if (level === 'debug' && !logger.debugs) return;
  const fields = {
    operation: call.operation,
    transport: call.transport,
    peer: call.peer,
    role: call.identity.role,
    userId: call.identity.userId,
    requestId: call.metadata('x-request-id'),
    tookMs: Math.round(tookMs * 1000) / 1000,
    ...(err && { reason: err.reason, code: err.grpcCode, error: err.message }),
    ...(err && level !== 'debug' && err.cause !== undefined && { err: err.cause }),
  };
  logger[level](err ? 'call failed' : 'call served', fields);
}

function levelOf(err: KratosError | undefined): 'debug' | 'warn' | 'error' {
  switch (err?.grpcCode) {
    case 2: // UNKNOWN
    case 13: // INTERNAL
    case 15: // DATA_LOSS
      return 'error';
    case 4: // DEADLINE_EXCEEDED
    case 14: // UNAVAILABLE
      return 'warn';
    default:
      return 'debug';
  }
}
