import type { Sku } from '../../../internal/biz/catalog/catalog.js';
import {
  type FreeUnits,
  type StockLedgerRow,
  type StockLevel,
  type StockMove,
  StockRepo,
} from '../../../internal/biz/catalog/stock.js';
import type { StockGate } from '../../../internal/biz/catalog/stock-gate.js';
import type { Transaction } from '../../../internal/biz/transaction.js';
import { MemoryStockGate } from './stock-gate.js';
import { ConstraintViolation, type MemoryStore, MemoryTable } from './store.js';

export class MemoryStockRepo extends StockRepo {
  readonly moves: MemoryTable<StockLedgerRow>;
  private lastId = 0n;

  constructor(
    protected readonly store: MemoryStore,
    protected readonly skus: MemoryTable<Sku>,
    private readonly gate: StockGate = new MemoryStockGate(),
  ) {
    super();
    this.moves = new MemoryTable<StockLedgerRow>(store, 'stock_moves', (m) => String(m.id), [
      {
        name: 'order',
        of: (m) =>
          m.orderId === undefined || m.refundId !== undefined ? undefined : `${m.orderId} ${m.skuId} ${m.kind}`,
      },
      { name: 'refund', of: (m) => (m.refundId === undefined ? undefined : `${m.refundId} ${m.skuId}`) },
      {
        name: 'sale',
        of: (m) =>
          m.saleId === undefined || m.orderId !== undefined || m.kind === 'SALE_RESIZE'
            ? undefined
            : `${m.saleId} ${m.kind}`,
      },
      { name: 'request', of: (m) => (m.requestId === undefined ? undefined : `${m.skuId} ${m.requestId}`) },
    ]);
  }

  override lock(tx: Transaction, skuId: bigint): Promise<StockLevel | undefined> {
    return this.store.statement('stock.lock', tx, async () => {
      const sku = await this.skus.lock(tx, String(skuId));
      return sku && { stock: sku.stock, lockStock: sku.lockStock, version: sku.version };
    });
  }

  override findAdjustment(tx: Transaction, skuId: bigint, requestId: string): Promise<bigint | undefined> {
    return this.store.statement('stock.findAdjustment', tx, async () => {
      return this.moves.rows(tx).find((m) => m.skuId === skuId && m.requestId === requestId)?.stockDelta;
    });
  }

  override move(tx: Transaction, moves: readonly StockMove[]): Promise<void> {
    return this.store.statement('stock.move', tx, async () => {
      for (const move of [...moves].sort((a, b) => Number(a.skuId - b.skuId))) {
        await this.change(tx, move);
        await this.moves.insert(tx, {
          ...{ orderId: undefined, saleId: undefined, requestId: undefined, reason: '', ...move },
          ...{ id: ++this.lastId, createdAt: this.store.now() },
        });
      }
      const changed = new Set(moves.filter((m) => m.stockDelta !== 0n || m.lockDelta !== 0n).map((m) => m.skuId));
      const levels = [...changed].flatMap((skuId): FreeUnits[] => {
        const sku = this.skus.find(String(skuId), tx);
        return sku ? [{ skuId, free: sku.stock - sku.lockStock, seq: sku.stockSeq }] : [];
      });
      if (levels.length > 0) this.store.afterCommit(tx, () => this.gate.publish(levels));
    });
  }

  override listMoves(skuId: bigint, belowId: bigint | undefined, limit: number): Promise<readonly StockLedgerRow[]> {
    return this.store.statement('stock.listMoves', undefined, async () =>
      this.moves
        .rows()
        .filter((m) => m.skuId === skuId && (belowId === undefined || m.id < belowId))
        .sort((a, b) => Number(b.id - a.id))
        .slice(0, limit),
    );
  }

  protected async change(tx: Transaction, { kind, skuId, stockDelta, lockDelta }: StockMove): Promise<void> {
    if (stockDelta === 0n && lockDelta === 0n) return;
    await this.skus.update(tx, String(skuId), (s) => {
      const stock = s.stock + stockDelta;
      const lockStock = s.lockStock + lockDelta;
      if (lockStock < 0n || stock < lockStock) {
        throw new ConstraintViolation(`sku ${skuId} would have ${stock} units, ${lockStock} of them locked`);
      }
      const version = kind === 'ADJUST' ? s.version + 1n : s.version;
      return { ...s, stock, lockStock, stockSeq: s.stockSeq + 1n, version, updatedAt: this.store.now() };
    });
  }
}
