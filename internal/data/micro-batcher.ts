/** Turns many calls into few: those that arrive while calls are under way go together in the next. */
export interface MicroBatcherOptions<Item, Result> {
  /** Answers each item, in order. */
  readonly run: (items: readonly Item[]) => Promise<readonly Result[]>;
  /** Items of one call. */
  readonly maxBatch: number;
  /** Calls under way at a time. */
  readonly maxRunning: number;
  /** Items that may wait. */
  readonly maxWaiting: number;
}

interface Waiter<Item, Result> {
  readonly item: Item;
  readonly resolve: (result: Result) => void;
  readonly reject: (err: unknown) => void;
}

/**
 * Items of one turn of the event loop go together, and at once while fewer than `maxRunning` calls are under way: nothing
 * waits for a timer.
 */
export class MicroBatcher<Item, Result> {
  private waiting: Waiter<Item, Result>[] = [];
  private running = 0;
  private scheduled = false;

  constructor(private readonly options: MicroBatcherOptions<Item, Result>) {}

  get idle(): boolean {
    return this.running === 0 && this.waiting.length === 0;
  }

  /** undefined: too many wait already. */
  submit(item: Item): Promise<Result> | undefined {
    if (this.waiting.length >= this.options.maxWaiting) return undefined;
    return new Promise<Result>((resolve, reject) => {
      this.waiting.push({ item, resolve, reject });
      if (this.scheduled || this.running >= this.options.maxRunning) return;
      this.scheduled = true;
      setImmediate(() => {
        this.scheduled = false;
        this.runWaiting();
      });
    });
  }

  private runWaiting(): void {
    while (this.waiting.length > 0 && this.running < this.options.maxRunning) this.runNext();
  }

  private runNext(): void {
    const { maxBatch, run } = this.options;
    const batch = this.waiting.length <= maxBatch ? this.waiting : this.waiting.slice(0, maxBatch);
    this.waiting = batch === this.waiting ? [] : this.waiting.slice(maxBatch);
    this.running++;
    run(batch.map((w) => w.item)).then(
      (results) => {
        this.running--;
        this.runWaiting();
        batch.forEach((w, i) => {
          const result = results[i];
          if (result === undefined) w.reject(new Error(`${batch.length} items got ${results.length} results`));
          else w.resolve(result);
        });
      },
      (err: unknown) => {
        this.running--;
        this.runWaiting();
        for (const w of batch) w.reject(err);
      },
    );
  }
}
