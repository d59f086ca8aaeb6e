import { HeldUnits } from '../../../internal/biz/order.js';
import type { Order } from '../../../internal/biz/order-state.js';
import type { Transaction } from '../../../internal/biz/transaction.js';
import type { MemoryOutbox } from './outbox.js';
import { ConstraintViolation, type MemoryStore, MemoryTable } from './store.js';

export interface MemorySale {
  readonly id: bigint;
  readonly itemId: bigint;
  readonly total: bigint;
  readonly sold: bigint;
}

/** Of `sales` what holding units needs. Every sale here is open. */
export class MemoryHeldUnits extends HeldUnits {
  readonly sales: MemoryTable<MemorySale>;

  constructor(
    protected readonly store: MemoryStore,
    protected readonly outbox: MemoryOutbox,
  ) {
    super();
    this.sales = new MemoryTable(store, 'sales', (s) => String(s.id));
  }

  insertSale(sale: MemorySale): Promise<void> {
    return this.store.statement('sale.insert', undefined, async (tx) => {
      await this.sales.insert(tx, sale);
    });
  }

  /** Takes units for an order in the same transaction. @returns false where the sale has not that many left */
  hold(tx: Transaction, saleId: bigint, quantity: number): Promise<boolean> {
    return this.store.statement('sale.hold', tx, async () => {
      const held = await this.sales.update(tx, String(saleId), (s) =>
        s.sold + BigInt(quantity) <= s.total ? { ...s, sold: s.sold + BigInt(quantity) } : undefined,
      );
      return held !== undefined;
    });
  }

  giveBack(tx: Transaction, orders: readonly Order[]): Promise<void> {
    return this.store.statement('units.giveBack', tx, async () => {
      const held = orders.filter((o) => o.saleId !== undefined);
      // By sale, so that two transactions that give back to the same sales lock them in one order.
      for (const order of held.sort((a, b) => Number((a.saleId ?? 0n) - (b.saleId ?? 0n)))) {
        await this.sales.update(tx, String(order.saleId), (s) => {
          const sold = s.sold - BigInt(order.quantity);
          if (sold < 0n) throw new ConstraintViolation(`sale ${s.id} would have sold ${sold}`);
          return { ...s, sold };
        });
        await this.outbox.append(tx, 'seckill.return', order.id);
      }
    });
  }
}
