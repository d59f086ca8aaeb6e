import { type SaleAfterReturn, type SaleUnits, SaleUnitsRepo } from '../../../internal/biz/seckill/reserved-units.js';
import type { Sale } from '../../../internal/biz/seckill/sale-state.js';
import type { Transaction } from '../../../internal/biz/transaction.js';
import { ConstraintViolation, type MemoryStore, MemoryTable } from './store.js';

/** A row of `sales`. */
export interface MemorySale extends Sale {
  readonly released: boolean;
  /** Whether admission was told of its end. */
  readonly confirmed: boolean;
}

export class MemorySaleUnitsRepo extends SaleUnitsRepo {
  readonly sales: MemoryTable<MemorySale>;

  constructor(protected readonly store: MemoryStore) {
    super();
    this.sales = new MemoryTable(store, 'sales', (s) => String(s.id));
  }

  insertSale(tx: Transaction | undefined, sale: Sale): Promise<void> {
    return this.store.statement('sale.insert', tx, async (own) => {
      await this.sales.insert(own, { ...sale, released: false, confirmed: false });
    });
  }

  close(tx: Transaction, saleId: bigint): Promise<Sale | undefined> {
    return this.store.statement('sale.close', tx, () =>
      this.sales.update(tx, String(saleId), (s) => ({ ...s, status: 'CLOSED' })),
    );
  }

  /** Returns the unsold units of a closed sale. Units of later cancellations count as returned as well. */
  release(tx: Transaction, saleId: bigint): Promise<Sale | undefined> {
    return this.store.statement('sale.release', tx, () =>
      this.sales.update(tx, String(saleId), (s) =>
        s.released || s.status !== 'CLOSED' ? undefined : { ...s, released: true, returned: s.total - s.sold },
      ),
    );
  }

  override returnUnits(tx: Transaction, units: readonly SaleUnits[]): Promise<readonly SaleAfterReturn[]> {
    return this.store.statement('sale.returnUnits', tx, async () => {
      const after = new Map<bigint, SaleAfterReturn>();
      // Sorted by sale, so that two transactions that return units to the same sales cannot deadlock.
      for (const { saleId, quantity } of [...units].sort((a, b) => Number(a.saleId - b.saleId))) {
        const sale = await this.sales.update(tx, String(saleId), (s) => {
          const sold = s.sold - BigInt(quantity);
          if (sold < 0n) throw new ConstraintViolation(`sale ${s.id} would have sold ${sold}`);
          return { ...s, sold, returned: s.released ? s.returned + BigInt(quantity) : s.returned };
        });
        if (sale) after.set(saleId, sale);
      }
      return [...after.values()].map(({ id, itemId, epoch, segments, status, released }) => ({
        ...{ id, itemId, epoch, segments, status, released },
      }));
    });
  }
}
