import type { Page, PageRequest } from '../../biz/page.js';
import {
  type DueSales,
  type NewSale,
  type PayMode,
  type Sale,
  type SalePatch,
  SaleRepo,
  type SaleSnapshot,
  type SaleStatus,
  type SaleSummary,
  type UserOfSale,
} from '../../biz/seckill/sale-state.js';
import type { Transaction } from '../../biz/transaction.js';
import type { Postgres, Statement } from './postgres.js';
import { ORDER_STATUS, SALE_STATUS, SOLD_QUANTITY, saleStatusOf } from './status.js';

export const SALE_COLUMNS = `id, item_id, order_type, name, status, starts_at, ends_at, total, sold, returned, price, pay_mode,
  pay_timeout_ms, default_limit, epoch, first_epoch, version, require_token, admit_rate, segments, settings_version`;

// An index of unpaid orders answers this, however many orders the sale has.
const SUMMARY_COLUMNS = `${SALE_COLUMNS}, EXISTS (
    SELECT FROM orders WHERE sale_id = sales.id AND status = ${ORDER_STATUS.PENDING}) AS unpaid`;

const INSERT: Statement = {
  name: 'sale_insert',
  text: `INSERT INTO sales (id, item_id, order_type, name, starts_at, ends_at, total, price, pay_mode, pay_timeout_ms,
      default_limit, require_token, admit_rate, segments)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
    ON CONFLICT (item_id) WHERE status <> ${SALE_STATUS.CLOSED} DO NOTHING
    RETURNING ${SALE_COLUMNS}`,
};

const FIND_CURRENT: Statement = {
  name: 'sale_find_current',
  text: `SELECT ${SUMMARY_COLUMNS} FROM sales WHERE item_id = $1
    ORDER BY status = ${SALE_STATUS.CLOSED}, id DESC LIMIT 1`,
};

const LIST: Statement = {
  name: 'sale_list',
  text: `SELECT ${SUMMARY_COLUMNS} FROM sales WHERE $1::smallint IS NULL OR status = $1
    ORDER BY id DESC OFFSET $2 LIMIT $3`,
};

const COUNT: Statement = {
  name: 'sale_count',
  text: 'SELECT count(*) AS total FROM sales WHERE $1::smallint IS NULL OR status = $1',
};

const LOCK_LIVE: Statement = {
  name: 'sale_lock_live',
  text: `SELECT ${SALE_COLUMNS} FROM sales WHERE item_id = $1 AND status <> ${SALE_STATUS.CLOSED} FOR UPDATE`,
};

const LOCK_OVER: Statement = {
  name: 'sale_lock_over',
  text: `SELECT ${SALE_COLUMNS} FROM sales
    WHERE item_id = $1 AND status <> ${SALE_STATUS.CLOSED} AND ends_at <= now() FOR UPDATE`,
};

const OPEN: Statement = {
  name: 'sale_open',
  text: `WITH next AS (SELECT nextval('sale_epoch_seq') AS value)
    UPDATE sales SET status = ${SALE_STATUS.OPEN}, epoch = next.value, version = version + 1, updated_at = now(),
      first_epoch = CASE WHEN first_epoch = 0 THEN next.value ELSE first_epoch END
    FROM next WHERE id = $1 RETURNING ${SALE_COLUMNS}`,
};

const CLOSE: Statement = {
  name: 'sale_close',
  text: `UPDATE sales SET status = ${SALE_STATUS.CLOSED}, version = version + 1, updated_at = now()
    WHERE id = $1 RETURNING ${SALE_COLUMNS}`,
};

const CONFIRM_CLOSED: Statement = {
  name: 'sale_confirm_closed',
  text: `UPDATE sales SET admission_closed_at = now() WHERE id = $1 AND admission_closed_at IS NULL`,
};

const FIND_UNRELEASED: Statement = {
  name: 'sale_find_unreleased',
  text: `SELECT ${SALE_COLUMNS} FROM sales
    WHERE status = ${SALE_STATUS.CLOSED} AND order_type = 'GOODS' AND released_at IS NULL ORDER BY id LIMIT 1000`,
};

const RELEASE: Statement = {
  name: 'sale_release',
  text: `UPDATE sales SET returned = total - sold, released_at = now(), updated_at = now()
    WHERE id = $1 AND status = ${SALE_STATUS.CLOSED} AND order_type = 'GOODS' AND released_at IS NULL
    RETURNING ${SALE_COLUMNS}`,
};

