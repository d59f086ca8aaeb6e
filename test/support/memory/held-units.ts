import { HeldUnits } from '../../../internal/biz/order.js';
import type { Order } from '../../../internal/biz/order-state.js';
import type { Sale } from '../../../internal/biz/sale-state.js';
import type { Transaction } from '../../../internal/biz/transaction.js';
import type { MemoryOutbox } from './outbox.js';
import { ConstraintViolation, type MemoryStore, MemoryTable } from './store.js';

/** Flash-sale orders hold units of their sale. */
export class MemoryHeldUnits extends HeldUnits {
  readonly sales: MemoryTable<Sale>;

  constructor(
    protected readonly store: MemoryStore,
    protected readonly outbox: MemoryOutbox,
  ) {
    super();
    this.sales = new MemoryTable(store, 'sales', (s) => String(s.id));
  }

  insertSale(sale: Sale): Promise<void> {
    return this.store.statement('sale.insert', undefined, async (tx) => {
      await this.sales.insert(tx, sale);
    });
  }

  giveBack(tx: Transaction, orders: readonly Order[]): Promise<void> {
    return this.store.statement('units.giveBack', tx, async () => {
      const held = orders.filter((o) => o.saleId !== undefined);
      // By sale, so that two transactions that give back to the same sales lock them in one order.
      for (const order of held.sort((a, b) => Number((a.saleId ?? 0n) - (b.saleId ?? 0n)))) {
        const sale = await this.sales.update(tx, String(order.saleId), (s) => {
          const sold = s.sold - BigInt(order.quantity);
          if (sold < 0n) throw new ConstraintViolation(`sale ${s.id} would have sold ${sold}`);
          return { ...s, sold };
        });
        // Nobody is admitted to a sale that is not open.
        if (sale?.status === 'OPEN') await this.outbox.append(tx, 'seckill.return', order.id);
      }
    });
  }
}
