import assert from 'node:assert/strict';
import pg from 'pg';
import { STATISTICS } from '../../internal/local/statistics.js';
import { useServers } from '../support/servers.js';

// The example queries of documents 000 and 001, unchanged.
const QUERIES: readonly { readonly name: string; readonly sql: string; readonly params?: readonly unknown[] }[] = [
  {
    name: '查询商品及规格',
    sql: `SELECT 
    p.id, p.name, p.description, p.status, p.price,
    s.cpu, s.memory, s.gpu, s.image, s.config_json
FROM products p
JOIN product_specs s ON p.spec_id = s.id
WHERE p.id = $1;`,
    params: [1001],
  },
  {
    name: '查询用户订单',
    sql: `SELECT 
    o.id, o.product_id, o.amount, o.instance_id, o.status,
    o.created_at, o.paid_at, o.completed_at,
    p.name as product_name
FROM orders o
JOIN products p ON o.product_id = p.id
WHERE o.user_id = $1
ORDER BY o.created_at DESC;`,
    params: ['00000000-0000-8000-8000-00000000007b'],
  },
  {
    name: '查询实例创建日志',
    sql: `SELECT 
    il.id, il.product_id, il.user_id, il.instance_id,
    il.source, il.source_id, il.status,
    il.created_at, il.updated_at,
    p.name as product_name
FROM instance_logs il
JOIN products p ON il.product_id = p.id
WHERE il.user_id = $1
ORDER BY il.created_at DESC;`,
    params: ['00000000-0000-8000-8000-00000000007b'],
  },
  { name: '查询秒杀创建的实例', sql: `SELECT * FROM instance_logs WHERE source = 'SECKILL';` },
  { name: '查询订单创建的实例', sql: `SELECT * FROM instance_logs WHERE source = 'ORDER';` },
  {
    name: '通过 StreamID 追溯',
    sql: `SELECT * FROM instance_logs WHERE source = 'SECKILL' AND source_id = '1234567890-0';`,
  },
  {
    name: '通过 OrderID 追溯',
    sql: `SELECT * FROM instance_logs WHERE source = 'ORDER' AND source_id = 'ORD123456';`,
  },
  {
    name: '统计各来源的实例创建数量',
    sql: `SELECT source, COUNT(*) as count
FROM instance_logs
GROUP BY source;`,
  },
  ...STATISTICS.map(({ title, sql }) => ({ name: title, sql })),
];

describe('schema', () => {
  const servers = useServers('postgres');
  let client: pg.Client;

  before(async () => {
    client = new pg.Client({ connectionString: servers.postgresUrl });
    await client.connect();
    await client.query(`
      INSERT INTO product_specs (cpu, memory, image) VALUES (2, 4, 'debian-12');
      INSERT INTO products (name, status, price, spec_id) VALUES ('small', 1, 9900, 1);
      INSERT INTO orders (id, user_id, product_id, req_id, amount, status, source)
        VALUES (1, '00000000-0000-8000-8000-00000000007b', 1001, 1, 9900, 1, 'SECKILL');
      INSERT INTO instance_logs (product_id, user_id, instance_id, source, source_id, status) VALUES
        (1001, '00000000-0000-8000-8000-00000000007b', 5, 'SECKILL', '1234567890-0', 'SUCCESS'),
        (1001, '00000000-0000-8000-8000-00000000007b', 6, 'ORDER', 'ORD123456', 'FAILED');`);
  });
  after(() => client.end());

  for (const { name, sql, params } of QUERIES) {
    it(`runs the source documents’ query ${name} unchanged`, async () => {
      const { rows } = await client.query(sql, params as unknown[]);
      assert.ok(rows.length > 0, 'the rows put in above are found');
    });
  }

  it('gives the first product the id 1001', async () => {
    assert.deepEqual((await client.query('SELECT id FROM products')).rows, [{ id: '1001' }]);
  });

  it('rejects every change of a specification', async () => {
    await assert.rejects(client.query('UPDATE product_specs SET cpu = 4'), /product_specs 1 is immutable/);
  });

  it('has the indexes of document 000', async () => {
    const { rows } = await client.query<{ indexname: string }>(
      "SELECT indexname FROM pg_indexes WHERE schemaname = 'public'",
    );
    const found = new Set(rows.map((r) => r.indexname));
    for (const name of [
      'idx_products_spec_id',
      'idx_products_status',
      'uk_orders_product_req',
      'idx_orders_user_id',
      'idx_orders_product_id',
      'idx_orders_instance_id',
      'idx_orders_status',
      'idx_orders_source',
      'idx_instance_logs_product_id',
      'idx_instance_logs_user_id',
      'idx_instance_logs_instance_id',
      'idx_instance_logs_source',
      'idx_instance_logs_source_id',
    ]) {
      assert.ok(found.has(name), name);
    }
  });

  it('documents for every table which process writes it, and grants no other role the right to', async () => {
    const { rows } = await client.query<{ name: string; comment: string | null; product: boolean; resource: boolean }>(`
      SELECT c.relname AS name, obj_description(c.oid) AS comment,
        has_table_privilege('kaimai_product', c.oid, 'INSERT, UPDATE, DELETE') AS product,
        has_table_privilege('kaimai_resource', c.oid, 'INSERT, UPDATE, DELETE') AS resource
      FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
        AND c.relname <> 'schema_migrations'`);
    assert.ok(rows.length >= 13);
    for (const row of rows) {
      const writer = /Written by: (product|resource)\.$/.exec(row.comment ?? '')?.[1];
      assert.ok(writer, `${row.name} has no "Written by" in its comment`);
      assert.equal(row.product, writer === 'product', `${row.name}: product`);
      assert.equal(row.resource, writer === 'resource', `${row.name}: resource`);
    }
  });
});
