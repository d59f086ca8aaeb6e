/** The orders that reads are measured on: Kaimai's tables, and the same facts in normalised ones (schema `joined`). */
import type { Space, Stage } from './stage.js';

const ITEMS = 1_000;
/** Ids of contents begin after it. */
export const CONTENTS_AFTER = 30_000;
export const CONTENTS = 500;
const DAYS = 30;

/**
 * Two thirds of the orders are of goods, with one to three lines, a twelfth is of content, the others are of instances. One SKU in
 * four opens a content. Order n belongs to user n % users, and was created in the last 30 days.
 */
function steps(orders: number, users: number): readonly string[] {
  const goodsName = (n: string) => `'Goods ' || (${n}) % 500 || ', black, 256G'`;
  const sku = (i: string) => `20001 + (item + ${i} * 77) % ${ITEMS}`;
  return [
    `INSERT INTO product_specs (id, cpu, memory, image) VALUES (1, 2, 4, 'debian-12')`,
    `INSERT INTO products (id, name, status, price, spec_id) SELECT n, 'Plan ' || n, 1, 9900, 1 FROM generate_series(1, ${ITEMS}) AS n`,
    `INSERT INTO spu (id, spu_no, title, category_id, brand_id, publish_status, goods_type)
      SELECT 10000 + n, 'P' || n, 'Goods ' || n, n % 20, n % 50, 1, 'PHYSICAL' FROM generate_series(1, 500) AS n`,
    `INSERT INTO sku (id, spu_id, sku_no, sku_name, price, specs)
      SELECT 20000 + n, 10001 + n % 500, 'K' || n, ${goodsName('n')}, 9900, '{"color": "black", "storage": "256G"}'
      FROM generate_series(1, ${ITEMS}) AS n`,
    `INSERT INTO contents (id, title, content_type, price, access_type, publish_status)
      SELECT ${CONTENTS_AFTER} + n, 'Course ' || n, 'COURSE', 1900, 'PERMANENT', 1 FROM generate_series(1, ${CONTENTS}) AS n`,
    `INSERT INTO sku_contents (sku_id, content_id, access_type)
      SELECT 20000 + n, ${CONTENTS_AFTER} + 1 + n % ${CONTENTS}, 'PERMANENT' FROM generate_series(4, ${ITEMS}, 4) AS n`,
    // Foreign keys and triggers would take most of the time. The statistics are counted at the end.
    'SET session_replication_role = replica',
    `CREATE UNLOGGED TABLE facts AS SELECT n AS id, user_uuid(n % ${users}) AS user_id,
        CASE WHEN n % 12 < 8 THEN 'GOODS' WHEN n % 12 = 8 THEN 'CONTENT' ELSE 'INSTANCE' END AS order_type,
        (ARRAY[1, 1, 1, 3, 3, 3, 3, 2, 0, 5])[1 + (n / 7) % 10]::smallint AS status, 1 + (n / 3) % ${ITEMS} AS item,
        CASE WHEN n % 12 < 8 THEN 1 + (n / 5) % 3 ELSE 1 END AS lines, 100 + n % 9900 AS price,
        now() - interval '${DAYS} days' * (1 - n::float8 / ${orders}) AS created_at
      FROM generate_series(1, ${orders}) AS n`,
    `INSERT INTO orders (id, user_id, order_type, product_id, content_id, content_type, goods_type, product_name, req_id, amount, price,
        quantity, status, source, created_at, updated_at, paid_at, completed_at, receiver_json, items)
      SELECT id, user_id, order_type, CASE order_type WHEN 'INSTANCE' THEN item END,
        CASE order_type WHEN 'CONTENT' THEN ${CONTENTS_AFTER} + 1 + item % ${CONTENTS} END, CASE order_type WHEN 'CONTENT' THEN 'COURSE' END,
        CASE order_type WHEN 'GOODS' THEN 'PHYSICAL' END,
        CASE order_type WHEN 'INSTANCE' THEN 'Plan ' || item WHEN 'CONTENT' THEN 'Course ' || 1 + item % ${CONTENTS}
          ELSE ${goodsName('item + 77')} END,
        id, price * lines, price, lines, status, 'NORMAL', created_at, created_at, CASE WHEN status IN (1, 3, 5) THEN created_at END,
        CASE WHEN status = 3 THEN created_at END,
        CASE order_type WHEN 'GOODS' THEN
          '{"name": "Zhang San", "phone": "13800000000", "region": "310115", "address": "Century Avenue 1"}'::jsonb END,
        CASE order_type WHEN 'GOODS' THEN (SELECT jsonb_agg(jsonb_build_object('sku_id', (${sku('i')})::text,
            'spu_id', (10001 + (${sku('i')}) % 500)::text, 'spu_name', 'Goods ' || (item + i * 77) % 500,
            'sku_name', ${goodsName('item + i * 77')}, 'sku_image', '', 'specs', '{"color": "black", "storage": "256G"}'::jsonb,
            'price', price::text, 'quantity', 1, 'promotion_amount', '0', 'seller_id', null, 'goods_type', 'PHYSICAL'))
          FROM generate_series(1, lines) AS i) END
      FROM facts ORDER BY id`,
    `INSERT INTO order_items (order_id, sku_id, spu_id, spu_name, sku_name, specs, price, quantity, total_price)
      SELECT id, ${sku('i')}, 10001 + (${sku('i')}) % 500, 'Goods ' || (item + i * 77) % 500, ${goodsName('item + i * 77')},
        '{"color": "black", "storage": "256G"}', price, 1, price
      FROM facts, generate_series(1, lines) AS i WHERE order_type = 'GOODS'`,
    `INSERT INTO order_content_association (order_id, user_id, content_id, content_title, content_type, goods_type, access_type,
        access_start_time)
      SELECT id, user_id, ${CONTENTS_AFTER} + 1 + item % ${CONTENTS}, 'Course ' || 1 + item % ${CONTENTS}, 'COURSE', NULL, 'PERMANENT', created_at
      FROM facts WHERE order_type = 'CONTENT' AND status IN (1, 3, 5)
      UNION ALL SELECT f.id, f.user_id, s.content_id, 'Course ' || s.content_id - ${CONTENTS_AFTER}, 'COURSE', 'PHYSICAL', 'PERMANENT', f.created_at
      FROM order_items o JOIN facts f ON f.id = o.order_id JOIN sku_contents s ON s.sku_id = o.sku_id WHERE f.status IN (1, 3, 5)
      ON CONFLICT DO NOTHING`,
    'SELECT order_stats_recount()',
    ...NORMALISED,
    'VACUUM ANALYZE',
  ];
}

