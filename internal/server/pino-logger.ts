import { trace } from '@opentelemetry/api';
import { type DestinationStream, destination, type Logger as Pino, pino, stdTimeFunctions } from 'pino';
import { type LogFields, Logger } from '../biz/logger.js';

export interface LogOptions {
  readonly level: string;
  /** Lines for people in place of JSON. */
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
  'bffToken',
  'set-cookie',
  'accessToken',
  'apiKey',
];

/** JSON lines, written at once: a line that waits in a buffer is lost by the crash that it tells of. */
export class PinoLogger extends Logger {
  readonly #pino: Pino;

  constructor(instance: Pino) {
    super();
    this.#pino = instance;
  }

  static create(options: LogOptions, fields: LogFields, to?: DestinationStream): PinoLogger {
    const out = to ?? (options.pretty ? prettyStream() : destination({ fd: 1, sync: true }));
    return new PinoLogger(
      pino(
        {
          level: options.level,
          base: fields,
          mixin: traceFields,
          timestamp: stdTimeFunctions.isoTime,
          formatters: { level: (label) => ({ level: label }) },
          redact: {
            paths: SECRET_NAMES.flatMap((n) => [`["${n}"]`, `*["${n}"]`, `*.*["${n}"]`]),
            censor: '[redacted]',
          },
          serializers: { err: (err: unknown) => (err instanceof Error ? pino.stdSerializers.errWithCause(err) : err) },
        },
        out,
      ),
    );
  }

  /** Applies to this logger and to children made later. */
  set level(level: string) {
    this.#pino.level = level;
  }

  override debug(message: string, fields?: LogFields): void {
    this.#pino.debug(fields ?? {}, message);
  }
  override info(message: string, fields?: LogFields): void {
    this.#pino.info(fields ?? {}, message);
  }
  override warn(message: string, fields?: LogFields): void {
    this.#pino.warn(fields ?? {}, message);
  }
  override error(message: string, fields?: LogFields): void {
    this.#pino.error(fields ?? {}, message);
  }
  override child(fields: LogFields): Logger {
    return new PinoLogger(this.#pino.child(fields));
  }
}

function traceFields(): object {
  const span = trace.getActiveSpan()?.spanContext();
  return span ? { traceId: span.traceId, spanId: span.spanId } : {};
}

/** `12:00:00.000 INFO  message key=value …`, with the stack of an error below. */
function prettyStream(): DestinationStream {
  const out = destination({ fd: 1, sync: true });
  return {
    write(line: string) {
      const { time, level, msg, err, pid: _pid, ...fields } = JSON.parse(line) as Record<string, unknown>;
      const at = String(time).slice(11, 23);
      const rest = Object.entries(fields).map(([k, v]) => ` ${k}=${typeof v === 'string' ? v : JSON.stringify(v)}`);
      const stack = (err as { stack?: string } | undefined)?.stack;
      out.write(
        `${at} ${String(level).toUpperCase().padEnd(5)} ${String(msg)}${rest.join('')}${stack ? `\n${stack}` : ''}\n`,
      );
    },
  };
}
