import { HeldUnits } from '../biz/order.js';
import type { Order } from '../biz/order-state.js';
import type { Transaction } from '../biz/transaction.js';
import type { Postgres, Statement } from './postgres.js';

/** Outbox topic of units that admission gets back; ref_id is the order, the payload a `UnitsReturn` as JSON. */
export const TOPIC_SECKILL_RETURN = 'seckill.return';

/** Told to Redis after the transaction that gave the units back in PostgreSQL. Decimal strings: Lua has no int64. */
export interface UnitsReturn {
  readonly orderId: string;
  readonly itemId: string;
  readonly userId: string;
  readonly quantity: number;
  /** The opening that admitted the order; units of another are already part of a newer count. */
  readonly epoch: string;
}

// Sorted by sale, so that two transactions that give back to the same sales lock them in one order.
const GIVE_BACK: Statement = {
  name: 'sale_give_back',
  text: `WITH t AS (
      SELECT sale_id, sum(quantity) AS quantity FROM unnest($1::bigint[], $2::int[]) AS t(sale_id, quantity)
      GROUP BY sale_id),
    locked AS (SELECT id FROM sales WHERE id IN (SELECT sale_id FROM t) ORDER BY id FOR UPDATE)
    UPDATE sales SET sold = sold - t.quantity, version = version + 1, updated_at = now()
    FROM t JOIN locked ON locked.id = t.sale_id WHERE sales.id = t.sale_id`,
};

const APPEND_RETURNS: Statement = {
  name: 'outbox_append_returns',
  text: `INSERT INTO outbox (topic, ref_id, payload)
    SELECT '${TOPIC_SECKILL_RETURN}', ref_id, payload FROM unnest($1::bigint[], $2::bytea[]) AS t(ref_id, payload)`,
};

/** Flash-sale orders hold units of their sale; others hold nothing. */
export class PgHeldUnits extends HeldUnits {
  constructor(private readonly db: Postgres) {
    super();
  }

  async giveBack(tx: Transaction, orders: readonly Order[]): Promise<void> {
    const held = orders.filter((o) => o.saleId !== undefined);
    if (held.length === 0) return;
    await this.db.query(GIVE_BACK, [held.map((o) => o.saleId), held.map((o) => o.quantity)], tx);
    const payloads = held.map((o) => Buffer.from(JSON.stringify(returnOf(o))));
    await this.db.query(APPEND_RETURNS, [held.map((o) => o.id), payloads], tx);
  }
}

function returnOf(order: Order): UnitsReturn {
  return {
    orderId: String(order.id),
    itemId: String(order.productId),
    userId: order.userId,
    quantity: order.quantity,
    epoch: String(order.reqId >> 32n),
  };
}
