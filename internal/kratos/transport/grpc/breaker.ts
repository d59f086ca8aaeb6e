const WINDOW_MS = 3_000;
const BUCKETS = 10;
/** Fewer calls in the window are not significant. */
const MIN_REQUESTS = 20;
/** Calls attempted for each that succeeds: the traffic doubles with each window once the service has recovered. */
const K = 2;
/** Largest share of calls that is rejected; the others detect that the service has recovered. */
const MAX_SHARE = 0.9;

interface Bucket {
  slice: number;
  requests: number;
  accepts: number;
}

/**
 * Client-side throttling as in the SRE book and in Kratos: a random share of the calls to a service that mostly fails
 * is not sent. The share grows with the failures and shrinks as they stop. A circuit breaker with closed, open and
 * half-open states would make all clients switch at the same time.
 */
export class Breaker {
  private readonly buckets: Bucket[] = Array.from({ length: BUCKETS }, () => ({ slice: -1, requests: 0, accepts: 0 }));

  private rejectedCount = 0;

  constructor(
    private readonly now: () => number = () => performance.now(),
    private readonly random: () => number = Math.random,
  ) {}

  /** Whether to send this call. A rejection counts as a failed request. */
  allow(): boolean {
    const share = this.rejectedShare;
    if (share <= 0 || this.random() >= share) return true;
    this.current().requests++;
    this.rejectedCount++;
    return false;
  }

  /** The share of calls that is not sent at present, from 0 to 0.9. */
  get rejectedShare(): number {
    const { requests, accepts } = this.sum();
    if (requests < MIN_REQUESTS) return 0;
    return Math.max(0, Math.min(MAX_SHARE, (requests - K * accepts) / (requests + 1)));
  }

  /** Calls that were not sent since the start. */
  get rejected(): number {
    return this.rejectedCount;
  }

  /** Records a call that was sent. @param answered whether the service could answer it, even with an error */
  record(answered: boolean): void {
    const bucket = this.current();
    bucket.requests++;
    if (answered) bucket.accepts++;
  }

  private current(): Bucket {
    const slice = Math.floor((this.now() * BUCKETS) / WINDOW_MS);
    const bucket = this.buckets[slice % BUCKETS] as Bucket;
    if (bucket.slice !== slice) Object.assign(bucket, { slice, requests: 0, accepts: 0 });
    return bucket;
  }

  private sum(): { readonly requests: number; readonly accepts: number } {
    const slice = Math.floor((this.now() * BUCKETS) / WINDOW_MS);
    let requests = 0;
    let accepts = 0;
    for (const b of this.buckets) {
      if (b.slice <= slice - BUCKETS) continue;
      requests += b.requests;
      accepts += b.accepts;
    }
    return { requests, accepts };
  }
}
