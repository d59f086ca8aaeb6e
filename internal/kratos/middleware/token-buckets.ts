export interface BucketRate {
  /** Calls each second in the long run; 0: without limit. */
  readonly perSecond: number;
  /** Calls at once after a pause. */
  readonly burst: number;
}

/** Slots looked at for one that can be given up: full buckets are found at once unless all are in use. */
const LOOKS = 16;

/**
 * One token bucket for each key, in a fixed number of slots. A bucket is one number, the time at which it is full again
 * (GCRA), in an array of doubles: a call of a known key allocates nothing, and nothing runs on a timer. Where all slots
 * are in use a bucket that is full again makes room, which forgets nothing, or else the fullest of those looked at.
 */
export class TokenBuckets {
  rate: BucketRate;
  private readonly slots = new Map<string, number>();
  private readonly keys: string[] = [];
  private readonly fullAtMs: Float64Array;
  private hand = 0;

  /** @param now a clock in ms that does not step */
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

  get size(): number {
    return this.slots.size;
  }

  /** Takes one token of `key`. @returns 0, or where there is none, the ms until there is one */
  take(key: string): number {
    const { perSecond, burst } = this.rate;
    if (perSecond <= 0) return 0;
    const nowMs = this.now();
    const slot = this.slots.get(key) ?? this.add(key, nowMs);
    const tokenMs = 1_000 / perSecond;
    // A rate that was lowered must not make anybody wait for longer than an empty bucket of today does.
    const fullAtMs = Math.min(Math.max(this.fullAtMs[slot]!, nowMs), nowMs + burst * tokenMs);
    const waitMs = fullAtMs + tokenMs - nowMs - burst * tokenMs;
    // Sums of doubles: a token is not refused for a part of it that no clock can tell.
    if (waitMs > 1e-6) return waitMs;
    this.fullAtMs[slot] = fullAtMs + tokenMs;
    return 0;
  }

  private add(key: string, nowMs: number): number {
    let slot = this.keys.length;
    if (slot >= this.capacity) {
      slot = this.giveUp(nowMs);
      this.slots.delete(this.keys[slot]!);
    }
    // A copy: a key that was cut from a header would keep the whole header in memory.
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
