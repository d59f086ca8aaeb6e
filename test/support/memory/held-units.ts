import { orderDeducted, orderReturned, type StockRepo } from '../../../internal/biz/catalog/stock.js';
import { HeldUnits } from '../../../internal/biz/order/order.js';
import type { Order } from '../../../internal/biz/order/order-state.js';
import type { Sale } from '../../../internal/biz/seckill/sale-state.js';
import type { Transaction } from '../../../internal/biz/transaction.js';
import type { MemoryOutbox } from './outbox.js';
import { ConstraintViolation, type MemoryStore, MemoryTable } from './store.js';

/** A row of `sales`. */
export interface MemorySale extends Sale {
  readonly released: boolean;
}

/** Flash-sale orders hold units of their sale, and of goods units of the sku. */
export class MemoryHeldUnits extends HeldUnits {
  readonly sales: MemoryTable<MemorySale>;

  constructor(
    protected readonly store: MemoryStore,
    protected readonly outbox: MemoryOutbox,
    protected readonly stock: StockRepo,
  ) {
    super();
    this.sales = new MemoryTable(store, 'sales', (s) => String(s.id));
  }

  insertSale(tx: Transaction | undefined, sale: Sale): Promise<void> {
    return this.store.statement('sale.insert', tx, async (own) => {
      await this.sales.insert(own, { ...sale, released: false });
    });
  }

  close(tx: Transaction, saleId: bigint): Promise<Sale | undefined> {
    return this.store.statement('sale.close', tx, () =>
      this.sales.update(tx, String(saleId), (s) => ({ ...s, status: 'CLOSED' })),
    );
  }

  /** What a closed sale did not sell is returned from now on. */
  release(tx: Transaction, saleId: bigint): Promise<Sale | undefined> {
    return this.store.statement('sale.release', tx, () =>
      this.sales.update(tx, String(saleId), (s) =>
        s.released || s.status !== 'CLOSED' ? undefined : { ...s, released: true, returned: s.total - s.sold },
      ),
    );
  }

  override async giveBack(tx: Transaction, orders: readonly Order[]): Promise<void> {
    const held = orders.filter((o) => o.saleId !== undefined);
    const released = new Set<bigint | undefined>();
    await this.store.statement('units.giveBack', tx, async () => {
      // By sale, so that two transactions that give back to the same sales lock them in one order.
      for (const order of held.sort((a, b) => Number((a.saleId ?? 0n) - (b.saleId ?? 0n)))) {
        const sale = await this.sales.update(tx, String(order.saleId), (s) => {
          const sold = s.sold - BigInt(order.quantity);
          if (sold < 0n) throw new ConstraintViolation(`sale ${s.id} would have sold ${sold}`);
          return { ...s, sold, returned: s.released ? s.returned + BigInt(order.quantity) : s.returned };
        });
        if (sale?.released) released.add(sale.id);
        // Nobody is admitted to a sale that is not open.
        if (sale?.status === 'OPEN') await this.outbox.append(tx, 'seckill.return', order.id);
      }
    });
    const goods = held.filter((o) => o.orderType === 'GOODS');
    await this.stock.move(
      tx,
      goods.map((o) => orderReturned(o, released.has(o.saleId))),
    );
  }

  override async deduct(tx: Transaction, orders: readonly Order[]): Promise<void> {
    await this.stock.move(tx, orders.filter((o) => o.orderType === 'GOODS').map(orderDeducted));
  }
}