const NORMALISED: readonly string[] = [
  'CREATE SCHEMA joined',
  'CREATE TABLE joined.products AS SELECT id, name FROM products',
  'CREATE TABLE joined.spus AS SELECT id, title, goods_type FROM spu',
  'CREATE TABLE joined.skus AS SELECT id, spu_id, sku_name, specs FROM sku',
  'CREATE TABLE joined.contents AS SELECT id, title, content_type, access_days FROM contents',
  'CREATE TABLE joined.sku_contents AS SELECT sku_id, content_id, access_days FROM sku_contents',
  `CREATE TABLE joined.orders AS SELECT id, user_id, order_type, status, source, amount, freight_amount, promotion_amount, receiver_json,
      remark, close_reason, req_id, request_id, instance_id, sale_id, seller_id, version, deleted, created_at, updated_at, pay_deadline,
      paid_at, shipped_at, completed_at FROM orders ORDER BY id`,
  `CREATE TABLE joined.lines AS SELECT order_id, row_number() OVER (PARTITION BY order_id ORDER BY sku_id)::int AS n,
      NULL::bigint AS product_id, sku_id, NULL::bigint AS content_id, price, quantity FROM order_items
    UNION ALL SELECT id, 1, product_id, NULL, content_id, price, quantity FROM orders WHERE order_type <> 'GOODS' ORDER BY 1, 2`,
  ...['products', 'spus', 'skus', 'contents', 'orders'].map(
    (table) => `ALTER TABLE joined.${table} ADD PRIMARY KEY (id)`,
  ),
  'ALTER TABLE joined.sku_contents ADD PRIMARY KEY (sku_id, content_id)',
  'CREATE INDEX ON joined.sku_contents (content_id)',
  // As many indexes, and as wide ones, as the joins can use.
  `CREATE INDEX ON joined.orders (user_id, created_at DESC, id DESC) INCLUDE (order_type, status, amount, paid_at, deleted)`,
  'CREATE INDEX ON joined.orders (status)',
  'CREATE INDEX ON joined.orders (created_at) INCLUDE (order_type, status)',
  `CREATE UNIQUE INDEX ON joined.lines (order_id, n) INCLUDE (product_id, sku_id, content_id, price, quantity)`,
  'CREATE INDEX ON joined.lines (sku_id, order_id) WHERE sku_id IS NOT NULL',
  'CREATE INDEX ON joined.lines (content_id, order_id) WHERE content_id IS NOT NULL',
  'CREATE INDEX ON joined.lines (product_id, order_id) WHERE product_id IS NOT NULL',
];

export async function fillOrders(stage: Stage, { postgresUrl }: Space, orders: number, users: number): Promise<void> {
  await stage.session(postgresUrl, steps(orders, users));
}

/** Bytes of what answers the three questions: tables with their indexes. */
export const STORAGE = `SELECT
    (SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'joined'::regnamespace)::text AS joined,
    (SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
      AND c.relname IN ('orders', 'order_items', 'order_content_association', 'order_stats', 'products', 'spu', 'sku', 'contents',
        'sku_contents'))::text AS own,
    -- Names, types and lines that other tables have as well.
    (SELECT sum(pg_column_size(product_name) + coalesce(pg_column_size(content_type), 0) + coalesce(pg_column_size(goods_type), 0)
      + coalesce(pg_column_size(items), 0)) FROM orders)::text AS copied_orders,
    (SELECT sum(pg_column_size(spu_name) + pg_column_size(sku_name) + pg_column_size(specs)) FROM order_items)::text AS copied_lines,
    (SELECT pg_total_relation_size('order_content_association') + pg_total_relation_size('order_stats'))::text AS copied_tables`;
