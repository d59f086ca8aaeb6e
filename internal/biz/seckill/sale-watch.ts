import { setTimeout as sleep } from 'node:timers/promises';
import type { SaleUsecase, SaleView } from './sale.js';

/** How often a watched sale is looked at, however many watch it. */
const INTERVAL_MS = 500;

interface WatchedSale {
  readonly atMs: number;
  readonly view: Promise<SaleView>;
}

/** Lets any number of callers follow a sale at the cost of one. */
export class SaleWatch {
  private readonly watched = new Map<bigint, WatchedSale>();
  private readonly watchers = new Map<bigint, number>();

  constructor(
    private readonly sales: SaleUsecase,
    private readonly intervalMs = INTERVAL_MS,
  ) {}

  /**
   * The sale now and after every change, until it is over or `signal` is aborted.
   * @throws SALE_NOT_FOUND
   */
  async *watch(itemId: bigint, signal: AbortSignal): AsyncGenerator<SaleView> {
    this.watchers.set(itemId, (this.watchers.get(itemId) ?? 0) + 1);
    try {
      let last: string | undefined;
      while (!signal.aborted) {
        const view = await this.look(itemId);
        const seen = fingerprint(view);
        if (seen !== last) yield view;
        last = seen;
        if (view.sale.status === 'CLOSED') return;
        await sleep(this.intervalMs, undefined, { signal }).catch(() => {});
      }
    } finally {
      const others = (this.watchers.get(itemId) ?? 1) - 1;
      if (others > 0) this.watchers.set(itemId, others);
      else {
        this.watchers.delete(itemId);
        this.watched.delete(itemId);
      }
    }
  }

  private look(itemId: bigint): Promise<SaleView> {
    const known = this.watched.get(itemId);
    const nowMs = performance.now();
    if (known && nowMs - known.atMs < this.intervalMs) return known.view;
    const view = this.sales.get(itemId);
    this.watched.set(itemId, { atMs: nowMs, view });
    return view;
  }
}

/** Everything but the clock. */
function fingerprint({ sale, remaining, availability }: SaleView): string {
  return [sale.id, sale.version, sale.status, sale.epoch, sale.sold, remaining, availability].join(' ');
}
