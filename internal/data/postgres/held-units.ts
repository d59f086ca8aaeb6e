import { orderDeducted, orderReturned, type StockRepo } from '../../biz/catalog/stock.js';
import { HeldUnits } from '../../biz/order/order.js';
import type { Order } from '../../biz/order/order-state.js';
import type { UnitsReturn } from '../../biz/seckill/admission.js';
import { encodeUnitsReturn, TOPIC_SECKILL_RETURN } from '../../biz/seckill/seckill-return.js';
import type { Transaction } from '../../biz/transaction.js';
import type { Postgres, Statement } from './postgres.js';

// Sorted by sale, so that two transactions that give back to the same sales lock them in one order.
const GIVE_BACK: Statement = {
  name: 'sale_give_back',
  text: `WITH t AS (
      SELECT sale_id, sum(quantity) AS quantity FROM unnest($1::bigint[], $2::int[]) AS t(sale_id, quantity)
      GROUP BY sale_id),
    locked AS (SELECT id FROM sales WHERE id IN (SELECT sale_id FROM t) ORDER BY id FOR UPDATE)
    UPDATE sales SET sold = sold - t.quantity, updated_at = now(),
      returned = CASE WHEN released_at IS NULL THEN returned ELSE returned + t.quantity END
    FROM t JOIN locked ON locked.id = t.sale_id WHERE sales.id = t.sale_id
    RETURNING sales.id, sales.item_id, sales.epoch, sales.status,
      sales.released_at IS NOT NULL AS released`,
};

const APPEND_RETURNS: Statement = {
  name: 'outbox_append_returns',
  text: `INSERT INTO outbox (topic, ref_id, payload)
    SELECT $1, ref_id, payload FROM unnest($2::bigint[], $3::bytea[]) AS t(ref_id, payload)`,
};

/** Flash-sale orders hold units of their sale, and of goods units of the sku; others hold nothing. */
export class PgHeldUnits extends HeldUnits {
  constructor(
    private readonly db: Postgres,
    private readonly stock: StockRepo,
  ) {
    super();
  }

  override async giveBack(tx: Transaction, orders: readonly Order[]): Promise<void> {
    const held = orders.filter((o) => o.saleId !== undefined);
    if (held.length === 0) return;
    const { rows } = await this.db.query<SaleRow>(
      GIVE_BACK,
      [held.map((o) => o.saleId), held.map((o) => o.quantity)],
      tx,
    );
    const sales = new Map(rows.map((row) => [row.id, row]));
    const goods = held.filter((o) => o.orderType === 'GOODS');
    await this.stock.move(
      tx,
      goods.map((o) => orderReturned(o, sales.get(o.saleId ?? 0n)?.released === true)),
    );
    const returns = held.flatMap((order): UnitsReturn[] => {
      const sale = sales.get(order.saleId ?? 0n);
      // Nobody is admitted to a sale that is not open.
      if (sale?.status !== OPEN) return [];
      const { id: orderId, userId, quantity } = order;
      return [{ orderId, itemId: sale.item_id, userId, quantity, epoch: sale.epoch }];
    });
    if (returns.length === 0) return;
    const payloads = returns.map((r) => Buffer.from(encodeUnitsReturn(r)));
    await this.db.query(APPEND_RETURNS, [TOPIC_SECKILL_RETURN, returns.map((r) => r.orderId), payloads], tx);
  }

  override async deduct(tx: Transaction, orders: readonly Order[]): Promise<void> {
    const goods = orders.filter((o) => o.orderType === 'GOODS');
    await this.stock.move(tx, goods.map(orderDeducted));
  }
}

const OPEN = 1;

interface SaleRow {
  id: bigint;
  item_id: bigint;
  epoch: bigint;
  status: number;
  released: boolean;
}
