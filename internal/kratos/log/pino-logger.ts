import { trace } from '@opentelemetry/api';
import { type DestinationStream, destination, type Logger as Pino, pino, stdTimeFunctions } from 'pino';
import { type LogFields, Logger } from './logger.js';

export interface LogOptions {
  readonly level: string;
  /** Human-readable lines instead of JSON. */
  readonly pretty: boolean;
}

const SECRET_NAMES = [
  'password',
  'passwordHash',
  'secret',
  'token',
  'internalToken',
  'authorization',
  'cookie',
  'x-internal-token',
  'x-bff-token',
  'x-admin-token',
  'x-cart-token',
  'bffToken',
  'adminToken',
  'set-cookie',
  'accessToken',
  'apiKey',
];

/** Shared by a logger and all of its children, so that a change of the level applies to all of them. */
interface Threshold {
  level: number;
}

const {
  debug: DEBUG,
  info: INFO,
  warn: WARN,
  error: ERROR,
} = pino.levels.values as Record<string, number> & {
  readonly debug: number;
  readonly info: number;
  readonly warn: number;
  readonly error: number;
};

/** JSON lines, written synchronously: a crash would lose buffered lines, which are the ones that explain it. */
export class PinoLogger extends Logger {
  private readonly pino: Pino;
  private readonly threshold: Threshold;

  private constructor(instance: Pino, threshold: Threshold) {
    super();
    this.pino = instance;
    this.threshold = threshold;
  }

  static create(options: LogOptions, fields: LogFields, to?: DestinationStream): PinoLogger {
    const out = to ?? (options.pretty ? prettyStream() : destination({ fd: 1, sync: true }));
    const instance = pino(
      {
        level: 'trace',
        base: fields,
        mixin: traceFields,
        timestamp: stdTimeFunctions.isoTime,
        formatters: { level: (label) => ({ level: label }) },
        redact: {
          paths: SECRET_NAMES.flatMap((n) => [`["${n}"]`, `*["${n}"]`, `*.*["${n}"]`]),
          censor: '[redacted]',
        },
        serializers: { err: errorFields },
      },
      out,
    );
    return new PinoLogger(instance, { level: levelOf(options.level) });
  }

  /** trace, debug, info, warn or error; lines below it are not written. */
  set level(level: string) {
    this.threshold.level = levelOf(level);
  }

  override get debugs(): boolean {
    return this.threshold.level <= DEBUG;
  }
  override debug(message: string, fields?: LogFields): void {
    if (this.threshold.level <= DEBUG) this.pino.debug(fields ?? {}, message);
  }
  override info(message: string, fields?: LogFields): void {
    if (this.threshold.level <= INFO) this.pino.info(fields ?? {}, message);
  }
  override warn(message: string, fields?: LogFields): void {
    if (this.threshold.level <= WARN) this.pino.warn(fields ?? {}, message);
  }
  override error(message: string, fields?: LogFields): void {
    if (this.threshold.level <= ERROR) this.pino.error(fields ?? {}, message);
  }
  override child(fields: LogFields): Logger {
    return new PinoLogger(this.pino.child(fields), this.threshold);
  }
}

/** Errors within errors that are written. */
const MAX_CAUSES = 5;

/**
 * What is written of an error. Other properties are left out, because libraries put what they were given into them:
 * ioredis the arguments of the command, which is the password for AUTH, and URL the whole URL.
 */
function errorFields(err: unknown, depth = 0): unknown {
  if (!(err instanceof Error)) return typeof err === 'object' && err !== null ? String(err) : err;
  const { code, reason, cause, errors } = err as Error & { code?: unknown; reason?: unknown; errors?: unknown };
  const nested = (other: unknown) => errorFields(other, depth + 1);
  return {
    type: err.name,
    message: err.message,
    ...((typeof code === 'string' || typeof code === 'number') && { code }),
    ...(typeof reason === 'string' && { reason }),
    stack: err.stack,
    ...(cause !== undefined && depth < MAX_CAUSES && { cause: nested(cause) }),
    ...(Array.isArray(errors) && depth < MAX_CAUSES && { errors: errors.slice(0, MAX_CAUSES).map(nested) }),
  };
}

function levelOf(name: string): number {
  return pino.levels.values[name] ?? INFO;
}

function traceFields(): object {
  const span = trace.getActiveSpan()?.spanContext();
  return span ? { traceId: span.traceId, spanId: span.spanId } : {};
}

/** The stack of an error and of its causes. */
function stackOf(err: unknown): string | undefined {
  const { stack, cause } = (err ?? {}) as { stack?: string; cause?: unknown };
  const below = cause === undefined ? undefined : stackOf(cause);
  return stack && below ? `${stack}\ncaused by: ${below}` : stack;
}

/** `12:00:00.000 INFO  message key=value …`, followed by the stack of an error. */
function prettyStream(): DestinationStream {
  const out = destination({ fd: 1, sync: true });
  return {
    write(line: string) {
      const { time, level, msg, err, pid: _pid, ...fields } = JSON.parse(line) as Record<string, unknown>;
      const at = String(time).slice(11, 23);
      const rest = Object.entries(fields).map(([k, v]) => ` ${k}=${typeof v === 'string' ? v : JSON.stringify(v)}`);
      const stack = stackOf(err);
      out.write(
        `${at} ${String(level).toUpperCase().padEnd(5)} ${String(msg)}${rest.join('')}${stack ? `\n${stack}` : ''}\n`,
      );
    },
  };
}
