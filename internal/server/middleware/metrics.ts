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

interface Tally {
  inFlight: number;
  /** Calls that ended, by code and reason, since the last scrape. */
  readonly ended: Map<string, { readonly labels: Record<'code' | 'reason' | 'transport', string>; count: number }>;
}

/**
 * Counts and times calls by operation, transport, code and reason. Labels come from the protos and from our own
 * reasons, never from callers. Counts are kept in plain numbers and given to Prometheus when it asks: its client
 * hashes all labels anew with each increment, which cost more than the rest of the chain.
 */
export function metrics(registry: Registry): Middleware {
  const tallies = new Map<string, Tally>();
  const labelNames = ['operation', 'transport', 'code', 'reason'] as const;
  new Counter({
    name: 'kaimai_server_handled_total',
    help: 'Calls that ended, by operation, transport, gRPC code and error reason.',
    labelNames,
    registers: [registry],
    collect() {
      for (const [operation, { ended }] of tallies) {
        for (const entry of ended.values()) {
          this.inc({ operation, ...entry.labels }, entry.count);
          entry.count = 0;
        }
      }
    },
  });
  new Gauge({
    name: 'kaimai_server_in_flight',
    help: 'Calls that are being served.',
    labelNames: ['operation'] as const,
    registers: [registry],
    collect() {
      for (const [operation, { inFlight }] of tallies) this.set({ operation }, inFlight);
    },
  });
  const seconds = new Histogram({
    name: 'kaimai_server_handling_seconds',
    help: 'Time from the arrival of a call to its end.',
    labelNames: ['operation', 'transport'] as const,
    buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
    registers: [registry],
  });
  return (next, method) => {
    const operation = `/${method.parent.typeName}/${method.name}`;
    const tally: Tally = { inFlight: 0, ended: new Map() };
    tallies.set(operation, tally);
    return (call) => {
      const startedAt = performance.now();
      tally.inFlight++;
      return watchEnd(next, call, (err) => {
        tally.inFlight--;
        const { transport } = call;
        seconds.observe({ operation, transport }, (performance.now() - startedAt) / 1000);
        const reason = err?.reason ?? '';
        const key = `${transport} ${err?.grpcCode ?? 0} ${reason}`;
        const entry = tally.ended.get(key);
        if (entry) entry.count++;
        else {
          const code = CODES[err?.grpcCode ?? 0] ?? 'UNKNOWN';
          tally.ended.set(key, { labels: { transport, code, reason }, count: 1 });
        }
      });
    };
  };
}
