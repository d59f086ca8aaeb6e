const WINDOW_MS = 3_000;
const BUCKETS = 10;
/** Below this many calls in the window nothing can be said. */
const MIN_REQUESTS = 20;
/** Calls tried for each that succeeds: what is sent doubles with each window after the service is back. */
const K = 2;
/** Calls are never kept back beyond this share: what is tried is how a service that is back is noticed. */
const MAX_SHARE = 0.9;

interface Bucket {
  slice: number;
  requests: number;
  accepts: number;
}

/**
 * The client's side of overload, as the SRE book has it and Kratos too: of calls to a service that mostly fails, a
 * random share is not sent at all. The share grows with the failures and shrinks as they stop, without the closed,
 * open and half-open states whose steps all clients take at once.
 */
export class Breaker {
  private readonly buckets: Bucket[] = Array.from({ length: BUCKETS }, () => ({ slice: -1, requests: 0, accepts: 0 }));

  constructor(
    private readonly now: () => number = () => performance.now(),
    private readonly random: () => number = Math.random,
  ) {}

  /** Whether this call should be sent. A refusal counts as a failed request. */
  allow(): boolean {
    const { requests, accepts } = this.sum();
    if (requests >= MIN_REQUESTS && this.random() < Math.min(MAX_SHARE, (requests - K * accepts) / (requests + 1))) {
      this.current().requests++;
      return false;
    }
    return true;
  }

  /** What became of a call that was sent: whether the service was able to answer it, be it with an error. */
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
