import { context, propagation, SpanKind, SpanStatusCode, type TextMapGetter, trace } from '@opentelemetry/api';
import type { Call } from '../transport/call.js';
import type { Middleware } from '../transport/chain.js';
import { watchEnd } from '../transport/watch-end.js';

const FIELDS: TextMapGetter<Call> = {
  keys: () => ['traceparent', 'tracestate', 'baggage'],
  get: (call, key) => {
    const value = call.metadata(key);
    return typeof value === 'string' ? value : undefined;
  },
};

/** Health checks arrive every second; their traces would bury the others. */
const UNTRACED = /^grpc\./;

/** Makes a server span for each call, as a child of the caller's span and the parent of what the handler does. */
export function tracing(): Middleware {
  const tracer = trace.getTracer('kratos');
  return (next, method) => {
    if (UNTRACED.test(method.parent.typeName)) return next;
    const service = method.parent.typeName;
    const name = `${service}/${method.name}`;
    const attributes = { 'rpc.system': 'grpc', 'rpc.service': service, 'rpc.method': method.name };
    return async (call) => {
      const parent = propagation.extract(context.active(), call, FIELDS);
      const span = tracer.startSpan(name, { kind: SpanKind.SERVER, attributes }, parent);
      const within = trace.setSpan(parent, span);
      span.setAttribute('network.protocol.name', call.transport);
      if (span.isRecording()) {
        const headers: { traceparent?: string } = {};
        propagation.inject(within, headers);
        call.traceparent = headers.traceparent;
      }
      const reply = await context.with(within, () =>
        watchEnd(next, call, (err) => {
          span.setAttribute('rpc.grpc.status_code', err?.grpcCode ?? 0);
          if (err) {
            span.setAttribute('error.type', err.reason);
            span.setStatus({ code: SpanStatusCode.ERROR, message: err.message });
          }
          span.end();
        }),
      );
      if (reply.kind === 'unary') return reply;
      // The handler of a stream runs when its reader pulls, in the reader's context.
      const source = reply.messages[Symbol.asyncIterator]();
      const messages: AsyncIterableIterator<Uint8Array> = {
        [Symbol.asyncIterator]: () => messages,
        next: () => context.with(within, () => source.next()),
        return: async () => (await source.return?.()) ?? { done: true, value: undefined },
      };
      return { kind: 'stream', messages };
    };
  };
}
