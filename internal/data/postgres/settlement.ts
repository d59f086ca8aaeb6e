import type { Item } from '../../biz/catalog/item.js';
import type { ItemSegments } from '../../biz/seckill/purchase-stream.js';
import type { Sale, UserOfSale } from '../../biz/seckill/sale-state.js';
import type { Holding } from '../../biz/seckill/settlement-ledger.js';
import {
  type DeadLetter,
  type InboxRow,
  type OutcomeKind,
  type SettlementOutcome,
  SettlementRepo,
} from '../../biz/seckill/settlement-state.js';
import { type Transaction, together } from '../../biz/transaction.js';
import { int4s, int8s, texts, uuids } from './column.js';
import type { Postgres, Statement } from './postgres.js';
import { SALE_COLUMNS, type SaleRow, saleOf } from './sale.js';
import { orderStatusOf, PRODUCT_STATUS, SALE_STATUS, SOLD_QUANTITY } from './status.js';

// Bounded, because the consumer watches a Redis key for each segment of these items.
const FIND_ITEMS: Statement = {
  name: 'settlement_find_items',
  text: `SELECT item_id AS id, segments FROM sales WHERE status <> ${SALE_STATUS.CLOSED}
    UNION (SELECT id, 1::smallint FROM products WHERE status = ${PRODUCT_STATUS.ENABLED} ORDER BY id DESC LIMIT 5000)`,
};

// An item may be sold without any sale whose row could be locked.
export const LOCK_ITEM: Statement = {
  name: 'settlement_lock_item',
  text: `SELECT pg_advisory_xact_lock(hashtextextended('settle ' || $1::bigint, 0))`,
};

const LOCK_SALES: Statement = {
  name: 'settlement_lock_sales',
  text: `SELECT ${SALE_COLUMNS} FROM sales WHERE item_id = $1
      AND (status <> ${SALE_STATUS.CLOSED} OR epoch >= $2::bigint) ORDER BY id FOR UPDATE`,
};

const INBOX_COLUMNS = 'stream_id, outcome, user_id, quantity, order_id, reason, sale_id, epoch';

// One index probe for each entry; OFFSET 0 keeps the planner from turning it into a join. `= ANY($2)` was rejected: planned
// while the table was small, it scans the table against the whole array until the next ANALYZE (110 ms a batch at 20,000 rows).
const FIND_ROWS: Statement = {
  name: 'settlement_find_rows',
  text: `SELECT i.* FROM unnest($2::text[]) AS t(id) CROSS JOIN LATERAL (
      SELECT ${INBOX_COLUMNS} FROM stream_inbox WHERE item_id = $1 AND stream_id = t.id OFFSET 0) AS i`,
};

// Most users hold nothing yet, so the cost is that of index probes which find nothing; OFFSET 0 keeps them probes.
const FIND_HOLDINGS: Statement = {
  name: 'settlement_find_holdings',
  text: `SELECT u.sale_id, u.user_id, o.units, v.units AS vip_limit
    FROM unnest($1::bigint[], $2::uuid[]) AS u(sale_id, user_id)
    CROSS JOIN LATERAL (SELECT coalesce(sum(quantity), 0)::int AS units FROM (
      SELECT ${SOLD_QUANTITY} AS quantity FROM orders
      WHERE sale_id = u.sale_id AND user_id = u.user_id OFFSET 0) AS held) AS o
    LEFT JOIN LATERAL (
      SELECT units FROM vip_limits WHERE sale_id = u.sale_id AND user_id = u.user_id OFFSET 0) AS v ON true
    WHERE o.units > 0 OR v.units IS NOT NULL`,
};

// A range instead of an equality, so that only the unique index provides the order: planned while the table is small, an
// equality may read all orders of the item for each number (20 ms a batch at 20,000 orders).
const findReqIds = (name: string, itemColumn: 'product_id' | 'sku_id' | 'content_id'): Statement => ({
  name,
  text: `SELECT o.* FROM unnest($2::bigint[]) AS t(id) CROSS JOIN LATERAL (
      SELECT req_id, user_id FROM orders WHERE ${itemColumn} = $1 AND req_id >= t.id AND req_id <= t.id
      ORDER BY req_id LIMIT 1) AS o`,
});
const FIND_REQ_IDS = {
  INSTANCE: findReqIds('settlement_find_product_req_ids', 'product_id'),
  GOODS: findReqIds('settlement_find_sku_req_ids', 'sku_id'),
  CONTENT: findReqIds('settlement_find_content_req_ids', 'content_id'),
};

const FIND_DELETED_BEFORE: Statement = {
  name: 'settlement_find_deleted_before',
  text: `SELECT (extract(epoch FROM max(deleted_before)) * 1000)::float8 AS ms FROM retention_marks
    WHERE kind IN ('inbox_order', 'inbox_rejected', 'inbox_dead') AND scope = $1::bigint::text`,
};

const INSERT_ROWS: Statement = {
  name: 'settlement_insert_rows',
  text: `INSERT INTO stream_inbox (item_id, ${INBOX_COLUMNS})
    SELECT $1::bigint, t.* FROM unnest($2::text[], $3::text[], $4::uuid[], $5::int[], $6::bigint[], $7::text[], $8::bigint[],
      $9::bigint[]) AS t`,
};

const INSERT_DEAD_LETTERS: Statement = {
  name: 'settlement_insert_dead_letters',
  text: `INSERT INTO dead_letters (origin, message_id, payload, reason)
    SELECT $1, t.* FROM unnest($2::text[], $3::jsonb[], $4::text[]) AS t
    ON CONFLICT (origin, message_id) DO NOTHING`,
};

