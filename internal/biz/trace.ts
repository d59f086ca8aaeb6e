/** Where a piece of work stands in its trace, as W3C headers (`traceparent`, `tracestate`): small, and safe to store. */
export type TraceHeaders = Readonly<Record<string, string>>;

/**
 * Carries a trace over what breaks a call chain: an outbox row, a stream entry. Who writes the row stores `capture()`
 * with it; who works on it later does so inside `resume`.
 */
export abstract class Trace {
  /** The trace that the work under way belongs to; undefined where there is none or it is not kept. */
  abstract capture(): TraceHeaders | undefined;
  /** Does work as a span of the stored trace. Without headers it runs as it is: it starts no trace of its own. */
  abstract resume<T>(name: string, headers: TraceHeaders | undefined, work: () => Promise<T>): Promise<T>;
}

/** For processes without tracing, and for tests. */
export class NoTrace extends Trace {
  override capture(): undefined {
    return undefined;
  }
  override resume<T>(_name: string, _headers: TraceHeaders | undefined, work: () => Promise<T>): Promise<T> {
    return work();
  }
}
