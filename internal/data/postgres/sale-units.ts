import { type SaleAfterReturn, type SaleUnits, SaleUnitsRepo } from '../../biz/seckill/reserved-units.js';
import type { Transaction } from '../../biz/transaction.js';
import { int4s, int8s } from './column.js';
import type { Postgres, Statement } from './postgres.js';
import { saleStatusOf } from './status.js';

// By id, as the lock order demands (biz/transaction.ts).
const RETURN_UNITS: Statement = {
  name: 'sale_return_units',
  text: `WITH t AS (
      SELECT sale_id, sum(quantity) AS quantity FROM unnest($1::bigint[], $2::int[]) AS t(sale_id, quantity)
      GROUP BY sale_id),
    locked AS (SELECT id FROM sales WHERE id IN (SELECT sale_id FROM t) ORDER BY id FOR UPDATE)
    UPDATE sales SET sold = sold - t.quantity, updated_at = now(),
      returned = CASE WHEN released_at IS NULL THEN returned ELSE returned + t.quantity END
    FROM t JOIN locked ON locked.id = t.sale_id WHERE sales.id = t.sale_id
    RETURNING sales.id, sales.item_id, sales.epoch, sales.segments, sales.status, sales.released_at IS NOT NULL AS released`,
};

export class PgSaleUnitsRepo extends SaleUnitsRepo {
  constructor(private readonly db: Postgres) {
    super();
  }

  override async returnUnits(tx: Transaction, units: readonly SaleUnits[]): Promise<readonly SaleAfterReturn[]> {
    const values = [int8s(units, (u) => u.saleId), int4s(units, (u) => u.quantity)];
    const { rows } = await this.db.query<SaleRow>(RETURN_UNITS, values, tx);
    return rows.map((row) => ({
      id: row.id,
      itemId: row.item_id,
      epoch: row.epoch,
      segments: row.segments,
      status: saleStatusOf(row.status),
      released: row.released,
    }));
  }
}

interface SaleRow {
  id: bigint;
  item_id: bigint;
  epoch: bigint;
  segments: number;
  status: number;
  released: boolean;
}
