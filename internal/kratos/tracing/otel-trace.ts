import { type Context, context, propagation, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import { errorText } from '../errors/error-text.js';
import { Trace } from './trace.js';

/** `Trace` with OpenTelemetry. If no SDK was started, it does nothing, at almost no cost. */
export class OtelTrace extends Trace {
  override capture(): string | undefined {
    if (!trace.getActiveSpan()?.isRecording()) return undefined;
    const headers: { traceparent?: string } = {};
    propagation.inject(context.active(), headers);
    return headers.traceparent;
  }

  override async resume<T>(name: string, place: string | undefined, work: () => Promise<T>): Promise<T> {
    if (place === undefined) return work();
    const parent = contextOf(place);
    const span = trace.getTracer('kratos').startSpan(name, { kind: SpanKind.CONSUMER }, parent);
    try {
      return await context.with(trace.setSpan(parent, span), work);
    } catch (err) {
      span.setStatus({ code: SpanStatusCode.ERROR, message: errorText(err) });
      throw err;
    } finally {
      span.end();
    }
  }

  override within<T>(place: string | undefined, work: () => T): T {
    return place === undefined ? work() : context.with(contextOf(place), work);
  }
}

function contextOf(traceparent: string): Context {
  return propagation.extract(context.active(), { traceparent });
}
