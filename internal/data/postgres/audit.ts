import { AuditCheck, type Look, type Offence } from '../../biz/audit/audit.js';
import type { Transaction } from '../../biz/transaction.js';
import type { Postgres, Statement } from './postgres.js';

const SNAPSHOT: Statement = {
  name: 'audit_snapshot',
  text: 'SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY',
};

/** Runs `work` on one moment's data, and lets it change none. */
export function onSnapshot<T>(db: Postgres, work: (tx: Transaction) => Promise<T>): Promise<T> {
  return db.run(async (tx) => {
    await db.query(SNAPSHOT, [], tx);
    return work(tx);
  });
}

/** A rule that PostgreSQL alone can judge. The statement takes the most rows wanted and gives id and detail, oldest first. */
class SqlCheck extends AuditCheck {
  constructor(
    private readonly db: Postgres,
    override readonly invariant: number,
    private readonly statement: Statement,
  ) {
    super();
  }

  override async look(limit: number): Promise<Look> {
    const { rows } = await onSnapshot(this.db, (tx) => this.db.query<Offence>(this.statement, [limit], tx));
    return { offences: rows.map(({ id, detail }) => ({ id, detail })) };
  }
}

/** Quantities are units: an order of a sku may have more than one. */
const LIVE_UNITS =
  'SELECT sale_id, sum(quantity) AS units FROM orders WHERE sale_id IS NOT NULL AND status <> 2 GROUP BY 1';

const PAID_STATUSES = '(1, 3, 4)';

