export interface LimiterOptions {
  readonly enabled: boolean;
  /** CPU use in percent of one core above which the calls in flight are looked at. */
  readonly cpuPercent: number;
  /** What the limiter remembers of throughput and latency. */
  readonly windowMs: number;
  /** Calls in flight that are always let in. */
  readonly minInFlight: number;
}

interface Bucket {
  /** Number of the slice of time that it holds; others are stale. */
  slice: number;
  passed: number;
  tookMs: number;
}

const BUCKETS = 50;
/** After a refusal the calls in flight are looked at for this long, whatever the CPU says: it falls by the refusals. */
const COOL_OFF_MS = 1_000;

/**
 * Kratos' BBR limiter: when the CPU is busy, it lets in as many calls at a time as the process has been able to work
 * on, which is its best throughput times its best latency (Little's law), both of the last window. What is above that
 * would only wait, so it is refused while it costs little. `minInFlight` keeps the estimate from starving a process
 * whose window holds nothing yet.
 */
export class AdaptiveLimiter {
  private readonly buckets: Bucket[] = Array.from({ length: BUCKETS }, () => ({ slice: -1, passed: 0, tookMs: 0 }));
  private limits: LimiterOptions;
  private inFlightCount = 0;
  private refusedAtMs = Number.NEGATIVE_INFINITY;
  private estimated: { slice: number; value: number } = { slice: -1, value: 0 };

  /**
   * @param cpu CPU use of the process, in percent of one core
   * @param now a clock in ms that does not step
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

  /** Calls in flight that the process can work on at a time. */
  get maxInFlight(): number {
    const slice = this.slice();
    if (this.estimated.slice !== slice) this.estimated = { slice, value: this.estimate(slice) };
    return Math.max(this.limits.minInFlight, this.estimated.value);
  }

  /** Lets a call in, to be ended by the result; undefined refuses it. */
  enter(): (() => void) | undefined {
    const startedAt = this.now();
    const tight = this.cpu() >= this.limits.cpuPercent || startedAt - this.refusedAtMs < COOL_OFF_MS;
    if (this.limits.enabled && tight && this.inFlightCount >= this.maxInFlight) {
      // A refusal while cooling off must not prolong it: it would never end under steady load.
      if (this.cpu() >= this.limits.cpuPercent) this.refusedAtMs = startedAt;
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

  /** The current slice is left out: it is not over. */
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
