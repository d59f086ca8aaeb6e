import type { InstanceRepo } from './instance.js';

export interface InstanceResendPolicy {
  /** Age at which a request that has no result is sent again for the first time. */
  readonly afterMs: number;
}

/** A request is sent again at the ages T, 2T, 4T, … 2^10 T: with T = 2 minutes up to 34 hours. */
const DOUBLINGS = 10;
/** So that no request falls between two rounds, whose times are measured by another clock than its age. */
const OVERLAP_MS = 5_000;
/** Requests of one statement. */
const BATCH = 1_000;

/**
 * Sends instance requests again whose message was lost on the way: the queue was purged, deleted or rebuilt. Sending a
 * message twice has no further effect, since the resource domain knows a request by its source.
 *
 * A round looks only at the requests that have reached one of those ages since the last round, by a BRIN index on the
 * creation time. An index on the open requests was rejected: each order would pay 5–10 µs for it.
 */
export class InstanceResendUsecase {
  private lastRoundMs: number | undefined;

  constructor(
    private readonly instances: InstanceRepo,
    private readonly policy: InstanceResendPolicy,
    private readonly nowMs: () => number = () => performance.now(),
  ) {}

  /** @returns the number of requests that were sent again */
  async resendLost(): Promise<number> {
    const startedMs = this.nowMs();
    const { afterMs } = this.policy;
    const oldestMs = afterMs * 2 ** DOUBLINGS;
    let resent = 0;
    if (this.lastRoundMs === undefined) {
      // What happened before the start of this process is unknown, so all of them are candidates.
      resent += await this.resendBetween(afterMs, oldestMs);
    } else {
      const sinceMs = startedMs - this.lastRoundMs + OVERLAP_MS;
      for (let ageMs = afterMs; ageMs <= oldestMs; ageMs *= 2)
        resent += await this.resendBetween(ageMs, ageMs + sinceMs);
    }
    this.lastRoundMs = startedMs;
    return resent;
  }

  private async resendBetween(minAgeMs: number, maxAgeMs: number): Promise<number> {
    for (let resent = 0; ; ) {
      const n = await this.instances.resendLost(minAgeMs, maxAgeMs, BATCH);
      resent += n;
      if (n < BATCH) return resent;
    }
  }
}