const UPDATE: Statement = {
  name: 'sale_update',
  // clock_timestamp, not now: the lock on the sale may have been waited for, and orders of before it count by the old limit.
  text: `UPDATE sales SET default_limit = coalesce($3, default_limit),
      limited_at = CASE WHEN $3::int IS NULL THEN limited_at ELSE clock_timestamp() END,
      require_token = coalesce($4, require_token), admit_rate = coalesce($5, admit_rate), total = coalesce($6, total),
      price = coalesce($7, price), starts_at = coalesce($8, starts_at),
      ends_at = CASE WHEN $9 THEN $10::timestamptz ELSE ends_at END, version = version + 1,
      settings_version = settings_version + 1, updated_at = now()
    WHERE id = $1 AND version = $2 RETURNING ${SALE_COLUMNS}`,
};

const VIP_LIMITS: Statement = {
  name: 'vip_limit_list',
  text: 'SELECT user_id, units FROM vip_limits WHERE sale_id = $1',
};

const COUNT_UNITS: Statement = {
  name: 'sale_count_units',
  text: `SELECT coalesce(sum(${SOLD_QUANTITY}), 0)::int AS units FROM orders
    WHERE sale_id = $1 AND user_id = $2`,
};

const FIND_DUE: Statement = {
  name: 'sale_find_due',
  text: `SELECT ${SALE_COLUMNS}, coalesce(ends_at <= now(), false) AS over FROM sales
    WHERE status = ${SALE_STATUS.OPEN}
      OR (status = ${SALE_STATUS.SCHEDULED} AND starts_at <= now() + $1 * interval '1 ms')
    ORDER BY id LIMIT 10000`,
};

// Those whose keys may still be in Redis: a failover to a replica may bring back the state of before the close.
const FIND_CLOSED: Statement = {
  name: 'sale_find_closed',
  text: `SELECT ${SALE_COLUMNS}, false AS confirmed FROM sales
      WHERE status = ${SALE_STATUS.CLOSED} AND epoch > 0 AND admission_closed_at IS NULL
    UNION ALL
    SELECT ${SALE_COLUMNS}, true AS confirmed FROM sales WHERE admission_closed_at > now() - interval '25 hours'
    ORDER BY id LIMIT 10000`,
};

const BUYERS: Statement = {
  name: 'sale_buyers',
  text: `SELECT user_id, sum(${SOLD_QUANTITY})::int AS units FROM orders
    WHERE sale_id = $1 AND ${SOLD_QUANTITY} > 0 GROUP BY user_id`,
};

const SETTLED: Statement = {
  name: 'sale_settled_entries',
  text: 'SELECT stream_id, user_id FROM stream_inbox WHERE item_id = $1 AND stream_id = ANY($2::text[])',
};

export class PgSaleRepo extends SaleRepo {
  constructor(private readonly db: Postgres) {
    super();
  }

  override async insert(tx: Transaction, sale: NewSale): Promise<Sale | undefined> {
    const values = [
      sale.id,
      sale.itemId,
      sale.orderType,
      sale.name,
      sale.startsAt,
      sale.endsAt ?? null,
      sale.total,
      sale.priceFen,
      sale.payMode,
      sale.payTimeoutMs,
      sale.defaultLimit,
      sale.requireToken,
      sale.admitRate,
      sale.segments,
    ];
    const { rows } = await this.db.query<SaleRow>(INSERT, values, tx);
    return rows[0] && saleOf(rows[0]);
  }

  override async findCurrent(itemId: bigint): Promise<SaleSummary | undefined> {
    const { rows } = await this.db.query<SummaryRow>(FIND_CURRENT, [itemId]);
    return rows[0] && summaryOf(rows[0]);
  }

  override async list(page: PageRequest, status: SaleStatus | undefined): Promise<Page<SaleSummary>> {
    const code = status === undefined ? null : SALE_STATUS[status];
    const [list, count] = await Promise.all([
      this.db.query<SummaryRow>(LIST, [code, page.offset, page.limit]),
      this.db.query<{ total: bigint }>(COUNT, [code]),
    ]);
    return { items: list.rows.map(summaryOf), total: count.rows[0]?.total ?? 0n };
  }

  override async lockLive(tx: Transaction, itemId: bigint): Promise<Sale | undefined> {
    const { rows } = await this.db.query<SaleRow>(LOCK_LIVE, [itemId], tx);
    return rows[0] && saleOf(rows[0]);
  }

