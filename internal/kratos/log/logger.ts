/** Fields of a log line; `err` is the error. Values with the usual names of secrets are redacted; do not rely on it. */
export type LogFields = Readonly<Record<string, unknown>>;

/** A structured log. */
export abstract class Logger {
  /** Whether debug lines are written; if not, their fields need not be computed. */
  abstract get debugs(): boolean;
  abstract debug(message: string, fields?: LogFields): void;
  abstract info(message: string, fields?: LogFields): void;
  abstract warn(message: string, fields?: LogFields): void;
  abstract error(message: string, fields?: LogFields): void;
  /** A logger that adds these fields to all of its lines. */
  abstract child(fields: LogFields): Logger;
}

/** Discards everything. For tests. */
export class SilentLogger extends Logger {
  override get debugs(): boolean {
    return false;
  }
  override debug(): void {}
  override info(): void {}
  override warn(): void {}
  override error(): void {}
  override child(): Logger {
    return this;
  }
}
