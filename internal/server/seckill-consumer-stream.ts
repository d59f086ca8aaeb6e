import { type Delivery, entryKey } from '../biz/seckill/purchase-stream.js';

/** Of a batch among those of its stream. */
export interface Turn {
  /** Resolves when the turn of the batch before has ended. */
  readonly come: Promise<void>;
  end(): void;
}

interface KeptEntry {
  readonly delivery: Delivery;
  readonly readAtMs: number;
}

const RETRY_MS = 250;
const MAX_BACKOFF_MS = 30_000;

/** The state of reading one item's stream. */
export class ConsumerStream {
  /** Whether the consumer group is known to exist. */
  joined = false;
  /** Whether this consumer may have pending entries: entries that were delivered to it and not finished. */
  readsPending = true;
  /** Whether the last read met something else than a stream, be it in one segment alone. */
  unreadable = false;
  /** Resolves when the last batch that was read is committed; rejects if that batch or one before it failed. */
  committed: Promise<unknown> = Promise.resolve();
  private lastTurn: Promise<void> = Promise.resolve();
  private notBeforeMs = 0;
  private faults = 0;
  /** By entryKey. */
  private readonly kept = new Map<string, KeptEntry>();

  constructor(readonly itemId: bigint) {}

  /** How long until it may be read again; 0: now. */
  waitMs(nowMs: number): number {
    return Math.max(0, this.notBeforeMs - nowMs);
  }

  get faulty(): boolean {
    return this.faults > 0;
  }

  /** Keeps entries to settle them again, whether or not Redis still has them then: a flush deletes pending lists too. */
  keep(deliveries: readonly Delivery[], readAtMs: number): void {
    for (const delivery of deliveries) this.kept.set(entryKey(delivery), { delivery, readAtMs });
  }

  /** Those that can be settled now: `reaches` says whether the server of an entry answers. */
  keptCount(reaches: (streamId: string) => boolean): number {
    return this.keptWithin(reaches).length;
  }

  /** Hands out up to `count` kept entries, which are kept no longer. */
  takeKept(
    count: number,
    reaches: (streamId: string) => boolean,
  ): { readonly deliveries: readonly Delivery[]; readonly readAtMs: number } {
    const taken = this.keptWithin(reaches).slice(0, count);
    for (const { delivery } of taken) this.kept.delete(entryKey(delivery));
    return { deliveries: taken.map((k) => k.delivery), readAtMs: Math.min(...taken.map((k) => k.readAtMs)) };
  }

  /** When the first of the kept entries was read; infinite if none is kept. */
  get oldestKeptMs(): number {
    let oldestMs = Number.POSITIVE_INFINITY;
    for (const { readAtMs } of this.kept.values()) oldestMs = Math.min(oldestMs, readAtMs);
    return oldestMs;
  }

  private keptWithin(reaches: (streamId: string) => boolean): readonly KeptEntry[] {
    return [...this.kept.values()].filter(({ delivery }) => reaches(delivery.streamId));
  }

  nextTurn(): Turn {
    const come = this.lastTurn;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.lastTurn = promise;
    return { come, end: resolve };
  }

  retryLater(nowMs: number): void {
    this.notBeforeMs = nowMs + RETRY_MS * (1 + Math.random());
  }

  /** Backs off: each fault in a row doubles the wait. */
  fail(nowMs: number): void {
    const backoffMs = Math.min(MAX_BACKOFF_MS, RETRY_MS * 2 ** Math.min(this.faults++, 16));
    this.notBeforeMs = nowMs + backoffMs * (0.5 + Math.random() / 2);
    this.readsPending = true;
  }

  recover(): void {
    this.faults = 0;
    this.notBeforeMs = 0;
  }
}