  override async lockOver(tx: Transaction, itemId: bigint): Promise<Sale | undefined> {
    const { rows } = await this.db.query<SaleRow>(LOCK_OVER, [itemId], tx);
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

  override async confirmClosed(saleId: bigint): Promise<void> {
    await this.db.query(CONFIRM_CLOSED, [saleId]);
  }

  override async findUnreleased(): Promise<readonly Sale[]> {
    return (await this.db.query<SaleRow>(FIND_UNRELEASED, [])).rows.map(saleOf);
  }

  override async release(tx: Transaction, saleId: bigint): Promise<Sale | undefined> {
    const { rows } = await this.db.query<SaleRow>(RELEASE, [saleId], tx);
    return rows[0] && saleOf(rows[0]);
  }

  override async update(tx: Transaction, saleId: bigint, version: bigint, patch: SalePatch): Promise<Sale | undefined> {
    const { defaultLimit = null, requireToken = null, admitRate = null, total = null, priceFen = null } = patch;
    const { startsAt = null, endsAt } = patch;
    const settings = [defaultLimit, requireToken, admitRate, total, priceFen];
    const values = [saleId, version, ...settings, startsAt, endsAt !== undefined, endsAt ?? null];
    const { rows } = await this.db.query<SaleRow>(UPDATE, values, tx);
    return rows[0] && saleOf(rows[0]);
  }

  override async countUnits(user: UserOfSale): Promise<number> {
    const { rows } = await this.db.query<{ units: number }>(COUNT_UNITS, [user.saleId, user.userId]);
    return rows[0]?.units ?? 0;
  }

  override async findDue(leadMs: number): Promise<DueSales> {
    const [due, closed] = await Promise.all([
      this.db.query<DueRow>(FIND_DUE, [leadMs]),
      this.db.query<SaleRow & { confirmed: boolean }>(FIND_CLOSED, []),
    ]);
    const salesOf = (status: SaleStatus, over: boolean) =>
      due.rows.filter((row) => row.status === SALE_STATUS[status] && row.over === over).map(saleOf);
    return {
      toOpen: salesOf('SCHEDULED', false),
      toClose: [...salesOf('SCHEDULED', true), ...salesOf('OPEN', true)],
      open: salesOf('OPEN', false),
      closed: closed.rows.map((row) => ({ ...saleOf(row), confirmed: row.confirmed })),
    };
  }

  override async snapshot(tx: Transaction, sale: Sale, streamIds: readonly string[]): Promise<SaleSnapshot> {
    const buyers = await this.db.query<{ user_id: string; units: number }>(BUYERS, [sale.id], tx);
    const vip = await this.db.query<{ user_id: string; units: number }>(VIP_LIMITS, [sale.id], tx);
    const settled =
      streamIds.length === 0
        ? []
        : (await this.db.query<{ stream_id: string; user_id: string | null }>(SETTLED, [sale.itemId, streamIds], tx))
            .rows;
    return {
      buyers: buyers.rows.map((row) => ({ userId: row.user_id, units: row.units })),
      vipLimits: vip.rows.map((row) => ({ userId: row.user_id, units: row.units })),
      settled: new Map(settled.map((row) => [row.stream_id, row.user_id ?? undefined])),
    };
  }
}

export interface SaleRow {
  id: bigint;
  item_id: bigint;
  order_type: Sale['orderType'];
  name: string;
  status: number;
  starts_at: Date;
  ends_at: Date | null;
  total: bigint;
  sold: bigint;
  returned: bigint;
  price: bigint;
  pay_mode: PayMode;
  pay_timeout_ms: bigint;
  default_limit: number;
  epoch: bigint;
  first_epoch: bigint;
  version: bigint;
  require_token: boolean;
  admit_rate: number;
  segments: number;
  settings_version: bigint;
}

interface SummaryRow extends SaleRow {
  unpaid: boolean;
}

interface DueRow extends SaleRow {
  over: boolean;
}

function summaryOf(row: SummaryRow): SaleSummary {
  return { ...saleOf(row), unpaid: row.unpaid };
}

export function saleOf(row: SaleRow): Sale {
  return {
    id: row.id,
    itemId: row.item_id,
    orderType: row.order_type,
    name: row.name,
    status: saleStatusOf(row.status),
    startsAt: row.starts_at,
    endsAt: row.ends_at ?? undefined,
    total: row.total,
    sold: row.sold,
    returned: row.returned,
    priceFen: row.price,
    payMode: row.pay_mode,
    payTimeoutMs: Number(row.pay_timeout_ms),
    defaultLimit: row.default_limit,
    epoch: row.epoch,
    firstEpoch: row.first_epoch,
    version: row.version,
    requireToken: row.require_token,
    admitRate: row.admit_rate,
    segments: row.segments,
    settingsVersion: row.settings_version,
  };
}
