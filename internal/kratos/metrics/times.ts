/** Upper bounds in seconds, inclusive, of what takes milliseconds. */
export const SHORT_TIMES: readonly number[] = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
];

/** How often something happened and how long it took, in the form of a Prometheus histogram. */
export class Times {
  count = 0;
  /** Seconds. */
  sum = 0;
  private readonly counts: number[];

  /** @param bounds upper bounds in seconds, inclusive, in rising order */
  constructor(private readonly bounds: readonly number[] = SHORT_TIMES) {
    this.counts = bounds.map(() => 0);
  }

  add(seconds: number): void {
    this.count++;
    this.sum += seconds;
    let i = 0;
    while (i < this.bounds.length && seconds > (this.bounds[i] as number)) i++;
    if (i < this.bounds.length) this.counts[i] = (this.counts[i] as number) + 1;
  }

  /** For each bound how often it took at most that long. */
  *cumulative(): Iterable<readonly [bound: number | '+Inf', count: number]> {
    let below = 0;
    for (const [i, bound] of this.bounds.entries()) {
      below += this.counts[i] as number;
      yield [bound, below];
    }
    yield ['+Inf', this.count];
  }
}
