import { DEADLINE_EXCEEDED } from '../../../gen/common/v1/errors.js';
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
/** Purchases of an item that may wait for a call. */
const MAX_WAITING = 20_000;
/** Items remembered before those without purchases are forgotten. */
const MAX_ITEMS = 1_000;

const TOO_LATE: BatchOutcome = {
  kind: 'FAILED',
  reason: DEADLINE_EXCEEDED.reason,
  message: 'the time for the purchase has passed before it was begun',
};

/** Collects the purchases of many callers, and makes those of one item together. */
export class PurchaseCollector {
  private readonly batchers = new Map<bigint, Batcher<CollectedPurchase, BatchOutcome>>();

  constructor(private readonly seckill: SeckillUsecase) {}

  /**
   * The waiter gets the outcome, or what `SeckillUsecase.purchaseAll` throws.
   * @returns false if too many purchases of the item wait already
   */
  add(itemId: bigint, waiter: CollectedWaiter): boolean {
    return (this.batchers.get(itemId) ?? this.newBatcher(itemId)).offer(waiter);
  }

  private newBatcher(itemId: bigint): Batcher<CollectedPurchase, BatchOutcome> {
    if (this.batchers.size >= MAX_ITEMS) {
      for (const [id, batcher] of this.batchers) if (batcher.idle) this.batchers.delete(id);
    }
    const batcher = new Batcher<CollectedPurchase, BatchOutcome>({
      name: 'purchases',
      run: (requests) => this.purchaseAll(itemId, requests),
      maxBatch: MAX_BATCH,
      maxConcurrent: MAX_RUNNING,
      maxQueued: MAX_WAITING,
    });
    this.batchers.set(itemId, batcher);
    return batcher;
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
