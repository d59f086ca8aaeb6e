/**
 * Carries a trace over what breaks a call chain: an outbox row, a stream entry, a job. Who writes the row stores
 * `capture()` with it; who works on it later does so inside `resume`. A place in a trace is a W3C traceparent: 55
 * characters that are safe to store and to send.
 */
export abstract class Trace {
  /** The place of the work under way; undefined where it belongs to no trace, or to one that is not kept. */
  abstract capture(): string | undefined;
  /** Does work as a span of the stored trace. Without a place it runs as it is: it starts no trace of its own. */
  abstract resume<T>(name: string, place: string | undefined, work: () => Promise<T>): Promise<T>;
  /** As `resume`, for work that makes a span by itself. */
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
