import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { Middleware } from '../call.js';
import { watchEnd } from '../watch-end.js';

/** `google.rpc.Code` by number. */
const CODES: readonly string[] = [
  'OK',
  'CANCELLED',
  'UNKNOWN',
  'INVALID_ARGUMENT',
  'DEADLINE_EXCEEDED',
  'NOT_FOUND',
  'ALREADY_EXISTS',
  'PERMISSION_DENIED',
  'RESOURCE_EXHAUSTED',
  'FAILED_PRECONDITION',
  'ABORTED',
  'OUT_OF_RANGE',
  'UNIMPLEMENTED',
  'INTERNAL',
  'UNAVAILABLE',
  'DATA_LOSS',
  'UNAUTHENTICATED',
];

/** Counts and times calls by operation, transport, code and reason. Labels come from the protos, never from callers. */
export function metrics(registry: Registry): Middleware {
  const handled = new Counter({
    name: 'kaimai_server_handled_total',
    help: 'Calls that ended, by operation, transport, gRPC code and error reason.',
    labelNames: ['operation', 'transport', 'code', 'reason'] as const,
    registers: [registry],
  });
  const seconds = new Histogram({
    name: 'kaimai_server_handling_seconds',
    help: 'Time from the arrival of a call to its end.',
    labelNames: ['operation', 'transport'] as const,
    buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
    registers: [registry],
  });
  const inFlight = new Gauge({
    name: 'kaimai_server_in_flight',
    help: 'Calls that are being served.',
    labelNames: ['operation'] as const,
    registers: [registry],
  });
  return (next, method) => {
    const operation = `/${method.parent.typeName}/${method.name}`;
    const current = inFlight.labels(operation);
    return (call) => {
      const startedAt = performance.now();
      current.inc();
      return watchEnd(next, call, (err) => {
        current.dec();
        const { transport } = call;
        seconds.observe({ operation, transport }, (performance.now() - startedAt) / 1000);
        const code = CODES[err?.grpcCode ?? 0] ?? 'UNKNOWN';
        handled.inc({ operation, transport, code, reason: err?.reason ?? '' });
      });
    };
  };
}
