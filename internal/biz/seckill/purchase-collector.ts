import { DEADLINE_EXCEEDED } from '../../../gen/common/v1/errors.js';
import { isSaleUnavailable } from '../../../gen/seckill/v1/errors.js';
import { Batcher, type Waiter } from '../batcher.js';
import type { PurchaseRequest } from './admission.js';
import type { BatchOutcome, SeckillUsecase } from './seckill.js';

export interface CollectedPurchase extends PurchaseRequest {
  /** Epoch ms after which the purchase is not begun; Infinity: none. */
  readonly deadlineAtMs: number;
}

export interface PurchaseStreamPolicy {
  /** Purchases of one call of PurchaseStream that may be in flight. */
  readonly window: number;
}

export type CollectedWaiter = Waiter<CollectedPurchase, BatchOutcome>;

/** Purchases of one call of the usecase: what one run of the admission script takes. */
const MAX_BATCH = 128;
/** As many as the admission runs at a time for unary purchases. */
const MAX_RUNNING = 2;
/** Purchases of one segment of an item's sale that may wait for a call. */
const MAX_WAITING = 20_000;
/** Items remembered before those without purchases are forgotten. */
const MAX_ITEMS = 1_000;

const TOO_LATE: BatchOutcome = {
  kind: 'FAILED',
  reason: DEADLINE_EXCEEDED.reason,
  message: 'the time for the purchase has passed before it was begun',
};

type PurchaseBatcher = Batcher<CollectedPurchase, BatchOutcome>;

/** Collects the purchases of many callers, and makes those of one segment of an item's sale together. */
export class PurchaseCollector {
  /** By item, in the order of the segments. */
  private readonly batchers = new Map<bigint, (PurchaseBatcher | undefined)[]>();

  constructor(private readonly seckill: SeckillUsecase) {}

  /**
   * The waiter gets the outcome, or what `SeckillUsecase.purchaseAll` throws.
   * @returns false if too many purchases of the user's segment wait already
   */
  add(itemId: bigint, waiter: CollectedWaiter): boolean {
    const ofItem = this.batchers.get(itemId) ?? this.newItem(itemId);
    const home = this.seckill.homeOf(itemId, waiter.item.userId);
    const batcher = ofItem[home] ?? this.newBatcher(itemId);
    ofItem[home] = batcher;
    return batcher.offer(waiter);
  }

  private newItem(itemId: bigint): (PurchaseBatcher | undefined)[] {
    if (this.batchers.size >= MAX_ITEMS) {
      for (const [id, batchers] of this.batchers) {
        if (batchers.every((batcher) => batcher === undefined || batcher.idle)) this.batchers.delete(id);
      }
    }
    const ofItem: (PurchaseBatcher | undefined)[] = [];
    this.batchers.set(itemId, ofItem);
    return ofItem;
  }

  private newBatcher(itemId: bigint): PurchaseBatcher {
    return new Batcher<CollectedPurchase, BatchOutcome>({
      name: 'purchases',
      run: (requests) => this.purchaseAll(itemId, requests),
      maxBatch: MAX_BATCH,
      maxConcurrent: MAX_RUNNING,
      maxQueued: MAX_WAITING,
      // A server that hangs costs each call its time limit. What waited for it would fill the windows of its streams, and so
      // hold back the purchases of the other segments.
      failsWaiting: isSaleUnavailable,
    });
  }

  private async purchaseAll(itemId: bigint, requests: readonly CollectedPurchase[]): Promise<readonly BatchOutcome[]> {
    const now = Date.now();
    const inTime = requests.filter((r) => r.deadlineAtMs > now);
    if (inTime.length === requests.length) return this.seckill.purchaseAll(itemId, requests);
    const outcomes = inTime.length === 0 ? [] : await this.seckill.purchaseAll(itemId, inTime);
    let next = 0;
    return requests.map((r) => (r.deadlineAtMs > now ? outcomes[next++]! : TOO_LATE));
  }
}
