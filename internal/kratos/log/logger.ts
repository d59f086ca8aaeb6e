/** Facts beside a message; `err` is the error behind it. Secrets by their usual names are blanked, never rely on it. */
export type LogFields = Readonly<Record<string, unknown>>;

/** Where a line goes that says what happened, and to what. */
export abstract class Logger {
  /** Whether debug lines go anywhere: where they do not, their facts need not be gathered. */
  abstract get debugs(): boolean;
  abstract debug(message: string, fields?: LogFields): void;
  abstract info(message: string, fields?: LogFields): void;
  abstract warn(message: string, fields?: LogFields): void;
  abstract error(message: string, fields?: LogFields): void;
  /** A logger whose lines all carry these fields. */
  abstract child(fields: LogFields): Logger;
}

/** Says nothing. For tests. */
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
