import type { DescMethod } from '@bufbuild/protobuf';
import type { ReasonSpec } from '../errors/error.js';
import { DEADLINE_EXCEEDED, INTERNAL, RATE_LIMITED, UNAVAILABLE } from '../errors/reasons.js';
import type { Count, Metrics } from '../metrics/metrics.js';
import type { Times } from '../metrics/times.js';
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

const TRANSPORTS = ['grpc', 'http'] as const;

/** What every operation may end with. */
const COMMON_REASONS: readonly ReasonSpec[] = [INTERNAL, UNAVAILABLE, DEADLINE_EXCEEDED, RATE_LIMITED];

/**
 * Counts and times calls by operation, transport, code and reason. Labels come from protos and error reasons, never
 * from callers.
 *
 * @param reasonsOf the reasons that an operation declares: they are exported as 0 before they occur
 */
export function metrics(
  target: Metrics,
  reasonsOf: (method: DescMethod) => readonly ReasonSpec[] = () => [],
): Observer {
  const inFlight = new Map<string, { calls: number }>();
  target.gauge('server_in_flight', 'Calls in progress, by operation.', 'sum', () =>
    Array.from(inFlight, ([operation, { calls }]) => [{ operation }, calls]),
  );
  const handling = target.histogram(
    'server_handling_seconds',
    'Duration of a call from its arrival to its end, by operation and transport.',
  );
  return new Observer((method) => {
    const operation = `/${method.parent.typeName}/${method.name}`;
    const current = { calls: 0 };
    inFlight.set(operation, current);
    const ended = new Map<string, Count>();
    const count = (transport: string, grpcCode: number, reason: string) => {
      const key = `${transport} ${grpcCode} ${reason}`;
      let found = ended.get(key);
      if (!found) {
        const labels = { operation, transport, code: CODES[grpcCode] ?? 'UNKNOWN', reason };
        found = target.count(
          'server_handled_total',
          'Calls that ended, by operation, transport, gRPC code and error reason.',
          labels,
        );
        ended.set(key, found);
      }
      return found;
    };
    // Most calls, without a key to be made and looked up.
    const succeeded = { grpc: count('grpc', 0, ''), http: count('http', 0, '') };
    for (const transport of TRANSPORTS) {
      for (const { grpcCode, reason } of [...COMMON_REASONS, ...reasonsOf(method)]) count(transport, grpcCode, reason);
    }
    const took: Partial<Record<(typeof TRANSPORTS)[number], Times>> = {};
    return (call) => {
      const startedAt = performance.now();
      current.calls++;
      return (err) => {
        current.calls--;
        const { transport } = call;
        took[transport] ??= handling({ operation, transport });
        took[transport].add((performance.now() - startedAt) / 1000);
        if (err) count(transport, err.grpcCode, err.reason).add();
        else succeeded[transport].add();
      };
    };
  });
}
