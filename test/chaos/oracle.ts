import { formatUserId } from '../../internal/biz/identity.js';
import type { Postgres } from '../../internal/data/postgres/postgres.js';
import type { RedisServer } from '../../internal/data/redis/redis.js';
import { violationsOf } from '../support/audit.js';
import type { Purchase } from './load.js';

/** What the buyers saw, to be held against the tables. */
export interface History {
  readonly purchases: readonly Purchase[];
  readonly unexpected: readonly string[];
  /** Whether purchases that were told QUEUED may be gone or rejected. */
  readonly mayLose: boolean;
}

interface OrderRow {
  id: bigint;
  product_id: bigint;
  user_id: string;
  status: number;
  quantity: number;
}

interface RecordRow {
  seckill_id: string;
  user_id: string;
  status: string;
}

const CANCELLED = 2;
const PAID_STATUSES = [1, 3];

/**
 * Everything at rest that contradicts what the buyers were told, or an invariant. Knows nothing of how Kaimai works,
 * only
 * its tables and its promises.
 */
export async function contradictions(history: History, db: Postgres, redis: RedisServer): Promise<string[]> {
  const found = history.unexpected.map((answer) => `unexpected answer: ${answer}`);
  const items = [...new Set(history.purchases.map((p) => p.offer.itemId))];
  const { rows: orders } = await db.pool.query<OrderRow>(
    'SELECT id, product_id, user_id, status, quantity FROM orders WHERE product_id = ANY ($1)',
    [items],
  );
  const { rows: records } = await db.pool.query<RecordRow>(
    'SELECT seckill_id, user_id, status FROM seckill_records WHERE item_id = ANY ($1)',
    [items],
  );
  found.push(...fromOrders(history, orders), ...fromPurchases(history, orders, records));
  found.push(...(await violationsOf(db, redis)).map((violation) => `audit: ${violation}`));
  return found;
}

/** Every order has a buyer who asked for it, and every buyer at most one. */
function fromOrders(history: History, orders: readonly OrderRow[]): string[] {
  const found: string[] = [];
  const asked = new Set(history.purchases.map((p) => `${p.offer.itemId} ${formatUserId(String(p.user))}`));
  const holders = new Set<string>();
  for (const order of orders) {
    const holder = `${order.product_id} ${order.user_id}`;
    if (!asked.has(holder)) found.push(`order ${order.id}: ${order.user_id} never asked for item ${order.product_id}`);
    if (order.quantity !== 1) found.push(`order ${order.id}: ${order.quantity} units, 1 was asked for`);
    if (order.status === CANCELLED) continue;
    if (holders.has(holder))
      found.push(`order ${order.id}: another one of ${order.user_id} for item ${order.product_id}`);
    holders.add(holder);
  }
  return found;
}

/** Every buyer finds what the replies said. */
function fromPurchases(history: History, orders: readonly OrderRow[], records: readonly RecordRow[]): string[] {
  const found: string[] = [];
  const recordOf = new Map(records.map((r) => [r.seckill_id, r]));
  const orderOf = new Map<string, OrderRow[]>();
  for (const order of orders) {
    const holder = `${order.product_id} ${order.user_id}`;
    orderOf.set(holder, [...(orderOf.get(holder) ?? []), order]);
  }
  for (const { user, offer, answer, settled } of history.purchases) {
    if (!answer) continue;
    const userId = formatUserId(String(user));
    const who = `user ${user}, item ${offer.itemId}`;
    const own = orderOf.get(`${offer.itemId} ${userId}`) ?? [];
    if (answer.code === 'QUEUED') {
      const record = recordOf.get(answer.seckillId);
      if (record && record.user_id !== userId) found.push(`${who}: ${answer.seckillId} is of ${record.user_id}`);
      else if (!record && !history.mayLose) found.push(`${who}: QUEUED ${answer.seckillId} left no trace`);
      else if (record?.status === 'REJECTED' && !history.mayLose)
        found.push(`${who}: QUEUED ${answer.seckillId}, then rejected`);
    } else if (offer.plenty && !(history.mayLose && answer.code === 'LIMIT_REACHED')) {
      found.push(`${who}: ${answer.code}, though there is plenty and one unit was asked for once`);
    }
    if (settled === 'PAID' && !own.some((o) => PAID_STATUSES.includes(o.status))) {
      found.push(`${who}: the payment was acknowledged, and no order is paid`);
    }
    if (settled === 'CANCELLED' && !own.some((o) => o.status === CANCELLED)) {
      found.push(`${who}: the cancellation was acknowledged, and no order is cancelled`);
    }
  }
  return found;
}
