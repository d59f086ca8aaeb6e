import assert from 'node:assert/strict';
import pg from 'pg';
import { formatUserId } from '../../internal/biz/identity.js';
import { useServers } from '../support/servers.js';

const ORDER_LIST = `SELECT 
    order_no, order_type,
    -- 商品信息（商品购买时有值）
    goods_name, goods_type, goods_price,
    -- 内容信息（内容直购时有值）
    content_title, content_type, content_price,
    -- 通用信息
    total_amount, status, pay_time, create_time
FROM order_info 
WHERE user_id = 1001 AND deleted = 0 
ORDER BY create_time DESC;`;

const GOODS_ORDERS = `SELECT 
    order_no, goods_name, goods_type, goods_price,
    total_amount, status, create_time
FROM order_info 
WHERE user_id = 1001 AND order_type = 'GOODS' AND deleted = 0 
ORDER BY create_time DESC;`;

const CONTENT_ORDERS = `SELECT 
    order_no, content_title, content_type, content_price,
    total_amount, status, create_time
FROM order_info 
WHERE user_id = 1001 AND order_type = 'CONTENT' AND deleted = 0 
ORDER BY create_time DESC;`;

const ACCESS = `SELECT COUNT(*) > 0 as has_access
FROM order_content_association 
WHERE user_id = 1001 
  AND content_id = 101 
  AND status = 'ACTIVE' 
  AND deleted = 0
  AND access_start_time <= NOW()
  AND (access_end_time IS NULL OR access_end_time > NOW());`;

const CONTENTS_OF_ORDER = `SELECT 
    content_id, content_title, content_type, access_type,
    access_start_time, access_end_time, status
FROM order_content_association 
WHERE order_no = 'ORDER20240101001' AND deleted = 0;`;

const EXPIRY = `UPDATE order_content_association 
SET status = 'EXPIRED' 
WHERE status = 'ACTIVE' 
  AND access_end_time IS NOT NULL 
  AND access_end_time < NOW()
  AND deleted = 0;`;

/**
 * Corrected, in the order of the text. COMPLETED: an order of content is completed in the transaction that pays it, and
 * other orders go on from PAID as well. opens_content: an order that opens nothing is not at fault. GROUP BY: a view has no
 * primary key that the other columns depend on. HAVING: only MySQL knows the names of the SELECT list there.
 */
const CONSISTENCY = `SELECT 
    oi.order_no,
    oi.status,
    COUNT(oca.id) as content_count
FROM order_info oi
LEFT JOIN order_content_association oca ON oi.id = oca.order_id 
WHERE oi.deleted = 0 AND oi.status IN ('PAID', 'SHIPPED', 'COMPLETED', 'REFUNDING') AND oi.opens_content
GROUP BY oi.id, oi.order_no, oi.status
HAVING COUNT(oca.id) = 0;  -- 已支付但无内容权限的异常订单`;

const USER = formatUserId('1001');
/** Of other users, so that an index is worth its while. */
const OTHERS = 20_000;

