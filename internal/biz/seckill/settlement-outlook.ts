import type { Sale } from './sale-state.js';

/** The sales of an item as the batch that is being settled will leave them, for the batch behind it. */
export class SettlementOutlook {
  /** undefined: that cannot be told before the batch is committed. */
  readonly sales: Promise<readonly Sale[] | undefined>;
  private resolve: (sales: readonly Sale[] | undefined) => void = () => {};

  constructor() {
    this.sales = new Promise((resolve) => {
      this.resolve = resolve;
    });
  }

  /** Only the first call counts. */
  settle(sales: readonly Sale[] | undefined): void {
    this.resolve(sales);
  }
}

/** @param sold units that a batch takes, by sale */
export function salesAfter(sales: readonly Sale[], sold: ReadonlyMap<bigint, number>): readonly Sale[] {
  return sales.map((sale) => ({ ...sale, sold: sale.sold + BigInt(sold.get(sale.id) ?? 0) }));
}
