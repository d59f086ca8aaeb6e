import type { Page, PageRequest } from '../../biz/page.js';
import type { Sale, UserOfSale } from '../../biz/seckill/sale-state.js';
import { type ChangedLimits, type ListedVipLimit, type VipLimit, VipLimitRepo } from '../../biz/seckill/vip-limit.js';
import type { Transaction } from '../../biz/transaction.js';
import type { Postgres, Statement } from './postgres.js';
import { ORDER_STATUS } from './status.js';

const FIND: Statement = {
  name: 'vip_limit_find',
  text: 'SELECT units, version FROM vip_limits WHERE sale_id = $1 AND user_id = $2',
};

// The sale is locked, so its settings version cannot have changed since this statement began.
const COUNT_SETTING = `UPDATE sales SET settings_version = settings_version + 1
    WHERE id = $1 AND EXISTS (SELECT FROM changed)`;

const SET: Statement = {
  name: 'vip_limit_set',
  text: `WITH changed AS (
      INSERT INTO vip_limits (sale_id, user_id, units, updated_at, settings_version)
      SELECT $1, $2, $3, clock_timestamp(), settings_version + 1 FROM sales WHERE id = $1 AND $4::bigint = 0
      ON CONFLICT (sale_id, user_id) DO NOTHING RETURNING units, version
    ), counted AS (${COUNT_SETTING})
    SELECT units, version FROM changed`,
};

const CHANGE: Statement = {
  name: 'vip_limit_change',
  text: `WITH changed AS (
      UPDATE vip_limits v SET units = $3, version = v.version + 1, updated_at = clock_timestamp(),
        settings_version = s.settings_version + 1
      FROM sales s WHERE s.id = $1 AND v.sale_id = $1 AND v.user_id = $2 AND v.version = $4
      RETURNING v.units, v.version
    ), counted AS (${COUNT_SETTING})
    SELECT units, version FROM changed`,
};

const FIND_CHANGED: Statement = {
  name: 'vip_limit_find_changed',
  text: `SELECT user_id, units, settings_version FROM vip_limits
    WHERE sale_id = $1 AND settings_version > $2 AND settings_version <= $3 ORDER BY settings_version LIMIT $4`,
};

const LIST: Statement = {
  name: 'vip_limit_page',
  text: `SELECT user_id AS "userId", units, version, (
      SELECT coalesce(sum(quantity), 0)::int FROM orders
      WHERE sale_id = v.sale_id AND user_id = v.user_id AND status <> ${ORDER_STATUS.CANCELLED}) AS taken
    FROM vip_limits v WHERE sale_id = $1 ORDER BY user_id OFFSET $2 LIMIT $3`,
};

const COUNT: Statement = {
  name: 'vip_limit_count',
  text: 'SELECT count(*) AS total FROM vip_limits WHERE sale_id = $1',
};

interface ChangedRow {
  user_id: string;
  units: number;
  settings_version: bigint;
}

export class PgVipLimitRepo extends VipLimitRepo {
  constructor(private readonly db: Postgres) {
    super();
  }

  override async find({ saleId, userId }: UserOfSale, tx?: Transaction): Promise<VipLimit | undefined> {
    return (await this.db.query<VipLimit>(FIND, [saleId, userId], tx)).rows[0];
  }

  override async set(
    tx: Transaction,
    { saleId, userId }: UserOfSale,
    units: number,
    version: bigint,
  ): Promise<VipLimit | undefined> {
    const statement = version === 0n ? SET : CHANGE;
    return (await this.db.query<VipLimit>(statement, [saleId, userId, units, version], tx)).rows[0];
  }

  override async list(saleId: bigint, page: PageRequest): Promise<Page<ListedVipLimit>> {
    const [list, count] = await Promise.all([
      this.db.query<ListedVipLimit>(LIST, [saleId, page.offset, page.limit]),
      this.db.query<{ total: bigint }>(COUNT, [saleId]),
    ]);
    return { items: list.rows, total: count.rows[0]?.total ?? 0n };
  }

  override async findChanged(sale: Sale, afterVersion: bigint, limit: number): Promise<ChangedLimits> {
    const values = [sale.id, afterVersion, sale.settingsVersion, limit];
    const { rows } = await this.db.query<ChangedRow>(FIND_CHANGED, values);
    return {
      vipLimits: rows.map((row) => ({ userId: row.user_id, units: row.units })),
      upTo: rows.length < limit ? sale.settingsVersion : rows.at(-1)!.settings_version,
    };
  }
}
