import { unavailable } from '../../gen/common/v1/errors.js';

export interface BatcherOptions<Item, Result> {
  /** Names what is batched in the error of a full queue: "purchases". */
  readonly name: string;
  /** Returns one result for each item, in order. If it throws, every item of the call fails. */
  readonly run: (items: readonly Item[]) => Promise<readonly Result[]>;
  /** Items of one call. */
  readonly maxBatch: number;
  /** Calls under way at a time. */
  readonly maxConcurrent: number;
  /** Items that may wait for a call. */
  readonly maxQueued: number;
  /** Whether the items that wait fail as well when a call has failed like this. Without it they never do. */
  readonly failsWaiting?: (err: unknown) => boolean;
}

export interface Waiter<Item, Result> {
  readonly item: Item;
  resolve(result: Result): void;
  reject(err: unknown): void;
}

/**
 * Turns many calls into few: items that arrive while calls are under way go together in the next call. Items of one turn
 * of the event loop share a call, which starts at once while fewer than `maxConcurrent` are under way: no item ever waits
 * for a timer.
 */
export class Batcher<Item, Result> {
  private queue: Waiter<Item, Result>[] = [];
  private running = 0;
  private scheduled = false;

  constructor(private readonly options: BatcherOptions<Item, Result>) {}

  get idle(): boolean {
    return this.running === 0 && this.queue.length === 0;
  }

  /** @throws UNAVAILABLE when the queue is full */
  add(item: Item): Promise<Result> {
    const { name, maxQueued } = this.options;
    const full = () => unavailable(`more than ${maxQueued} ${name} wait already; try again shortly`);
    return this.tryAdd(item) ?? Promise.reject(full());
  }

  /** @returns undefined when the queue is full: on a hot path an error for each refused item would cost too much */
  tryAdd(item: Item): Promise<Result> | undefined {
    if (this.queue.length >= this.options.maxQueued) return undefined;
    return new Promise<Result>((resolve, reject) => void this.offer({ item, resolve, reject }));
  }

  /**
   * Like {@link tryAdd}, for a caller that needs no promise for each item.
   * @returns false when the queue is full
   */
  offer(waiter: Waiter<Item, Result>): boolean {
    if (this.queue.length >= this.options.maxQueued) return false;
    this.queue.push(waiter);
    if (this.scheduled || this.running >= this.options.maxConcurrent) return true;
    this.scheduled = true;
    setImmediate(() => {
      this.scheduled = false;
      this.runQueued();
    });
    return true;
  }

  private runQueued(): void {
    while (this.queue.length > 0 && this.running < this.options.maxConcurrent) this.runNext();
  }

  private runNext(): void {
    const { maxBatch } = this.options;
    const batch = this.queue.length <= maxBatch ? this.queue : this.queue.slice(0, maxBatch);
    this.queue = batch === this.queue ? [] : this.queue.slice(maxBatch);
    this.running++;
    this.run(batch).then(
      (results) => {
        this.running--;
        // The next call leaves before the callers of this one go on.
        this.runQueued();
        batch.forEach((waiter, i) => {
          waiter.resolve(results[i] as Result);
        });
      },
      (err: unknown) => {
        this.running--;
        const waiting = this.options.failsWaiting?.(err) ? this.queue.splice(0) : [];
        this.runQueued();
        for (const waiter of batch) waiter.reject(err);
        for (const waiter of waiting) waiter.reject(err);
      },
    );
  }

  private async run(batch: readonly Waiter<Item, Result>[]): Promise<readonly Result[]> {
    const results = await this.options.run(batch.map((waiter) => waiter.item));
    if (results.length !== batch.length) {
      throw new Error(`a call for ${batch.length} ${this.options.name} returned ${results.length} results`);
    }
    return results;
  }
}
