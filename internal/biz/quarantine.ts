export interface QuarantineOptions {
  /** Exclusion after the first failure; doubles with each further one. */
  readonly firstMs: number;
  readonly lastMs: number;
  /** Keys that may be excluded at once. */
  readonly capacity: number;
}

interface Exclusion {
  failures: number;
  untilMs: number;
}

const DEFAULTS: QuarantineOptions = { firstMs: 1_000, lastMs: 600_000, capacity: 1_000 };

/**
 * Excludes keys whose work fails on its own, each for a growing time, so that they do not hold up the others. Held in
 * memory: every process finds out by itself, and nothing is lost if it forgets.
 */
export class Quarantine<Key> {
  private readonly exclusions = new Map<Key, Exclusion>();
  private readonly options: QuarantineOptions;

  constructor(
    options: Partial<QuarantineOptions> = {},
    private readonly nowMs: () => number = Date.now,
  ) {
    this.options = { ...DEFAULTS, ...options };
  }

  /** The keys to leave out now. */
  get excluded(): readonly Key[] {
    const now = this.nowMs();
    for (const [key, { untilMs }] of this.exclusions) {
      // Long after its last exclusion a key has recovered, or belongs to another process.
      if (untilMs + this.options.lastMs <= now) this.exclusions.delete(key);
    }
    // After the clock was set back an exclusion would be longer than any may be.
    const until = now + this.options.lastMs;
    return [...this.exclusions].filter(([, e]) => e.untilMs > now && e.untilMs <= until).map(([key]) => key);
  }

  /** @returns whether this is the first failure of the key */
  exclude(key: Key): boolean {
    const failures = (this.exclusions.get(key)?.failures ?? 0) + 1;
    const { firstMs, lastMs, capacity } = this.options;
    // Moved to the end, so that the key that has not failed for the longest time makes room.
    this.exclusions.delete(key);
    const oldest = this.exclusions.keys().next();
    if (this.exclusions.size >= capacity && !oldest.done) this.exclusions.delete(oldest.value);
    this.exclusions.set(key, {
      failures,
      untilMs: this.nowMs() + Math.min(firstMs * 2 ** Math.min(failures - 1, 30), lastMs),
    });
    return failures === 1;
  }
}
