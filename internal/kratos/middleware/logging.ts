import type { KratosError } from '../errors/error.js';
import { LineLimit } from '../log/line-limit.js';
import type { Logger } from '../log/logger.js';
import type { Call } from '../transport/call.js';
import { Observer } from '../transport/chain.js';

/** Lines of one operation and reason in a window. */
const LINES = 5;
const WINDOW_MS = 1_000;

/**
 * Writes one line for each call when it ends. Internal errors are logged as errors with their cause, unavailable
 * servers and exceeded deadlines as warnings, and everything else at debug, so that a flood of calls is not a flood of
 * lines. Calls that fail for one cause, such as those of a batch, share one line, and each operation and reason has
 * five lines a second; one more line says how many calls were left out.
 */
export function logging(logger: Logger, windowMs: number = WINDOW_MS): Observer {
  const limit = new LineLimit({
    lines: LINES,
    windowMs,
    report: (kind, calls) => {
      const [operation, reason] = kind.split(' ');
      logger.warn('more calls failed', { operation, reason, calls, windowMs });
    },
  });
  const written = new WeakSet<object>();
  const admits = (call: Call, err: KratosError): boolean => {
    const kind = `${call.operation} ${err.reason}`;
    const cause = typeof err.cause === 'object' && err.cause !== null ? err.cause : err;
    if (written.has(cause)) {
      limit.omit(kind);
      return false;
    }
    if (!limit.admits(kind)) return false;
    written.add(cause);
    return true;
  };
  return new Observer(() => (call) => {
    const startedAt = performance.now();
    return (err) => {
      const level = levelOf(err);
      if (level === 'debug' ? !logger.debugs : err && !admits(call, err)) return;
      write(logger, level, call, err, performance.now() - startedAt);
    };
  });
}

type Level = 'debug' | 'warn' | 'error';

function write(logger: Logger, level: Level, call: Call, err: KratosError | undefined, tookMs: number): void {
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

function levelOf(err: KratosError | undefined): Level {
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