const ADD_SOLD: Statement = {
  name: 'settlement_add_sold',
  text: `UPDATE sales SET sold = sold + t.units, updated_at = now()
    FROM unnest($1::bigint[], $2::int[]) AS t(id, units) WHERE sales.id = t.id`,
};

const FIND: Statement = {
  name: 'settlement_find',
  text: `SELECT i.stream_id, i.outcome, i.user_id, i.quantity, i.order_id, i.reason, i.sale_id, i.epoch,
      o.status AS order_status, o.close_reason
    FROM stream_inbox i LEFT JOIN orders o ON o.id = i.order_id WHERE i.item_id = $1 AND i.stream_id = $2`,
};

export class PgSettlementRepo extends SettlementRepo {
  constructor(private readonly db: Postgres) {
    super();
  }

  override async findItems(): Promise<readonly ItemSegments[]> {
    const { rows } = await this.db.query<{ id: bigint; segments: number }>(FIND_ITEMS, []);
    return rows.map((row) => ({ itemId: row.id, segments: row.segments }));
  }

  override async lock(tx: Transaction, itemId: bigint, epoch: bigint | undefined): Promise<readonly Sale[]> {
    const [, { rows }] = await together(
      this.db.query(LOCK_ITEM, [itemId], tx),
      this.db.query<SaleRow>(LOCK_SALES, [itemId, epoch ?? null], tx),
    );
    return rows.map(saleOf);
  }

  override async findRows(tx: Transaction, itemId: bigint, streamIds: readonly string[]): Promise<readonly InboxRow[]> {
    const { rows } = await this.db.query<Row>(FIND_ROWS, [itemId, texts(streamIds, (id) => id)], tx);
    return rows.map(rowOf);
  }

  override async findHoldings(tx: Transaction, users: readonly UserOfSale[]): Promise<readonly Holding[]> {
    const { rows } = await this.db.query<HoldingRow>(
      FIND_HOLDINGS,
      [int8s(users, (u) => u.saleId), uuids(users, (u) => u.userId)],
      tx,
    );
    return rows.map((row) => ({
      saleId: row.sale_id,
      userId: row.user_id,
      units: row.units,
      vipLimit: row.vip_limit ?? undefined,
    }));
  }

  override async findReqIds(
    tx: Transaction,
    { id: itemId, orderType }: Pick<Item, 'id' | 'orderType'>,
    reqIds: readonly bigint[],
  ): Promise<ReadonlyMap<bigint, string>> {
    const { rows } = await this.db.query<{ req_id: bigint; user_id: string }>(
      FIND_REQ_IDS[orderType],
      [itemId, int8s(reqIds, (id) => id)],
      tx,
    );
    return new Map(rows.map((row) => [row.req_id, row.user_id]));
  }

  override async findDeletedBefore(tx: Transaction, itemId: bigint): Promise<number | undefined> {
    const { rows } = await this.db.query<{ ms: number | null }>(FIND_DELETED_BEFORE, [itemId], tx);
    return rows[0]?.ms ?? undefined;
  }

  override async insertRows(tx: Transaction, itemId: bigint, rows: readonly InboxRow[]): Promise<void> {
    await this.db.query(
      INSERT_ROWS,
      [
        itemId,
        texts(rows, (r) => r.streamId),
        texts(rows, (r) => r.kind),
        uuids(rows, (r) => r.userId),
        int4s(rows, (r) => r.quantity),
        int8s(rows, (r) => r.orderId),
        texts(rows, (r) => r.reason),
        int8s(rows, (r) => r.saleId),
        int8s(rows, (r) => r.epoch),
      ],
      tx,
    );
  }

  override async insertDeadLetters(tx: Transaction, itemId: bigint, letters: readonly DeadLetter[]): Promise<void> {
    await this.db.query(
      INSERT_DEAD_LETTERS,
      [
        `stream:seckill:${itemId}`,
        letters.map((l) => l.entry.streamId),
        letters.map((l) => payloadOf(l.entry.fields)),
        letters.map((l) => l.reason),
      ],
      tx,
    );
  }

  override async addSold(tx: Transaction, sold: ReadonlyMap<bigint, number>): Promise<void> {
    await this.db.query(ADD_SOLD, [[...sold.keys()], [...sold.values()]], tx);
  }

  override async find(itemId: bigint, streamId: string): Promise<SettlementOutcome | undefined> {
    const { rows } = await this.db.query<OutcomeRow>(FIND, [itemId, streamId]);
    const row = rows[0];
    if (!row) return undefined;
    const order =
      row.order_id === null || row.order_status === null
        ? undefined
        : { id: row.order_id, status: orderStatusOf(row.order_status), closeReason: row.close_reason ?? '' };
    return { ...rowOf(row), order };
  }
}

interface HoldingRow {
  sale_id: bigint;
  user_id: string;
  units: number;
  vip_limit: number | null;
}

interface Row {
  stream_id: string;
  outcome: OutcomeKind;
  user_id: string | null;
  quantity: number | null;
  order_id: bigint | null;
  reason: string;
  sale_id: bigint | null;
  epoch: bigint | null;
}

interface OutcomeRow extends Row {
  order_status: number | null;
  close_reason: string | null;
}

function rowOf(row: Row): InboxRow {
  return {
    streamId: row.stream_id,
    kind: row.outcome,
    userId: row.user_id ?? undefined,
    quantity: row.quantity ?? undefined,
    orderId: row.order_id ?? undefined,
    reason: row.reason,
    saleId: row.sale_id ?? undefined,
    epoch: row.epoch ?? undefined,
  };
}

/** As pairs, because their order may matter to the reader. JSONB takes no NUL. */
function payloadOf(fields: ReadonlyMap<string, string>): string {
  return JSON.stringify([...fields].map((pair) => pair.map((text) => text.replaceAll('\0', '\ufffd'))));
}