const RULES: readonly (readonly [invariant: number, name: string, text: string])[] = [
  [
    1,
    'sold',
    `SELECT 'sale ' || coalesce(s.id, o.sale_id) AS id,
       CASE WHEN s.id IS NULL THEN format('%s units are sold of a sale that is not there', o.units)
         ELSE format('sold %s of %s, orders hold %s', s.sold, s.total, coalesce(o.units, 0)) END AS detail
     FROM sales s FULL JOIN (${LIVE_UNITS}) o ON o.sale_id = s.id
     WHERE s.id IS NULL OR s.sold <> coalesce(o.units, 0) OR o.units > s.total
     ORDER BY coalesce(s.id, o.sale_id) LIMIT $1`,
  ],
  [
    3,
    'limits',
    // A limit that was lowered takes nothing away: only who bought after that is over it.
    `SELECT format('user %s of sale %s', u.user_id, u.sale_id) AS id,
       format('holds %s, may have %s', u.units, coalesce(v.units, s.default_limit)) AS detail
     FROM (SELECT sale_id, user_id, sum(quantity) AS units, max(created_at) AS newest
         FROM orders WHERE sale_id IS NOT NULL AND status <> 2 GROUP BY 1, 2) u
     JOIN sales s ON s.id = u.sale_id
     LEFT JOIN vip_limits v ON v.sale_id = u.sale_id AND v.user_id = u.user_id
     WHERE u.units > coalesce(v.units, s.default_limit) AND u.newest > coalesce(v.updated_at, s.limited_at)
     ORDER BY u.sale_id, u.user_id LIMIT $1`,
  ],
  [
    5,
    'inbox_orders',
    `SELECT format('entry %s-%s', i.item_id, i.stream_id) AS id,
       CASE WHEN o.id IS NULL THEN format('its order %s is not there', i.order_id)
         ELSE format('order %s has another user, quantity or sale', o.id) END AS detail
     FROM stream_inbox i LEFT JOIN orders o ON o.id = i.order_id
     WHERE i.outcome = 'ORDER' AND (o.id IS NULL OR o.source <> 'SECKILL'
       OR (o.user_id, o.quantity) IS DISTINCT FROM (i.user_id, i.quantity) OR o.sale_id IS DISTINCT FROM i.sale_id)
     ORDER BY i.created_at, i.item_id, i.stream_id LIMIT $1`,
  ],
  [
    5,
    'inbox_dead_letters',
    `SELECT CASE WHEN d.id IS NULL THEN format('entry %s-%s', i.item_id, i.stream_id) ELSE 'dead letter ' || d.id END AS id,
       CASE WHEN d.id IS NULL THEN 'it is DEAD, and no dead letter has it' ELSE format('%s of %s is not DEAD in the inbox',
         d.message_id, d.origin) END AS detail
     FROM (SELECT * FROM stream_inbox WHERE outcome = 'DEAD') i
     FULL JOIN (SELECT * FROM dead_letters WHERE origin LIKE 'stream:seckill:%') d
       ON d.origin = 'stream:seckill:' || i.item_id AND d.message_id = i.stream_id
     WHERE i.stream_id IS NULL OR d.id IS NULL
     ORDER BY coalesce(i.created_at, d.created_at), d.id, i.stream_id LIMIT $1`,
  ],
  [
    5,
    'orders_of_entries',
    `SELECT 'order ' || o.id AS id, format('%s inbox rows lead to it', count(i.stream_id)) AS detail
     FROM orders o LEFT JOIN stream_inbox i ON i.order_id = o.id
     WHERE o.source = 'SECKILL' GROUP BY o.id HAVING count(i.stream_id) <> 1
     ORDER BY o.id LIMIT $1`,
  ],
  [
    6,
    'req_ids',
    // An order of a sku names no product; its entry's stream names the item.
    `SELECT format('request number %s of item %s', req_id, item_id) AS id, 'orders ' || string_agg(id::text, ', ' ORDER BY id) AS detail
     FROM (SELECT DISTINCT o.id, o.req_id, coalesce(o.product_id, i.item_id) AS item_id
         FROM orders o LEFT JOIN stream_inbox i ON o.product_id IS NULL AND i.order_id = o.id) AS o
     WHERE item_id IS NOT NULL GROUP BY item_id, req_id HAVING count(*) > 1
     ORDER BY min(id) LIMIT $1`,
  ],
  ...(['instance_requests', 'instance_logs'] as const).flatMap((table): [number, string, string][] => [
    [
      6,
      `${table}_sources`,
      `SELECT format('%s %s of product %s in ${table}', source, source_id, product_id) AS id,
         'instances ' || string_agg(instance_id::text, ', ' ORDER BY instance_id) AS detail
       FROM ${table} GROUP BY source, product_id, source_id HAVING count(*) > 1
       ORDER BY min(instance_id) LIMIT $1`,
    ],
    [
      6,
      `${table}_instances`,
      `SELECT format('instance %s in ${table}', instance_id) AS id, format('%s times', count(*)) AS detail
       FROM ${table} GROUP BY instance_id HAVING count(*) > 1 ORDER BY instance_id LIMIT $1`,
    ],
  ]),
  [
    6,
    'orders_instances',
    `SELECT format('instance %s in orders', instance_id) AS id, 'orders ' || string_agg(id::text, ', ' ORDER BY id) AS detail
     FROM orders WHERE instance_id IS NOT NULL GROUP BY instance_id HAVING count(*) > 1 ORDER BY instance_id LIMIT $1`,
  ],
  [
    7,
    'orders_events',
    `SELECT 'order ' || o.id AS id,
       format('instance %s, %s requests, %s events', coalesce(o.instance_id::text, 'none'), count(DISTINCT r.instance_id),
         count(DISTINCT b.id)) AS detail
     FROM orders o LEFT JOIN instance_requests r ON r.order_id = o.id
     LEFT JOIN outbox b ON b.topic = 'instance.created' AND b.ref_id = r.instance_id
     WHERE o.order_type = 'INSTANCE' AND o.status IN (1, 3) GROUP BY o.id
     HAVING count(DISTINCT r.instance_id) <> 1 OR count(DISTINCT b.id) <> 1
       OR o.instance_id IS DISTINCT FROM min(r.instance_id)
     ORDER BY o.id LIMIT $1`,
  ],
  [
    7,
    'events_requests',
    `SELECT 'instance ' || coalesce(r.instance_id, b.ref_id) AS id,
       CASE WHEN r.instance_id IS NULL THEN 'an event without a request'
         WHEN b.ref_id IS NULL THEN 'a request without an event'
         WHEN o.id IS NULL THEN format('source %s, and its order %s is not there', r.source, coalesce(r.order_id::text, ''))
         ELSE format('order %s is not paid', o.id) END AS detail
     FROM instance_requests r FULL JOIN (SELECT ref_id FROM outbox WHERE topic = 'instance.created') b
       ON b.ref_id = r.instance_id
     LEFT JOIN orders o ON o.id = r.order_id
     WHERE r.instance_id IS NULL OR b.ref_id IS NULL OR o.status = 0
       OR (o.id IS NULL AND (r.order_id IS NOT NULL OR r.source IN ('SECKILL', 'ORDER')))
     ORDER BY coalesce(r.instance_id, b.ref_id) LIMIT $1`,
  ],
  [
    8,
    'unpublished',
    `SELECT 'outbox ' || id AS id, format('%s of %s, %s attempts: %s', topic, ref_id, attempts, coalesce(last_error, '')) AS detail
     FROM outbox WHERE published_at IS NULL ORDER BY id LIMIT $1`,
  ],
  [
    8,
    'untaken',
    `SELECT 'outbox ' || b.id AS id, format('instance %s was published and the resource domain has no log of it', b.ref_id) AS detail
     FROM outbox b LEFT JOIN instance_logs l ON l.instance_id = b.ref_id
     LEFT JOIN resource_dead_letters d ON l.id IS NULL AND d.message_id = encode(sha256(b.payload), 'hex')
     WHERE b.topic = 'instance.created' AND b.published_at IS NOT NULL AND l.id IS NULL AND d.id IS NULL
     ORDER BY b.id LIMIT $1`,
  ],
  [
    9,
    'instances',
    `SELECT 'instance ' || coalesce(l.instance_id, s.instance_id) AS id,
       CASE WHEN l.id IS NULL THEN format('%s runs without a log', s.name)
         WHEN s.name IS NULL THEN format('its log %s says %s, and it does not run', l.id, l.status)
         WHEN l.status <> 'SUCCESS' THEN format('%s runs, and its log %s says %s', s.name, l.id, l.status)
         ELSE format('%s runs for another user, product or size than its log %s says', s.name, l.id) END AS detail
     FROM instance_logs l FULL JOIN simulated_instances s ON s.instance_id = l.instance_id
     WHERE (l.status IS NOT DISTINCT FROM 'SUCCESS') <> (s.name IS NOT NULL)
       OR (s.name IS NOT NULL AND (l.name, l.user_id, l.product_id, l.cpus, l.memory_mb, l.gpu, l.image)
         IS DISTINCT FROM (s.name, s.user_id, s.product_id, s.cpus, s.memory_mb, s.gpu, s.image))
     ORDER BY coalesce(l.instance_id, s.instance_id) LIMIT $1`,
  ],
  [
    10,
    'completed',
    `SELECT 'order ' || o.id AS id,
       CASE WHEN l.id IS NULL AND o.order_type = 'INSTANCE' THEN 'completed, and no log says SUCCESS'
         ELSE format('paid at %s, completed at %s', coalesce(o.paid_at::text, 'no time'), coalesce(o.completed_at::text, 'no time'))
         END AS detail
     FROM orders o LEFT JOIN instance_logs l ON l.instance_id = o.instance_id AND l.status = 'SUCCESS'
     WHERE o.status = 3 AND ((o.order_type = 'INSTANCE' AND l.id IS NULL) OR (o.paid_at <= o.completed_at) IS NOT TRUE)
     ORDER BY o.id LIMIT $1`,
  ],
  [
    11,
    'overdue',
    // The sweeper looks every second; a minute is beyond any of its pauses.
    `SELECT 'order ' || id AS id, format('was to be paid by %s', coalesce(pay_deadline::text, 'no time')) AS detail
     FROM orders WHERE status = 0 AND (pay_deadline IS NULL OR pay_deadline < now() - interval '1 minute')
     ORDER BY id LIMIT $1`,
  ],
  [
    12,
    'payments',
    `SELECT 'payment ' || p.id AS id,
       format('%s fen of order %s, %s, %s refunds', p.amount, p.order_id, p.outcome, count(r.id)) AS detail
     FROM payments p JOIN orders o ON o.id = p.order_id LEFT JOIN refunds r ON r.payment_id = p.id
     GROUP BY p.id, o.id
     HAVING CASE WHEN p.outcome = 'REFUNDED' OR o.status IN (2, 5) THEN count(r.id) <> 1 OR min(r.amount) <> p.amount
       ELSE o.status NOT IN ${PAID_STATUSES} OR p.amount <> o.amount OR count(r.id) FILTER (WHERE r.status <> 'REFUSED') <> 0 END
     ORDER BY p.id LIMIT $1`,
  ],
  [
    12,
    'paid_orders',
    // A prepaid flash-sale order is born PAID: its money came in elsewhere.
    `SELECT 'order ' || o.id AS id, format('is paid by %s payments', count(p.id)) AS detail
     FROM orders o LEFT JOIN payments p ON p.order_id = o.id AND p.outcome = 'APPLIED'
     WHERE o.status IN ${PAID_STATUSES}
       AND NOT EXISTS (SELECT FROM order_events e WHERE e.order_id = o.id AND e.version = 1 AND e.to_status = 1)
     GROUP BY o.id HAVING count(p.id) <> 1 ORDER BY o.id LIMIT $1`,
  ],
  [
    12,
    'sums',
    `SELECT 'all payments' AS id, format('%s fen came in, %s go back, %s are due', captured, refunded, due) AS detail
     FROM (SELECT coalesce(sum(amount), 0) AS captured FROM payments) p,
       (SELECT coalesce(sum(amount), 0) AS refunded FROM refunds WHERE payment_id IS NOT NULL AND status <> 'REFUSED') r,
       (SELECT coalesce(sum(amount), 0) AS due FROM orders o WHERE status IN ${PAID_STATUSES}
         AND EXISTS (SELECT FROM payments a WHERE a.order_id = o.id AND a.outcome = 'APPLIED')) o
     WHERE captured - refunded <> due LIMIT $1`,
  ],
  [
    13,
    'stock_levels',
    `SELECT 'sku ' || k.id AS id,
       format('stock %s, locked %s; its ledger adds up to %s and %s; sales hold %s, unpaid orders %s', k.stock, k.lock_stock,
         coalesce(m.stock, 0), coalesce(m.locked, 0), coalesce(s.units, 0), coalesce(u.units, 0)) AS detail
     FROM sku k
     LEFT JOIN (SELECT sku_id, sum(stock_delta) AS stock, sum(lock_delta) AS locked FROM stock_moves GROUP BY 1) m
       ON m.sku_id = k.id
     LEFT JOIN (SELECT item_id, sum(total - sold - returned) AS units FROM sales WHERE order_type = 'GOODS' GROUP BY 1) s
       ON s.item_id = k.id
     LEFT JOIN (SELECT i.sku_id, sum(i.quantity) AS units FROM orders o JOIN order_items i ON i.order_id = o.id
         WHERE o.status = 0 GROUP BY 1) u
       ON u.sku_id = k.id
     WHERE k.lock_stock NOT BETWEEN 0 AND k.stock
       OR (k.stock, k.lock_stock) <> (coalesce(m.stock, 0), coalesce(m.locked, 0))
       OR k.lock_stock <> coalesce(s.units, 0) + coalesce(u.units, 0)
     ORDER BY k.id LIMIT $1`,
  ],
  [
    13,
    'stock_of_orders',
    // What an order did to the stock is what its status says: an unpaid one holds, a paid one took, a cancelled one gave back.
    `SELECT format('order %s, sku %s', coalesce(o.id, m.order_id), coalesce(o.sku_id, m.sku_id)) AS id,
       format('status %s, %s units; its ledger: %s', o.status, o.quantity, coalesce(m.lines, 'nothing')) AS detail
     FROM (SELECT o.id, o.status, i.sku_id, i.quantity FROM orders o LEFT JOIN order_items i ON i.order_id = o.id
         WHERE o.order_type = 'GOODS') o
     FULL JOIN (SELECT order_id, sku_id, string_agg(kind || ' ' || units, ', ' ORDER BY id) AS lines,
           min(units) AS least, max(units) AS most, bool_or(kind = 'HOLD') AS held,
           bool_or(kind = 'DEDUCT') AS deducted, bool_or(kind = 'RETURN') AS returned
         FROM stock_moves WHERE order_id IS NOT NULL GROUP BY 1, 2) m
       ON m.order_id = o.id AND m.sku_id = o.sku_id
     WHERE o.quantity IS NULL OR m.order_id IS NULL OR (m.least, m.most) <> (o.quantity, o.quantity)
       OR CASE o.status WHEN 0 THEN NOT m.held OR m.deducted OR m.returned
         WHEN 2 THEN NOT m.held OR m.deducted OR NOT m.returned
         ELSE NOT m.deducted OR m.returned END
     ORDER BY coalesce(o.id, m.order_id), 1 LIMIT $1`,
  ],
];

/** The rules that PostgreSQL alone can judge. */
export function sqlChecks(db: Postgres): readonly AuditCheck[] {
  return RULES.map(([invariant, name, text]) => new SqlCheck(db, invariant, { name: `audit_${name}`, text }));
}
