import { Counter, Gauge, type Metric, type Registry } from 'prom-client';
import { Observer } from '../transport/chain.js';

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
  /** Calls that ended since the last scrape, by code and reason. */
  readonly ended: Map<string, { readonly labels: Record<'code' | 'reason' | 'transport', string>; count: number }>;
  /** By transport, since the start. */
  readonly took: Readonly<Record<'grpc' | 'http', Times>>;
}

/** Upper bounds in seconds, inclusive. */
const BUCKETS: readonly number[] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

class Times {
  count = 0;
  sum = 0;
  /** Not cumulative; durations above the last bound are only in `count`. */
  readonly counts = BUCKETS.map(() => 0);

  add(seconds: number): void {
    this.count++;
    this.sum += seconds;
    let i = 0;
    while (i < BUCKETS.length && seconds > (BUCKETS[i] as number)) i++;
    if (i < BUCKETS.length) this.counts[i] = (this.counts[i] as number) + 1;
  }
}

/**
 * Counts and times calls by operation, transport, code and reason. Labels come from protos and error reasons, never
 * from callers. The numbers are kept in plain objects and handed to the Prometheus client when it is scraped: the
 * client hashes all labels at each increment, which cost more than the rest of the chain.
 *
 * @param namespace prefix of the metric names
 */
export function metrics(registry: Registry, namespace: string): Observer {
  const tallies = new Map<string, Tally>();
  const labelNames = ['operation', 'transport', 'code', 'reason'] as const;
  new Counter({
    name: `${namespace}_server_handled_total`,
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
    name: `${namespace}_server_in_flight`,
    help: 'Calls in progress.',
    labelNames: ['operation'] as const,
    registers: [registry],
    collect() {
      for (const [operation, { inFlight }] of tallies) this.set({ operation }, inFlight);
    },
  });
  registry.registerMetric(handlingSeconds(`${namespace}_server_handling_seconds`, tallies));
  return new Observer((method) => {
    const operation = `/${method.parent.typeName}/${method.name}`;
    const tally: Tally = { inFlight: 0, ended: new Map(), took: { grpc: new Times(), http: new Times() } };
    tallies.set(operation, tally);
    return (call) => {
      const startedAt = performance.now();
      tally.inFlight++;
      return (err) => {
        tally.inFlight--;
        const { transport } = call;
        tally.took[transport].add((performance.now() - startedAt) / 1000);
        const reason = err?.reason ?? '';
        const key = `${transport} ${err?.grpcCode ?? 0} ${reason}`;
        const entry = tally.ended.get(key);
        if (entry) entry.count++;
        else {
          const code = CODES[err?.grpcCode ?? 0] ?? 'UNKNOWN';
          tally.ended.set(key, { labels: { transport, code, reason }, count: 1 });
        }
      };
    };
  });
}

/** A histogram in the form that the Prometheus client registers. */
function handlingSeconds(name: string, tallies: ReadonlyMap<string, Tally>): Metric {
  const metric = {
    name,
    help: 'Duration of a call from its arrival to its end.',
    type: 'histogram',
    aggregator: 'sum',
    async get() {
      const values: { metricName: string; labels: Record<string, string | number>; value: number }[] = [];
      for (const [operation, { took }] of tallies) {
        for (const [transport, times] of Object.entries(took)) {
          if (times.count === 0) continue;
          const labels = { operation, transport };
          const bucket = (le: string | number, value: number) =>
            values.push({ metricName: `${name}_bucket`, labels: { ...labels, le }, value });
          let below = 0;
          for (const [i, le] of BUCKETS.entries()) {
            below += times.counts[i] as number;
            bucket(le, below);
          }
          bucket('+Inf', times.count);
          values.push({ metricName: `${name}_sum`, labels, value: times.sum });
          values.push({ metricName: `${name}_count`, labels, value: times.count });
        }
      }
      return { name, help: metric.help, type: 'histogram', aggregator: 'sum', values };
    },
    reset() {},
  };
  return metric as unknown as Metric;
}
