import {
  type FreeUnits,
  type StockLedgerRow,
  type StockLevel,
  type StockMove,
  type StockMoveKind,
  StockRepo,
} from '../../biz/catalog/stock.js';
import type { StockGate } from '../../biz/catalog/stock-gate.js';
import { INT64_MAX } from '../../biz/int64.js';
import type { Transaction } from '../../biz/transaction.js';
import { int8s, texts } from './column.js';
import type { Postgres, Statement } from './postgres.js';

// NO KEY, so that orders that refer to the sku can be written meanwhile.
const LOCK: Statement = {
  name: 'stock_lock',
  text: 'SELECT stock, lock_stock AS "lockStock", version FROM sku WHERE id = $1 FOR NO KEY UPDATE',
};

const FIND_ADJUSTMENT: Statement = {
  name: 'stock_find_adjustment',
  text: 'SELECT stock_delta FROM stock_moves WHERE sku_id = $1 AND request_id = $2',
};

// Skus are locked by id, as the lock order demands (biz/transaction.ts).
const MOVE: Statement = {
  name: 'stock_move',
  text: `WITH m AS (
      SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::bigint[], $7::bigint[],
        $8::bigint[], $9::text[], $10::bigint[])
        AS m(kind, sku_id, order_id, sale_id, request_id, units, stock_delta, lock_delta, reason, refund_id)),
    s AS (
      SELECT sku_id, sum(stock_delta) AS stock, sum(lock_delta) AS locked, count(*) FILTER (WHERE kind = 'ADJUST') AS adjusts
      FROM m GROUP BY sku_id HAVING bool_or(stock_delta <> 0 OR lock_delta <> 0)),
    locked AS (SELECT id FROM sku WHERE id IN (SELECT sku_id FROM s) ORDER BY id FOR NO KEY UPDATE),
    u AS (
      UPDATE sku SET stock = sku.stock + s.stock, lock_stock = sku.lock_stock + s.locked,
        version = sku.version + s.adjusts, stock_seq = sku.stock_seq + 1, updated_at = now()
      FROM s JOIN locked ON locked.id = s.sku_id WHERE sku.id = s.sku_id
      RETURNING sku.id, sku.stock - sku.lock_stock AS free, sku.stock_seq),
    i AS (
      INSERT INTO stock_moves (kind, sku_id, order_id, sale_id, request_id, units, stock_delta, lock_delta, reason,
        refund_id)
      SELECT * FROM m)
    SELECT id AS "skuId", free, stock_seq AS seq FROM u`,
};

const LIST_MOVES: Statement = {
  name: 'stock_list_moves',
  text: `SELECT id, kind, sku_id, order_id, sale_id, request_id, units, stock_delta, lock_delta, reason, created_at
    FROM stock_moves WHERE sku_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3`,
};

export class PgStockRepo extends StockRepo {
  constructor(
    private readonly db: Postgres,
    private readonly gate: StockGate,
  ) {
    super();
  }

  override async lock(tx: Transaction, skuId: bigint): Promise<StockLevel | undefined> {
    return (await this.db.query<StockLevel>(LOCK, [skuId], tx)).rows[0];
  }

  override async findAdjustment(tx: Transaction, skuId: bigint, requestId: string): Promise<bigint | undefined> {
    const { rows } = await this.db.query<{ stock_delta: bigint }>(FIND_ADJUSTMENT, [skuId, requestId], tx);
    return rows[0]?.stock_delta;
  }

  override async move(tx: Transaction, moves: readonly StockMove[]): Promise<void> {
    if (moves.length === 0) return;
    const { rows } = await this.db.query<FreeUnits>(
      MOVE,
      [
        texts(moves, (m) => m.kind),
        int8s(moves, (m) => m.skuId),
        int8s(moves, (m) => m.orderId),
        int8s(moves, (m) => m.saleId),
        texts(moves, (m) => m.requestId),
        int8s(moves, (m) => m.units),
        int8s(moves, (m) => m.stockDelta),
        int8s(moves, (m) => m.lockDelta),
        texts(moves, (m) => m.reason ?? ''),
        int8s(moves, (m) => m.refundId),
      ],
      tx,
    );
    if (rows.length > 0) this.db.afterCommit(tx, () => this.gate.publish(rows));
  }

  override async listMoves(
    skuId: bigint,
    belowId: bigint | undefined,
    limit: number,
  ): Promise<readonly StockLedgerRow[]> {
    const { rows } = await this.db.query<LedgerRow>(LIST_MOVES, [skuId, belowId ?? INT64_MAX, limit]);
    return rows.map((row) => ({
      id: row.id,
      kind: row.kind,
      skuId: row.sku_id,
      orderId: row.order_id ?? undefined,
      saleId: row.sale_id ?? undefined,
      requestId: row.request_id ?? undefined,
      units: row.units,
      stockDelta: row.stock_delta,
      lockDelta: row.lock_delta,
      reason: row.reason,
      createdAt: row.created_at,
    }));
  }
}

interface LedgerRow {
  id: bigint;
  kind: StockMoveKind;
  sku_id: bigint;
  order_id: bigint | null;
  sale_id: bigint | null;
  request_id: string | null;
  units: bigint;
  stock_delta: bigint;
  lock_delta: bigint;
  reason: string;
  created_at: Date;
}
