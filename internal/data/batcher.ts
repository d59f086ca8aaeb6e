interface Waiting<T, R> {
  readonly item: T;
  readonly resolve: (result: R) => void;
  readonly reject: (err: unknown) => void;
}

/**
 * Makes one statement of calls that come side by side: those that arrive while a flush is under way go together in the
 * next. Alone, a call goes at once; nothing ever waits on a timer.
 */
export class Batcher<T, R> {
  private waiting: Waiting<T, R>[] = [];
  private running = 0;

  /**
   * @param flush answers for each item, in order; throwing fails all of them
   * @param options.lanes flushes that may run side by side
   */
  constructor(
    private readonly flush: (items: readonly T[]) => Promise<readonly R[]>,
    private readonly options: { readonly maxItems: number; readonly lanes: number },
  ) {}

  add(item: T): Promise<R> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ item, resolve, reject });
      if (this.running < this.options.lanes) {
        this.running++;
        void this.run();
      }
    });
  }

  private async run(): Promise<void> {
    // Lets the calls of this turn of the event loop come along.
    await Promise.resolve();
    while (this.waiting.length > 0) {
      const batch = this.waiting.splice(0, this.options.maxItems);
      try {
        const results = await this.flush(batch.map((w) => w.item));
        batch.forEach((w, i) => {
          w.resolve(results[i] as R);
        });
      } catch (err) {
        for (const w of batch) w.reject(err);
      }
    }
    this.running--;
  }
}
