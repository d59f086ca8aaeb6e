import { isUuid, NIL_UUID } from '../../biz/identity.js';
import { type AccountQuery, type SaleAccount, SaleAccounts } from '../../biz/seckill/sale-account.js';
import { TOPIC_SECKILL_RETURN, tryDecodeUnitsReturn } from '../../biz/seckill/seckill-return.js';
import type { SettlementRepo } from '../../biz/seckill/settlement-state.js';
import type { Postgres, Statement } from './postgres.js';
import { SALE_COLUMNS, type SaleRow, saleOf } from './sale.js';
import { onSnapshot } from './snapshot.js';
import { SALE_STATUS, SOLD_QUANTITY } from './status.js';

const OPEN_SALE: Statement = {
  name: 'account_open_sale',
  text: `SELECT ${SALE_COLUMNS} FROM sales WHERE id = $1 AND status = ${SALE_STATUS.OPEN}`,
};

const RETURNS: Statement = {
  name: 'account_returns',
  text: `SELECT payload FROM outbox WHERE topic = '${TOPIC_SECKILL_RETURN}' AND published_at IS NULL`,
};

// By the index, so that a sample costs as much as it has rows. That takes statistics: a plan that was made while the table was
// small would read all orders of the sale each second. `(sale_id, user_id) > ($1, $2)` does so for the newest sale even with them.
const SAMPLE: Statement = {
  name: 'account_sample',
  replan: true,
  text: `SELECT DISTINCT user_id FROM orders
    WHERE sale_id = $1 AND ${SOLD_QUANTITY} > 0 AND user_id > $2 ORDER BY user_id LIMIT $3`,
};

// One index probe for each user; OFFSET 0 keeps them probes.
const UNITS: Statement = {
  name: 'account_units',
  replan: true,
  text: `SELECT u.id AS user_id, sum(o.units)::int AS units
    FROM (SELECT DISTINCT unnest($2::uuid[]) AS id) AS u
    CROSS JOIN LATERAL (SELECT ${SOLD_QUANTITY} AS units FROM orders WHERE sale_id = $1 AND user_id = u.id OFFSET 0) AS o
    WHERE o.units > 0 GROUP BY u.id`,
};

export class PgSaleAccounts extends SaleAccounts {
  constructor(
    private readonly db: Postgres,
    private readonly settlements: SettlementRepo,
  ) {
    super();
  }

  override read({ saleId, streamIds, userIds, sampleAfter, sample }: AccountQuery): Promise<SaleAccount | undefined> {
    return onSnapshot(this.db, async (tx) => {
      const [row] = (await this.db.query<SaleRow>(OPEN_SALE, [saleId], tx)).rows;
      if (!row) return undefined;
      const sale = saleOf(row);
      const outcomes = await this.settlements.findRows(tx, sale.itemId, streamIds);
      const waiting = await this.db.query<{ payload: Buffer }>(RETURNS, [], tx);
      const returns = waiting.rows
        .flatMap(({ payload }) => tryDecodeUnitsReturn(payload.toString()) ?? [])
        .filter((r) => r.itemId === sale.itemId && r.epoch === sale.epoch);
      const sampled = await this.db.query<{ user_id: string }>(SAMPLE, [saleId, sampleAfter ?? NIL_UUID, sample], tx);
      const lastSampled = sampled.rows.length < sample ? undefined : sampled.rows.at(-1)?.user_id;
      const buyers = new Map([...userIds, ...sampled.rows.map((s) => s.user_id)].map((userId) => [userId, 0]));
      // Redis may hold anything as a user.
      const known = [...buyers.keys()].filter(isUuid);
      const units = await this.db.query<{ user_id: string; units: number }>(UNITS, [saleId, known], tx);
      for (const { user_id, units: has } of units.rows) buyers.set(user_id, has);
      return { sale, outcomes: new Map(outcomes.map((o) => [o.streamId, o])), returns, buyers, lastSampled };
    });
  }
}
