import type { Item } from '../../../internal/biz/catalog/item.js';
import { soldQuantity } from '../../../internal/biz/order/order-state.js';
import type { ItemSegments } from '../../../internal/biz/seckill/purchase-stream.js';
import type { Sale, UserOfSale } from '../../../internal/biz/seckill/sale-state.js';
import type { Holding } from '../../../internal/biz/seckill/settlement-ledger.js';
import {
  type DeadLetter,
  type InboxRow,
  type SettlementOutcome,
  SettlementRepo,
} from '../../../internal/biz/seckill/settlement-state.js';
import type { Transaction } from '../../../internal/biz/transaction.js';
import type { MemoryOrderRepo } from './order.js';
import type { MemorySaleUnitsRepo } from './sale-units.js';
import { ConstraintViolation, type MemoryStore, MemoryTable } from './store.js';
import type { MemoryVipLimitRepo } from './vip-limit.js';

/** An open sale in its first epoch, which started in 1970. */
export function openSale(sale: Pick<Sale, 'id' | 'itemId' | 'total'> & Partial<Sale>): Sale {
  return {
    name: '',
    status: 'OPEN',
    startsAt: new Date(0),
    endsAt: undefined,
    sold: 0n,
    returned: 0n,
    orderType: 'INSTANCE',
    priceFen: 1n,
    payMode: 'PREPAID',
    payTimeoutMs: 60_000,
    defaultLimit: 1,
    requireToken: false,
    admitRate: 0,
    segments: 1,
    epoch: 1n,
    firstEpoch: 1n,
    version: 1n,
    settingsVersion: 1n,
    ...sale,
  };
}

export class MemorySettlementRepo extends SettlementRepo {
  readonly deadLetters: MemoryTable<{ readonly itemId: bigint; readonly streamId: string; readonly reason: string }>;

  constructor(
    protected readonly store: MemoryStore,
    protected readonly orders: MemoryOrderRepo,
    protected readonly saleUnits: MemorySaleUnitsRepo,
    protected readonly vipLimits: MemoryVipLimitRepo,
  ) {
    super();
    this.deadLetters = new MemoryTable(store, 'dead_letters', (d) => `${d.itemId} ${d.streamId}`);
  }

  override findItems(): Promise<readonly ItemSegments[]> {
    return this.store.statement('settlement.findItems', undefined, async () =>
      this.saleUnits.sales.rows().filter((s) => s.status !== 'CLOSED'),
    );
  }

  override lock(tx: Transaction, itemId: bigint, epoch: bigint | undefined): Promise<readonly Sale[]> {
    return this.store.statement('settlement.lock', tx, async () => {
      await this.store.lock(tx, `settle ${itemId}`);
      const found = this.saleUnits.sales
        .rows(tx)
        .filter((s) => s.itemId === itemId && (s.status !== 'CLOSED' || (epoch !== undefined && s.epoch >= epoch)))
        .sort((a, b) => Number(a.id - b.id));
      const locked: Sale[] = [];
      for (const { id } of found) {
        const sale = await this.saleUnits.sales.lock(tx, String(id));
        if (sale) locked.push(sale);
      }
      return locked;
    });
  }

  override findRows(tx: Transaction, itemId: bigint, streamIds: readonly string[]): Promise<readonly InboxRow[]> {
    return this.store.statement('settlement.findRows', tx, async () =>
      this.orders.inbox.rows(tx).filter((row) => row.itemId === itemId && streamIds.includes(row.streamId)),
    );
  }

  override findHoldings(tx: Transaction, users: readonly UserOfSale[]): Promise<readonly Holding[]> {
    return this.store.statement('settlement.findHoldings', tx, async () =>
      users.flatMap(({ saleId, userId }) => {
        const live = this.orders.orders.rows(tx).filter((o) => o.saleId === saleId && o.userId === userId);
        const units = live.reduce((sum, o) => sum + soldQuantity(o), 0);
        const vipLimit = this.vipLimits.table.find(`${saleId} ${userId}`, tx)?.units;
        return units === 0 && vipLimit === undefined ? [] : [{ saleId, userId, units, vipLimit }];
      }),
    );
  }

  override findReqIds(
    tx: Transaction,
    { id: itemId }: Pick<Item, 'id'>,
    reqIds: readonly bigint[],
  ): Promise<ReadonlyMap<bigint, string>> {
    return this.store.statement('settlement.findReqIds', tx, async () => {
      const found = this.orders.orders
        .rows(tx)
        .filter((o) => (o.productId ?? o.skuId) === itemId && reqIds.includes(o.reqId));
      return new Map(found.map((o) => [o.reqId, o.userId]));
    });
  }

  /** The memory keeps everything. */
  override findDeletedBefore(tx: Transaction, _itemId: bigint): Promise<number | undefined> {
    return this.store.statement('settlement.findDeletedBefore', tx, async () => undefined);
  }

  override insertRows(tx: Transaction, itemId: bigint, rows: readonly InboxRow[]): Promise<void> {
    return this.store.statement('settlement.insertRows', tx, async () => {
      for (const row of rows) await this.orders.inbox.insert(tx, { ...row, itemId });
    });
  }

  override insertDeadLetters(tx: Transaction, itemId: bigint, letters: readonly DeadLetter[]): Promise<void> {
    return this.store.statement('settlement.insertDeadLetters', tx, async () => {
      for (const { entry, reason } of letters) {
        const { streamId } = entry;
        if (!this.deadLetters.find(`${itemId} ${streamId}`, tx)) {
          await this.deadLetters.insert(tx, { itemId, streamId, reason });
        }
      }
    });
  }

  override addSold(tx: Transaction, sold: ReadonlyMap<bigint, number>): Promise<void> {
    return this.store.statement('settlement.addSold', tx, async () => {
      for (const [id, units] of sold) {
        await this.saleUnits.sales.update(tx, String(id), (s) => {
          const after = s.sold + BigInt(units);
          if (after > s.total - s.returned)
            throw new ConstraintViolation(`sale ${id} would have sold ${after} of ${s.total}`);
          return { ...s, sold: after };
        });
      }
    });
  }

  override find(itemId: bigint, streamId: string): Promise<SettlementOutcome | undefined> {
    return this.store.statement('settlement.find', undefined, async () => {
      const row = this.orders.inbox.find(`${itemId} ${streamId}`);
      if (!row) return undefined;
      const order = row.orderId === undefined ? undefined : this.orders.orders.find(String(row.orderId));
      return { ...row, order: order && { id: order.id, status: order.status, closeReason: order.closeReason } };
    });
  }
}
