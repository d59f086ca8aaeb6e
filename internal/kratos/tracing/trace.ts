/**
 * Continues a trace across an outbox row, a stream entry or a job. The writer stores `capture()` with the row; the
 * process that handles it later does so inside `resume`. A place in a trace is a W3C traceparent: 55 characters that
 * are safe to store and to send.
 */
export abstract class Trace {
  /** The place of the current work; undefined if it belongs to no trace, or to one that is not sampled. */
  abstract capture(): string | undefined;
  /** Runs work as a span of the stored trace. Without a place it only runs it: it starts no new trace. */
  abstract resume<T>(name: string, place: string | undefined, work: () => Promise<T>): Promise<T>;
  /** Like `resume`, for work that makes its own span. */
  abstract within<T>(place: string | undefined, work: () => T): T;
}

/** For processes without tracing, and for tests. */
export class NoTrace extends Trace {
  override capture(): undefined {
    return undefined;
  }
  override resume<T>(_name: string, _place: string | undefined, work: () => Promise<T>): Promise<T> {
    return work();
  }
  override within<T>(_place: string | undefined, work: () => T): T {
    return work();
  }
}
