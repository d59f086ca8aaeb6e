import { isUnavailable } from '../../../gen/common/v1/errors.js';
import type { Sale, SaleRepo, SaleSummary } from './sale-state.js';

/** How long a sale is taken as it was read. Admission is fenced by epoch, so this delays news and breaks nothing. */
const FRESH_MS = 1_000;
/** Items remembered, so that made-up ids do not fill the memory. */
const CAPACITY = 10_000;

interface CachedSale {
  readonly sale: SaleSummary | undefined;
  readonly untilMs: number;
}

/** The sales as this process knows them, so that a purchase asks PostgreSQL nothing. */
export class SaleCache {
  private readonly known = new Map<bigint, CachedSale>();
  private readonly reading = new Map<bigint, Promise<SaleSummary | undefined>>();

  constructor(
    private readonly sales: Pick<SaleRepo, 'findCurrent'>,
    private readonly now: () => number = Date.now,
  ) {}

  /** The item's sale, if it was read a moment ago. */
  peek(itemId: bigint): SaleSummary | undefined {
    const known = this.known.get(itemId);
    return known !== undefined && known.untilMs > this.now() ? known.sale : undefined;
  }

  /** Number of segments of the item's sale as it was last read, however long ago; 1 if it never was. */
  segmentsOf(itemId: bigint): number {
    return this.known.get(itemId)?.sale?.segments ?? 1;
  }

  /** The item's sale that is not closed, else its last. @throws UNAVAILABLE for one that was never read */
  async find(itemId: bigint): Promise<SaleSummary | undefined> {
    const known = this.known.get(itemId);
    if (known !== undefined && known.untilMs > this.now()) return known.sale;
    try {
      return await this.read(itemId);
    } catch (err) {
      // Admission does not need PostgreSQL; it judges by epoch whether this sale is still the one.
      if (known?.sale !== undefined && isUnavailable(err)) return known.sale;
      throw err;
    }
  }

  /** Reads the sale again, unless it was read again since `stale`. */
  refresh(stale: Sale): Promise<SaleSummary | undefined> {
    const known = this.known.get(stale.itemId);
    return known?.sale !== undefined && known.sale.epoch !== stale.epoch
      ? Promise.resolve(known.sale)
      : this.read(stale.itemId);
  }

  /** One read at a time for each item, however many wait for it. */
  private read(itemId: bigint): Promise<SaleSummary | undefined> {
    let reading = this.reading.get(itemId);
    if (!reading) {
      reading = this.sales
        .findCurrent(itemId)
        .then((sale) => {
          this.remember(itemId, sale);
          return sale;
        })
        .finally(() => this.reading.delete(itemId));
      this.reading.set(itemId, reading);
    }
    return reading;
  }

  private remember(itemId: bigint, sale: SaleSummary | undefined): void {
    this.known.delete(itemId);
    this.known.set(itemId, { sale, untilMs: this.now() + FRESH_MS });
    if (this.known.size > CAPACITY) this.known.delete(this.known.keys().next().value!);
  }
}
