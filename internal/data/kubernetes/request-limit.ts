import { setTimeout as sleep } from 'node:timers/promises';

export interface RequestLimitOptions {
  /** Sustained rate; 0: without limit. */
  readonly perSecond: number;
  /** Requests that may begin at once after a pause. */
  readonly burst: number;
}

/** Delays requests to the API server, which would otherwise throttle this client together with all others. */
export class RequestLimit {
  /** When the next request could begin if there were no burst, by performance.now(). */
  private nextMs = Number.NEGATIVE_INFINITY;

  constructor(private readonly options: RequestLimitOptions) {}

  /** Resolves when the request may begin, in the order of the calls. @throws the reason of `signal` */
  async wait(signal: AbortSignal): Promise<void> {
    const { perSecond, burst } = this.options;
    if (perSecond === 0) return;
    const intervalMs = 1_000 / perSecond;
    const nowMs = performance.now();
    this.nextMs = Math.max(this.nextMs, nowMs - burst * intervalMs) + intervalMs;
    const waitMs = this.nextMs - nowMs;
    if (waitMs > 0) await sleep(waitMs, undefined, { signal });
  }
}
