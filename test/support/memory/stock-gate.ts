import type { FreeUnits } from '../../../internal/biz/catalog/stock.js';
import { StockGate } from '../../../internal/biz/catalog/stock-gate.js';

/** Copies that never expire. */
export class MemoryStockGate extends StockGate {
  private readonly copies = new Map<bigint, FreeUnits>();

  override async read(skuIds: readonly bigint[]): Promise<ReadonlyMap<bigint, bigint>> {
    return new Map(
      skuIds.flatMap((skuId) => {
        const copy = this.copies.get(skuId);
        return copy ? [[skuId, copy.free] as const] : [];
      }),
    );
  }

  override publish(units: readonly FreeUnits[]): void {
    for (const copy of units) {
      if ((this.copies.get(copy.skuId)?.seq ?? -1n) < copy.seq) this.copies.set(copy.skuId, copy);
    }
  }
}
