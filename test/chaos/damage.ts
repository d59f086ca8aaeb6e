import type { Redis } from 'ioredis';

/** Damage done on purpose to a system at rest, to see that it is reported. */
export interface TableDamage {
  readonly name: string;
  /** Must change at least one row. */
  readonly sql: string;
}

const ONE_COMPLETED = `(SELECT id FROM orders WHERE status = 3 AND instance_id IS NOT NULL ORDER BY id LIMIT 1)`;
const ANOTHER_COMPLETED = `(SELECT id FROM orders WHERE status = 3 AND instance_id IS NOT NULL ORDER BY id OFFSET 1 LIMIT 1)`;
const ITS_INSTANCE = `(SELECT instance_id FROM orders WHERE id = ${ONE_COMPLETED})`;
const ONE_PAYMENT = '(SELECT min(id) FROM payments)';

export const TABLE_DAMAGE: readonly TableDamage[] = [
  { name: 'an order is gone', sql: `DELETE FROM orders WHERE id = ${ONE_COMPLETED}` },
  {
    name: 'an order belongs to a user who never bought',
    sql: `UPDATE orders SET user_id = gen_random_uuid() WHERE id = ${ONE_COMPLETED}`,
  },
  {
    name: 'a buyer has two orders',
    sql: `UPDATE orders SET user_id = (SELECT user_id FROM orders WHERE id = ${ANOTHER_COMPLETED}) WHERE id = ${ONE_COMPLETED}`,
  },
  { name: 'an order is of another quantity', sql: `UPDATE orders SET quantity = 2 WHERE id = ${ONE_COMPLETED}` },
  {
    name: 'two orders have one instance',
    sql: `UPDATE orders SET instance_id = ${ITS_INSTANCE} WHERE id = ${ANOTHER_COMPLETED}`,
  },
  { name: 'an order has no instance', sql: `UPDATE orders SET instance_id = NULL WHERE id = ${ONE_COMPLETED}` },
  {
    name: 'a completed order is paid only',
    sql: `UPDATE orders SET status = 1, completed_at = NULL WHERE id = ${ONE_COMPLETED}`,
  },
  {
    name: 'a paid order is cancelled',
    sql: `UPDATE orders SET status = 2 WHERE id = (SELECT order_id FROM payments WHERE id = ${ONE_PAYMENT})`,
  },
  {
    name: 'a cancelled order is paid',
    sql: 'UPDATE orders SET status = 1 WHERE id = (SELECT min(id) FROM orders WHERE status = 2)',
  },
  {
    name: 'sold is one too few',
    sql: 'UPDATE sales SET sold = sold - 1 WHERE id = (SELECT min(id) FROM sales WHERE sold > 0)',
  },
  {
    name: 'sold is one too many',
    sql: 'UPDATE sales SET sold = sold + 1 WHERE id = (SELECT max(id) FROM sales WHERE sold < total)',
  },
  { name: 'an outcome is gone', sql: `DELETE FROM stream_inbox WHERE order_id = ${ONE_COMPLETED}` },
  {
    name: 'an order is rejected in the inbox',
    sql: `UPDATE stream_inbox SET outcome = 'REJECTED', order_id = NULL, reason = 'SOLD_OUT' WHERE order_id = ${ONE_COMPLETED}`,
  },
  { name: 'an instance request is gone', sql: `DELETE FROM instance_requests WHERE order_id = ${ONE_COMPLETED}` },
  { name: 'an event is gone', sql: `DELETE FROM outbox WHERE topic = 'instance.created' AND ref_id = ${ITS_INSTANCE}` },
  { name: 'an event is not published', sql: `UPDATE outbox SET published_at = NULL WHERE ref_id = ${ITS_INSTANCE}` },
  { name: 'a job is gone', sql: `DELETE FROM instance_logs WHERE instance_id = ${ITS_INSTANCE}` },
  { name: 'a job failed', sql: `UPDATE instance_logs SET status = 'FAILED' WHERE instance_id = ${ITS_INSTANCE}` },
  { name: 'an instance is gone', sql: `DELETE FROM simulated_instances WHERE instance_id = ${ITS_INSTANCE}` },
  {
    name: 'an instance has no owner',
    sql: `INSERT INTO simulated_instances (name, instance_id, user_id, product_id, cpus, memory_mb, gpu, image)
      SELECT 'inst-1', 1, user_id, product_id, cpus, memory_mb, gpu, image FROM simulated_instances LIMIT 1`,
  },
  {
    name: 'an instance is of another user',
    sql: `UPDATE simulated_instances SET user_id = gen_random_uuid() WHERE instance_id = ${ITS_INSTANCE}`,
  },
  { name: 'a payment is gone', sql: `DELETE FROM payments WHERE id = ${ONE_PAYMENT}` },
  { name: 'a payment is smaller than its order', sql: `UPDATE payments SET amount = 0 WHERE id = ${ONE_PAYMENT}` },
];

export interface KeyDamage {
  readonly name: string;
  /** @param item of a sale that is running */
  readonly damage: (redis: Redis, itemId: bigint) => Promise<unknown>;
}

export const KEY_DAMAGE: readonly KeyDamage[] = [
  { name: 'a unit too many', damage: (redis, item) => redis.incr(`seckill:${item}:stock`) },
  { name: 'a unit too few', damage: (redis, item) => redis.decr(`seckill:${item}:stock`) },
  {
    name: 'a buyer is forgotten',
    damage: async (redis, item) => {
      const [user] = await redis.hkeys(`seckill:${item}:buyers`);
      return redis.hdel(`seckill:${item}:buyers`, user!);
    },
  },
  {
    name: 'a buyer is invented',
    damage: (redis, item) => redis.hset(`seckill:${item}:buyers`, '00000000-0000-8000-8000-0000000fffff', '1'),
  },
  {
    name: 'an entry is never settled',
    damage: (redis, item) => redis.xadd(`stream:seckill:${item}`, '*', 'uid', '1', 'ts', '1'),
  },
];
