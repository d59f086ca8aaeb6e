/** Turns many calls into one: those that arrive while a call is under way go together in the next. */
export interface MicroBatcherOptions<Item, Result> {
  /** Answers each item, in order. */
  readonly run: (items: readonly Item[]) => Promise<readonly Result[]>;
  /** Items of one call. */
  readonly maxBatch: number;
  /** Items that may wait. */
  readonly maxWaiting: number;
}

interface Waiter<Item, Result> {
  readonly item: Item;
  readonly resolve: (result: Result) => void;
  readonly reject: (err: unknown) => void;
}

/** One call is under way at a time. The first item of an idle batcher goes at once: nothing waits for a timer. */
export class MicroBatcher<Item, Result> {
  private waiting: Waiter<Item, Result>[] = [];
  private running = false;

  constructor(private readonly options: MicroBatcherOptions<Item, Result>) {}

  get idle(): boolean {
    return !this.running && this.waiting.length === 0;
  }

  /** undefined: too many wait already. */
  submit(item: Item): Promise<Result> | undefined {
    if (this.waiting.length >= this.options.maxWaiting) return undefined;
    return new Promise<Result>((resolve, reject) => {
      this.waiting.push({ item, resolve, reject });
      if (!this.running) this.runNext();
    });
  }

  private runNext(): void {
    const { maxBatch, run } = this.options;
    const batch = this.waiting.length <= maxBatch ? this.waiting : this.waiting.slice(0, maxBatch);
    this.waiting = batch === this.waiting ? [] : this.waiting.slice(maxBatch);
    this.running = true;
    run(batch.map((w) => w.item)).then(
      (results) => {
        this.next();
        batch.forEach((w, i) => {
          const result = results[i];
          if (result === undefined) w.reject(new Error(`${batch.length} items got ${results.length} results`));
          else w.resolve(result);
        });
      },
      (err: unknown) => {
        this.next();
        for (const w of batch) w.reject(err);
      },
    );
  }

  private next(): void {
    this.running = false;
    if (this.waiting.length > 0) this.runNext();
  }
}
