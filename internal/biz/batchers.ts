import { Batcher, type BatcherOptions } from './batcher.js';

export interface BatchersOptions<Key, Item, Result> extends Pick<BatcherOptions<Item, Result>, 'name' | 'maxBatch'> {
  readonly run: (key: Key, items: readonly Item[]) => Promise<readonly Result[]>;
}

/** Keys that have a batcher of their own at a time. */
const BATCHERS_MAX = 1_000;
const QUEUE_MAX = 10_000;

/**
 * A batcher for each key, such as the row that the items of a call lock: one call of a key is under way at a time, because
 * a second one would only wait for the first one's lock.
 */
export class Batchers<Key, Item, Result> {
  private readonly batchers = new Map<Key, Batcher<Item, Result>>();

  constructor(private readonly options: BatchersOptions<Key, Item, Result>) {}

  /** @returns undefined: too many keys are busy; the item is to be handled alone */
  of(key: Key): Batcher<Item, Result> | undefined {
    const known = this.batchers.get(key);
    if (known) return known;
    if (this.batchers.size >= BATCHERS_MAX) {
      // One that is idle holds nothing, so it may be forgotten.
      for (const [k, batcher] of this.batchers) if (batcher.idle) this.batchers.delete(k);
      if (this.batchers.size >= BATCHERS_MAX) return undefined;
    }
    const { name, maxBatch, run } = this.options;
    const batcher = new Batcher<Item, Result>({
      ...{ name, maxBatch, maxConcurrent: 1, maxQueued: QUEUE_MAX },
      run: (items) => run(key, items),
    });
    this.batchers.set(key, batcher);
    return batcher;
  }
}
