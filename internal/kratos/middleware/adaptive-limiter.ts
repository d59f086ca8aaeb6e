import type { Metrics } from '../metrics/metrics.js';

export interface LimiterOptions {
  readonly enabled: boolean;
  /** CPU usage, in percent of one core, above which the number of calls in flight is limited. */
  readonly cpuPercent: number;
  /** Window over which throughput and latency are measured. */
  readonly windowMs: number;
  /** Calls in flight that are always admitted. */
  readonly minInFlight: number;
}

interface Bucket {
  /** Number of the time slice of these counts; a bucket of another slice is stale. */
  slice: number;
  passed: number;
  tookMs: number;
}

const BUCKETS = 50;
/** The limit stays in force this long after a refusal, whatever the CPU usage is, because refusals lower it. */
const COOL_OFF_MS = 1_000;

/**
 * Kratos' BBR limiter. While the CPU is busy, it admits as many concurrent calls as the process could handle in the
 * last window: its best throughput times its best latency (Little's law). Further calls would only wait, so they are
 * refused while that is cheap. `minInFlight` keeps an empty window from starving a process.
 */
export class AdaptiveLimiter {
  private readonly buckets: Bucket[] = Array.from({ length: BUCKETS }, () => ({ slice: -1, passed: 0, tookMs: 0 }));
  private limits: LimiterOptions;
  private inFlightCount = 0;
  private refusedCount = 0;
  private refusedAtMs = Number.NEGATIVE_INFINITY;
  private estimated: { slice: number; value: number } = { slice: -1, value: 0 };

  /**
   * @param cpu CPU usage of the process, in percent of one core
   * @param now a monotonic clock, in ms
   */
  constructor(
    options: LimiterOptions,
    private readonly cpu: () => number,
    private readonly now: () => number = () => performance.now(),
  ) {
    this.limits = options;
  }

  set options(options: LimiterOptions) {
    if (options.windowMs !== this.limits.windowMs) for (const b of this.buckets) b.slice = -1;
    this.limits = options;
  }

  get inFlight(): number {
    return this.inFlightCount;
  }

  /** Calls that were refused since the start. */
  get refused(): number {
    return this.refusedCount;
  }

  /** Calls that the process can handle concurrently. */
  get maxInFlight(): number {
    const slice = this.slice();
    if (this.estimated.slice !== slice) this.estimated = { slice, value: this.estimate(slice) };
    return Math.max(this.limits.minInFlight, this.estimated.value);
  }

  /** Admits a call. @returns a function to be called when the call ends; undefined if the call is refused */
  enter(): (() => void) | undefined {
    const startedAt = this.now();
    const tight = this.cpu() >= this.limits.cpuPercent || startedAt - this.refusedAtMs < COOL_OFF_MS;
    if (this.limits.enabled && tight && this.inFlightCount >= this.maxInFlight) {
      // A refusal during the cool-off must not prolong it, or it would never end under steady load.
      if (this.cpu() >= this.limits.cpuPercent) this.refusedAtMs = startedAt;
      this.refusedCount++;
      return undefined;
    }
    this.inFlightCount++;
    return () => {
      this.inFlightCount--;
      const slice = this.slice();
      const bucket = this.buckets[slice % BUCKETS] as Bucket;
      if (bucket.slice !== slice) Object.assign(bucket, { slice, passed: 0, tookMs: 0 });
      bucket.passed++;
      bucket.tookMs += this.now() - startedAt;
    };
  }

  private slice(): number {
    return Math.floor((this.now() * BUCKETS) / this.limits.windowMs);
  }

  /** Without the current slice, which has not ended. */
  private estimate(slice: number): number {
    let maxPassed = 0;
    let minTookMs = Number.POSITIVE_INFINITY;
    for (const b of this.buckets) {
      if (b.passed === 0 || b.slice >= slice || b.slice <= slice - BUCKETS) continue;
      maxPassed = Math.max(maxPassed, b.passed);
      minTookMs = Math.min(minTookMs, b.tookMs / b.passed);
    }
    if (maxPassed === 0) return 0;
    const perMs = maxPassed / (this.limits.windowMs / BUCKETS);
    return Math.ceil(perMs * Math.max(minTookMs, 1));
  }
}

export function limiterMetrics(metrics: Metrics, limiter: AdaptiveLimiter): void {
  metrics.counter(
    'limiter_refused_total',
    'Calls that were refused because the process was overloaded.',
    () => limiter.refused,
  );
  metrics.gauge(
    'limiter_in_flight',
    'Calls in progress, as the overload limiter counts them.',
    'sum',
    () => limiter.inFlight,
  );
  metrics.gauge(
    'limiter_max_in_flight',
    'Calls in progress that are admitted while the CPU is busy.',
    'sum',
    () => limiter.maxInFlight,
  );
}
