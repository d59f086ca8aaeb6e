import type { Page, PageRequest } from '../biz/page.js';
import {
  type NewSale,
  type PayMode,
  type Sale,
  SaleRepo,
  type SaleSnapshot,
  type SaleStatus,
} from '../biz/sale-state.js';
import type { Transaction } from '../biz/transaction.js';
import type { Postgres, Statement } from './postgres.js';

const STATUS_CODES: Readonly<Record<SaleStatus, number>> = { SCHEDULED: 0, OPEN: 1, CLOSED: 2 };
const STATUSES: readonly SaleStatus[] = ['SCHEDULED', 'OPEN', 'CLOSED'];

export const SALE_COLUMNS = `id, item_id, name, status, starts_at, ends_at, total, sold, price, pay_mode, pay_timeout_ms,
  default_limit, epoch, first_epoch, version`;

const INSERT: Statement = {
  name: 'sale_insert',
  text: `INSERT INTO sales (id, item_id, name, starts_at, ends_at, total, price, pay_mode, pay_timeout_ms, default_limit)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    ON CONFLICT (item_id) WHERE status <> 2 DO NOTHING
    RETURNING ${SALE_COLUMNS}`,
};

const FIND_CURRENT: Statement = {
  name: 'sale_find_current',
  text: `SELECT ${SALE_COLUMNS} FROM sales WHERE item_id = $1 ORDER BY status = 2, id DESC LIMIT 1`,
};

const LIST: Statement = {
  name: 'sale_list',
  text: `SELECT ${SALE_COLUMNS} FROM sales WHERE $1::smallint IS NULL OR status = $1
    ORDER BY id DESC OFFSET $2 LIMIT $3`,
};

const COUNT: Statement = {
  name: 'sale_count',
  text: 'SELECT count(*) AS total FROM sales WHERE $1::smallint IS NULL OR status = $1',
};

const LOCK_LIVE: Statement = {
  name: 'sale_lock_live',
  text: `SELECT ${SALE_COLUMNS} FROM sales WHERE item_id = $1 AND status <> 2 FOR UPDATE`,
};

const OPEN: Statement = {
  name: 'sale_open',
  text: `WITH e AS (SELECT nextval('sale_epoch_seq') AS epoch)
    UPDATE sales SET status = 1, epoch = e.epoch, version = version + 1, updated_at = now(),
      first_epoch = CASE WHEN sales.first_epoch = 0 THEN e.epoch ELSE sales.first_epoch END
    FROM e WHERE id = $1 RETURNING ${SALE_COLUMNS.replace(' epoch,', ' sales.epoch,')}`,
};

const CLOSE: Statement = {
  name: 'sale_close',
  text: `UPDATE sales SET status = 2, version = version + 1, updated_at = now() WHERE id = $1 RETURNING ${SALE_COLUMNS}`,
};

const BUYERS: Statement = {
  name: 'sale_buyers',
  text: `SELECT user_id, sum(quantity)::int AS units FROM orders WHERE sale_id = $1 AND status <> 2 GROUP BY user_id`,
};

const SETTLED: Statement = {
  name: 'sale_settled_entries',
  text: 'SELECT stream_id FROM stream_inbox WHERE item_id = $1 AND stream_id = ANY($2::text[])',
};

export class PgSaleRepo extends SaleRepo {
  constructor(private readonly db: Postgres) {
    super();
  }

  override async insert(sale: NewSale): Promise<Sale | undefined> {
    const { rows } = await this.db.query<SaleRow>(INSERT, [
      sale.id,
      sale.itemId,
      sale.name,
      sale.startsAt,
      sale.endsAt ?? null,
      sale.total,
      sale.priceFen,
      sale.payMode,
      sale.payTimeoutMs,
      sale.defaultLimit,
    ]);
    return rows[0] && saleOf(rows[0]);
  }

  override async findCurrent(itemId: bigint): Promise<Sale | undefined> {
    const { rows } = await this.db.query<SaleRow>(FIND_CURRENT, [itemId]);
    return rows[0] && saleOf(rows[0]);
  }

  override async list(page: PageRequest, status: SaleStatus | undefined): Promise<Page<Sale>> {
    const code = status === undefined ? null : STATUS_CODES[status];
    const [list, count] = await Promise.all([
      this.db.query<SaleRow>(LIST, [code, page.offset, page.limit]),
      this.db.query<{ total: bigint }>(COUNT, [code]),
    ]);
    return { items: list.rows.map(saleOf), total: count.rows[0]?.total ?? 0n };
  }

  override async lockLive(tx: Transaction, itemId: bigint): Promise<Sale | undefined> {
    const { rows } = await this.db.query<SaleRow>(LOCK_LIVE, [itemId], tx);
    return rows[0] && saleOf(rows[0]);
  }

  override async open(tx: Transaction, saleId: bigint): Promise<Sale> {
    const { rows } = await this.db.query<SaleRow>(OPEN, [saleId], tx);
    return saleOf(rows[0]!);
  }

  override async close(tx: Transaction, saleId: bigint): Promise<Sale> {
    const { rows } = await this.db.query<SaleRow>(CLOSE, [saleId], tx);
    return saleOf(rows[0]!);
  }

  override async snapshot(tx: Transaction, sale: Sale, streamIds: readonly string[]): Promise<SaleSnapshot> {
    const buyers = await this.db.query<{ user_id: string; units: number }>(BUYERS, [sale.id], tx);
    const settled =
      streamIds.length === 0
        ? []
        : (await this.db.query<{ stream_id: string }>(SETTLED, [sale.itemId, streamIds], tx)).rows;
    return {
      buyers: buyers.rows.map((row) => ({ userId: row.user_id, units: row.units })),
      vipLimits: [],
      settled: new Set(settled.map((row) => row.stream_id)),
    };
  }
}

export interface SaleRow {
  id: bigint;
  item_id: bigint;
  name: string;
  status: number;
  starts_at: Date;
  ends_at: Date | null;
  total: bigint;
  sold: bigint;
  price: bigint;
  pay_mode: PayMode;
  pay_timeout_ms: bigint;
  default_limit: number;
  epoch: bigint;
  first_epoch: bigint;
  version: bigint;
}

export function saleOf(row: SaleRow): Sale {
  const status = STATUSES[row.status];
  if (status === undefined) throw new Error(`sales.status ${row.status} is not known`);
  return {
    id: row.id,
    itemId: row.item_id,
    name: row.name,
    status,
    startsAt: row.starts_at,
    endsAt: row.ends_at ?? undefined,
    total: row.total,
    sold: row.sold,
    priceFen: row.price,
    payMode: row.pay_mode,
    payTimeoutMs: Number(row.pay_timeout_ms),
    defaultLimit: row.default_limit,
    epoch: row.epoch,
    firstEpoch: row.first_epoch,
    version: row.version,
  };
}
