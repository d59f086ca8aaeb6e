import { invalidArgument } from '../../../gen/common/v1/errors.js';
import { type StockRepo, saleHeld, saleResized, saleReturned } from '../catalog/stock.js';
import type { Transaction, TransactionRunner } from '../transaction.js';
import type { Admission } from './admission.js';
import { belongsTo, type PurchaseStream, parseEntry, type StreamEntry } from './purchase-stream.js';
import type { Sale, SaleRepo } from './sale-state.js';

/** What sales of goods take out of the free stock of their skus, and give back. */
export class SaleStock {
  constructor(
    private readonly transactions: TransactionRunner,
    private readonly sales: SaleRepo,
    private readonly stock: StockRepo,
    private readonly admission: Admission,
    private readonly stream: PurchaseStream,
  ) {}

  /** All units of a new sale become its own. @throws INVALID_ARGUMENT total beyond the free stock */
  async hold(tx: Transaction, sale: Sale): Promise<void> {
    const free = await this.free(tx, sale);
    if (free < sale.total) throw beyondFree(sale, free, free);
    await this.stock.move(tx, [saleHeld(sale, sale.total)]);
  }

  /**
   * More units become the sale's own, or unsold ones free again.
   * @throws INVALID_ARGUMENT total beyond the free stock
   */
  async resize(tx: Transaction, sale: Sale, total: bigint): Promise<void> {
    const more = total - sale.total;
    if (more === 0n) return;
    const free = await this.free(tx, sale);
    if (more > free) throw beyondFree(sale, free, sale.total + free);
    await this.stock.move(tx, [saleResized(sale, more)]);
  }

  /** Free units of the sale's sku, which stays locked until `tx` ends. */
  private async free(tx: Transaction, { itemId }: Sale): Promise<bigint> {
    const level = await this.stock.lock(tx, itemId);
    return level === undefined ? 0n : level.stock - level.lockStock;
  }

  /** Closed sales that still hold what they did not sell. */
  unreleased(): Promise<readonly Sale[]> {
    return this.sales.findUnreleased();
  }

  /**
   * Gives back what a closed sale did not sell, once no purchase that was admitted is on its way any more.
   * @returns whether that was done now
   * @throws SALE_UNAVAILABLE, UNAVAILABLE if it is unknown whether purchases are pending
   */
  async release(sale: Sale): Promise<boolean> {
    if (sale.epoch > 0n) {
      // Again, because closing may have failed halfway: purchases admitted after the stream was checked would find no
      // units.
      await this.admission.close(sale);
      if (await this.isOnItsWay(sale)) return false;
    }
    return this.transactions.run(
      async (tx) => {
        const released = await this.sales.release(tx, sale.id);
        if (!released) return false;
        if (released.returned > 0n) await this.stock.move(tx, [saleReturned(released, released.returned)]);
        return true;
      },
      { idempotent: true },
    );
  }

  /** Whether a purchase of this sale has no outcome yet: entries leave the stream after theirs is committed. */
  private async isOnItsWay(sale: Sale): Promise<boolean> {
    const ofSale = (entry: StreamEntry) => {
      const parsed = parseEntry(entry);
      return parsed.kind === 'purchase' && belongsTo(parsed, sale);
    };
    // While a long stream drains, its first entry says enough.
    const oldest = await this.stream.oldest(sale.itemId, sale.segments);
    return (
      oldest !== undefined && (ofSale(oldest) || (await this.stream.waiting(sale.itemId, sale.segments)).some(ofSale))
    );
  }
}

function beyondFree({ itemId }: Sale, free: bigint, most: bigint) {
  const description = `must be at most ${most}: ${free} units of the sku are free`;
  return invalidArgument(`total: ${description}`, {
    violations: [{ field: 'total', description }],
    metadata: { sku_id: String(itemId), free: String(free) },
  });
}
