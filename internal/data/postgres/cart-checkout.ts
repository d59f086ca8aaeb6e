import {
  type CartCheckout,
  CartCheckoutRepo,
  type NewCartCheckout,
  type ReadCart,
} from '../../biz/order/cart-checkout.js';
import type { Transaction } from '../../biz/transaction.js';
import { int8s, texts, uuids } from './column.js';
import type { Postgres, Statement } from './postgres.js';

// The first statement takes the locks, so that the second one sees what their earlier holders committed.
const LOCK: Statement = {
  name: 'cart_checkout_lock',
  text: `SELECT pg_advisory_xact_lock(h)
    FROM (SELECT DISTINCT hashtextextended('check out ' || u, 0) AS h FROM unnest($1::uuid[]) AS t(u) ORDER BY h) AS hashes`,
};

/** A checkout whose row is gone was saved with the cart. */
const FIND_LATER: Statement = {
  name: 'cart_checkout_find_later',
  text: `SELECT t.user_id FROM unnest($1::uuid[], $2::bigint[]) AS t(user_id, taken)
    WHERE EXISTS (SELECT FROM cart_checkouts k WHERE k.user_id = t.user_id AND k.id > t.taken)
      OR EXISTS (SELECT FROM carts c WHERE c.owner_id = t.user_id AND NOT c.guest AND c.taken > t.taken)`,
};

const INSERT: Statement = {
  name: 'cart_checkout_insert',
  text: `INSERT INTO cart_checkouts (user_id, order_id, lines)
    SELECT user_id, order_id, lines::jsonb FROM unnest($1::uuid[], $2::bigint[], $3::text[]) AS t(user_id, order_id, lines)`,
};

const COLUMNS = 'id, user_id, order_id, lines';

const LIST_OF: Statement = {
  name: 'cart_checkout_list_of',
  text: `SELECT ${COLUMNS} FROM cart_checkouts WHERE user_id = $1 AND id > $2 ORDER BY id`,
};

const LIST_OPEN: Statement = {
  name: 'cart_checkout_list_open',
  text: `SELECT ${COLUMNS} FROM cart_checkouts
    WHERE left_at IS NULL AND at < now() - $1 * interval '1 ms' AND id > $2 ORDER BY id LIMIT $3`,
};

const CLOSE: Statement = {
  name: 'cart_checkout_close',
  text: 'UPDATE cart_checkouts SET left_at = now() WHERE id = ANY ($1::bigint[]) AND left_at IS NULL',
};

export class PgCartCheckoutRepo extends CartCheckoutRepo {
  constructor(private readonly db: Postgres) {
    super();
  }

  override async lockUsers(tx: Transaction, carts: readonly ReadCart[]): Promise<ReadonlySet<string>> {
    const users = uuids(carts, (c) => c.userId);
    await this.db.query(LOCK, [users], tx);
    const values = [users, int8s(carts, (c) => c.taken)];
    const { rows } = await this.db.query<{ user_id: string }>(FIND_LATER, values, tx);
    return new Set(rows.map((row) => row.user_id));
  }

  override async insert(tx: Transaction, checkouts: readonly NewCartCheckout[]): Promise<void> {
    const linesOf = ({ lines }: NewCartCheckout) =>
      JSON.stringify(lines.map(({ skuId, quantity }) => ({ sku_id: String(skuId), quantity })));
    const values = [uuids(checkouts, (c) => c.userId), int8s(checkouts, (c) => c.orderId), texts(checkouts, linesOf)];
    await this.db.query(INSERT, values, tx);
  }

  override async listOf(userId: string, afterId: bigint): Promise<readonly CartCheckout[]> {
    return (await this.db.query<CheckoutRow>(LIST_OF, [userId, afterId])).rows.map(checkoutOf);
  }

  override async listOpen(minAgeMs: number, afterId: bigint, limit: number): Promise<readonly CartCheckout[]> {
    return (await this.db.query<CheckoutRow>(LIST_OPEN, [minAgeMs, afterId, limit])).rows.map(checkoutOf);
  }

  override async close(ids: readonly bigint[]): Promise<void> {
    await this.db.query(CLOSE, [int8s(ids, (id) => id)]);
  }
}

interface CheckoutRow {
  id: bigint;
  user_id: string;
  order_id: bigint;
  lines: { sku_id: string; quantity: number }[];
}

function checkoutOf({ id, user_id: userId, order_id: orderId, lines }: CheckoutRow): CartCheckout {
  return { id, userId, orderId, lines: lines.map((l) => ({ skuId: BigInt(l.sku_id), quantity: l.quantity })) };
}
