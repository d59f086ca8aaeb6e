export interface BucketRate {
  /** Sustained calls per second; 0 for no limit. */
  readonly perSecond: number;
  /** Calls that may come at once after a pause. */
  readonly burst: number;
}

/** Slots that are examined for one to reuse. Unless all are busy, a full bucket is found immediately. */
const LOOKS = 16;

/**
 * One token bucket for each key, in a fixed number of slots. A bucket is one number, the time at which it is full again
 * (GCRA), in an array of doubles: a call with a known key allocates nothing, and no timer runs. If all slots are taken,
 * a new key reuses the slot of a full bucket, which loses nothing, or else the fullest of those examined.
 */
export class TokenBuckets {
  rate: BucketRate;
  private readonly slots = new Map<string, number>();
  private readonly keys: string[] = [];
  private readonly fullAtMs: Float64Array;
  private hand = 0;
  private refusedCount = 0;

  /** @param now a monotonic clock, in ms */
  constructor(
    rate: BucketRate,
    private readonly capacity: number,
    private readonly now: () => number = () => performance.now(),
  ) {
    this.rate = rate;
    this.fullAtMs = new Float64Array(capacity);
  }

  get enabled(): boolean {
    return this.rate.perSecond > 0;
  }

  /** Calls without a token since the start. */
  get refused(): number {
    return this.refusedCount;
  }

  get size(): number {
    return this.slots.size;
  }

  /** Takes one token of `key`. @returns 0, or the ms until there is a token */
  take(key: string): number {
    const { perSecond, burst } = this.rate;
    if (perSecond <= 0) return 0;
    const nowMs = this.now();
    const slot = this.slots.get(key) ?? this.add(key, nowMs);
    const tokenMs = 1_000 / perSecond;
    // After the rate was lowered, no caller waits longer than an empty bucket of the new rate would need.
    const fullAtMs = Math.min(Math.max(this.fullAtMs[slot]!, nowMs), nowMs + burst * tokenMs);
    const waitMs = fullAtMs + tokenMs - nowMs - burst * tokenMs;
    // Tolerates the rounding errors of sums of doubles.
    if (waitMs > 1e-6) {
      this.refusedCount++;
      return waitMs;
    }
    this.fullAtMs[slot] = fullAtMs + tokenMs;
    return 0;
  }

  private add(key: string, nowMs: number): number {
    let slot = this.keys.length;
    if (slot >= this.capacity) {
      slot = this.giveUp(nowMs);
      this.slots.delete(this.keys[slot]!);
    }
    // Copied, because a substring of a header would keep the whole header in memory.
    const own = Buffer.from(key).toString();
    this.keys[slot] = own;
    this.fullAtMs[slot] = nowMs;
    this.slots.set(own, slot);
    return slot;
  }

  private giveUp(nowMs: number): number {
    let fullest = this.hand;
    for (let i = 0; i < LOOKS; i++) {
      const slot = this.hand;
      this.hand = (this.hand + 1) % this.capacity;
      if (this.fullAtMs[slot]! < this.fullAtMs[fullest]!) fullest = slot;
      if (this.fullAtMs[slot]! <= nowMs) return slot;
    }
    return fullest;
  }
}
