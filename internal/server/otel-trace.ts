import { context, propagation, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import { Trace, type TraceHeaders } from '../biz/trace.js';

/** `Trace` by OpenTelemetry. Where no SDK was started it does nothing, at next to no cost. */
export class OtelTrace extends Trace {
  override capture(): TraceHeaders | undefined {
    if (!trace.getActiveSpan()?.isRecording()) return undefined;
    const headers: Record<string, string> = {};
    propagation.inject(context.active(), headers);
    return headers;
  }

  override async resume<T>(name: string, headers: TraceHeaders | undefined, work: () => Promise<T>): Promise<T> {
    if (!headers) return work();
    const parent = propagation.extract(context.active(), headers);
    const span = trace.getTracer('kaimai').startSpan(name, { kind: SpanKind.CONSUMER }, parent);
    try {
      return await context.with(trace.setSpan(parent, span), work);
    } catch (err) {
      span.setStatus({ code: SpanStatusCode.ERROR, message: err instanceof Error ? err.message : String(err) });
      throw err;
    } finally {
      span.end();
    }
  }
}