// Document 003 (docs/documents.md). All queries but the consistency check are as it writes them.
describe('The queries of document 003', () => {
  const servers = useServers('postgres');
  let client: pg.Client;

  before(async () => {
    client = new pg.Client({ connectionString: servers.postgresUrl });
    await client.connect();
    const line = (sku: number, name: string, more = '') =>
      `{"sku_id": "${sku}", "sku_name": "${name}", "price": "9900"${more}}`;
    await client.query(`
      SET session_replication_role = replica;
      INSERT INTO contents (id, title, content_type, price, access_type) VALUES (101, 'TypeScript 入门', 'COURSE', 1990, 'PERMANENT');
      INSERT INTO orders (id, user_id, order_type, req_id, amount, freight_amount, promotion_amount, price, quantity, status, source,
          product_id, product_name, goods_type, items, content_id, content_type, created_at, paid_at, deleted) VALUES
        (1, '${USER}', 'INSTANCE', 1, 9900, 0, 0, 9900, 1, 3, 'NORMAL', 7, 'small', NULL, NULL, NULL, NULL, now() - interval '5 h', now(), false),
        (2, '${USER}', 'GOODS', 2, 29650, 1000, 1050, 9900, 3, 5, 'NORMAL', NULL, '手机 黑色', 'PHYSICAL',
          '[${line(21, '手机 黑色')}, ${line(22, '耳机')}]', NULL, NULL, now() - interval '4 h', now(), false),
        (3, '${USER}', 'CONTENT', 3, 1990, 0, 0, 1990, 1, 3, 'NORMAL', NULL, 'TypeScript 入门', NULL, NULL, 101, 'COURSE', now() - interval '3 h', now(), false),
        (4, '${USER}', 'GOODS', 4, 9900, 0, 0, 9900, 1, 1, 'NORMAL', NULL, '会员卡', 'MEMBERSHIP',
          '[${line(23, '会员卡', ', "contents": [{"content_id": "101", "days": 30}]')}]', NULL, NULL, now() - interval '2 h', now(), false),
        (5, '${USER}', 'GOODS', 5, 1000000000000, 0, 0, 1000000000000, 1, 0, 'NORMAL', NULL, '岛', NULL, '[${line(24, '岛')}]', NULL, NULL,
          now() - interval '1 h', NULL, false),
        (6, '${USER}', 'INSTANCE', 6, 9900, 0, 0, 9900, 1, 2, 'NORMAL', 7, 'small', NULL, NULL, NULL, NULL, now(), NULL, true);
      INSERT INTO order_content_association (order_id, user_id, content_id, content_title, content_type, access_type, access_start_time,
          access_end_time) VALUES
        (3, '${USER}', 101, 'TypeScript 入门', 'COURSE', 'PERMANENT', now() - interval '3 h', NULL),
        (9, '${USER}', 102, 'Rust 入门', 'COURSE', 'TEMPORARY', now() - interval '2 day', now() - interval '1 day');
      INSERT INTO orders (id, user_id, product_id, req_id, amount, status, source)
        SELECT 1000 + n, user_uuid(100000 + n % 2000), 7, n + 10, 9900, n % 4, 'NORMAL' FROM generate_series(1, ${OTHERS}) AS n;
      INSERT INTO order_content_association (order_id, user_id, content_id, content_title, content_type, access_type, access_start_time)
        SELECT 1000 + n, user_uuid(100000 + n % 2000), 101 + n % 50, 'Kurs', 'COURSE', 'PERMANENT', now() FROM generate_series(1, ${OTHERS}) AS n;
      SET session_replication_role = origin;`);
    await client.query('VACUUM ANALYZE orders, order_content_association');
    await client.query('SET ROLE kaimai_product');
  });
  after(() => client.end());

  async function rowsOf(sql: string): Promise<Record<string, unknown>[]> {
    return (await client.query(sql)).rows as Record<string, unknown>[];
  }
  const columns = (rows: Record<string, unknown>[], ...names: string[]) => rows.map((row) => names.map((n) => row[n]));

  it('list the orders of user 1001 with goods, content and amounts in yuan, newest first', async () => {
    const rows = await rowsOf(ORDER_LIST);
    assert.deepEqual(columns(rows, 'order_no', 'order_type', 'status', 'total_amount'), [
      ['ORD5', 'GOODS', 'PENDING', null],
      ['ORD4', 'GOODS', 'PAID', '99.00'],
      ['ORD3', 'CONTENT', 'COMPLETED', '19.90'],
      ['ORD2', 'GOODS', 'REFUNDING', '297.00'],
      ['ORD1', 'INSTANCE', 'COMPLETED', '99.00'],
    ]);
    assert.deepEqual(columns(rows, 'goods_name', 'goods_type', 'goods_price'), [
      ['岛', null, null],
      ['会员卡', 'MEMBERSHIP', '99.00'],
      [null, null, null],
      ['手机 黑色', 'PHYSICAL', '99.00'],
      ['small', 'INSTANCE', '99.00'],
    ]);
    assert.deepEqual(columns(rows.slice(2, 4), 'content_title', 'content_type', 'content_price'), [
      ['TypeScript 入门', 'COURSE', '19.90'],
      [null, null, null],
    ]);
  });

  it('list the orders of goods and those of content', async () => {
    assert.deepEqual(columns(await rowsOf(GOODS_ORDERS), 'order_no'), [['ORD5'], ['ORD4'], ['ORD2']]);
    assert.deepEqual(columns(await rowsOf(CONTENT_ORDERS), 'order_no', 'content_price'), [['ORD3', '19.90']]);
  });

  it('show the first of several lines and how many there are', async () => {
    const rows = await rowsOf(
      "SELECT * FROM order_info WHERE user_id = 1001 AND order_type IN ('GOODS', 'CONTENT') ORDER BY id",
    );
    assert.deepEqual(
      columns(rows, 'goods_id', 'goods_count', 'content_id', 'opens_content', 'pay_amount', 'version', 'deleted'),
      [
        ['21', 2, null, false, '296.50', '1', 0],
        [null, 0, '101', true, '19.90', '1', 0],
        ['23', 1, null, true, '99.00', '1', 0],
        ['24', 1, null, false, null, '1', 0],
      ],
    );
  });

  it('check the access of user 1001 to content 101, and to one that has ended', async () => {
    assert.deepEqual(await rowsOf(ACCESS), [{ has_access: true }]);
    assert.deepEqual(await rowsOf(ACCESS.replace('101', '102')), [{ has_access: false }]);
    assert.deepEqual(await rowsOf(ACCESS.replace('1001', '1002')), [{ has_access: false }]);
  });

  it('show what an order has opened', async () => {
    assert.deepEqual(await rowsOf(CONTENTS_OF_ORDER), []);
    const rows = await rowsOf(CONTENTS_OF_ORDER.replace('ORDER20240101001', 'ORD3'));
    assert.deepEqual(columns(rows, 'content_id', 'content_title', 'access_type', 'access_end_time', 'status'), [
      ['101', 'TypeScript 入门', 'PERMANENT', null, 'ACTIVE'],
    ]);
  });

  it('find the paid order that should have opened a content and did not', async () => {
    assert.deepEqual(await rowsOf(CONSISTENCY), [{ order_no: 'ORD4', status: 'PAID', content_count: '0' }]);
  });

  it('expire what has ended, and nothing else', async () => {
    await client.query('BEGIN');
    try {
      assert.equal((await client.query(EXPIRY)).rowCount, 1);
      const rows = await rowsOf(`SELECT content_id FROM order_content_association WHERE status = 'EXPIRED'`);
      assert.deepEqual(rows, [{ content_id: '102' }]);
    } finally {
      await client.query('ROLLBACK');
    }
  });

  it('run for the resource domain as well, as far as they read orders', async () => {
    await client.query('SET ROLE kaimai_resource');
    try {
      assert.equal((await rowsOf(ORDER_LIST)).length, 5);
      assert.deepEqual(await rowsOf('SELECT user_uuid(1001) = 1001 AS same, yuan(1990) AS price'), [
        { same: true, price: '19.90' },
      ]);
    } finally {
      await client.query('SET ROLE kaimai_product');
    }
  });

  interface PlanNode {
    readonly 'Node Type': string;
    readonly 'Index Name'?: string;
    readonly 'Index Cond'?: string;
    readonly Plans?: readonly PlanNode[];
  }

  async function scanOf(sql: string): Promise<PlanNode> {
    const { rows } = await client.query<{ 'QUERY PLAN': { Plan: PlanNode }[] }>(`EXPLAIN (FORMAT JSON) ${sql}`);
    let node = rows[0]!['QUERY PLAN'][0]!.Plan;
    while (node.Plans) node = node.Plans[0]!;
    return node;
  }

  it('find a user by number on the index, as by UUID', async () => {
    const list = await scanOf(ORDER_LIST);
    assert.equal(list['Node Type'], 'Index Only Scan', 'the list reads rows of the table');
    assert.equal(list['Index Name'], 'idx_orders_user_id');
    assert.equal(list['Index Cond'], `(user_id = '${USER}'::uuid)`);
    for (const sql of [GOODS_ORDERS, CONTENT_ORDERS])
      assert.deepEqual((await scanOf(sql))['Index Name'], 'idx_orders_user_id');
    const access = await scanOf(ACCESS);
    assert.equal(access['Index Name'], 'idx_user_content');
    assert.equal(access['Index Cond'], `((user_id = '${USER}'::uuid) AND (content_id = 101))`);
    assert.equal((await scanOf(CONTENTS_OF_ORDER))['Index Name'], 'idx_oca_order_no');
    assert.equal((await scanOf(EXPIRY))['Index Name'], 'idx_access_end_time');
  });

  it('compare a user id with a number as the services map it, over all int64', async () => {
    for (const id of [
      '0',
      '1',
      '123',
      String(2n ** 47n),
      String(2n ** 48n),
      String(2n ** 60n + 7n),
      String(2n ** 63n - 1n),
    ]) {
      const [row] = await rowsOf(
        `SELECT user_uuid(${id}) AS uuid, '${formatUserId(id)}'::uuid = ${id}::bigint AS same`,
      );
      assert.deepEqual(row, { uuid: formatUserId(id), same: true });
    }
    assert.deepEqual(await rowsOf('SELECT user_uuid(-1) AS uuid'), [{ uuid: null }]);
  });
});
