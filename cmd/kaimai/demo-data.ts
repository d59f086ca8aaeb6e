import { connectClient } from '../../internal/data/postgres/hosts.js';

const LOAD = `
WITH spec AS (
  INSERT INTO product_specs (cpu, memory, gpu, image, config_json)
  SELECT * FROM (VALUES
    (2, 4, 0, 'debian-12', '{"disk_gb": 40}'::jsonb),
    (8, 32, 0, 'debian-12', '{"disk_gb": 200}'::jsonb),
    (16, 64, 1, 'debian-12-cuda', '{"disk_gb": 500}'::jsonb)
  ) AS plan
  WHERE NOT EXISTS (SELECT FROM products)
  RETURNING id, cpu
), plan AS (
  INSERT INTO products (name, description, status, price, spec_id)
  SELECT name, description, 1, price, spec.id
  FROM (VALUES
    (2, 'Starter', '2 cores, 4 GB', 9900::bigint),
    (8, 'Builder', '8 cores, 32 GB', 49900),
    (16, 'Trainer', '16 cores, 64 GB, one GPU', 199900)
  ) AS offer (cpu, name, description, price)
  JOIN spec USING (cpu)
  ORDER BY cpu
  RETURNING id, name, price
), pending AS (
  -- For the first try of the payment callback: curl -X POST .../v1/orders/123/paid
  INSERT INTO orders (id, user_id, product_id, product_name, req_id, amount, price, status, source, pay_deadline)
  SELECT 123, '00000000-0000-8000-8000-00000000007b', id, name, 123, price, price, 0, 'NORMAL', now() + interval '1 year'
  FROM plan WHERE name = 'Starter'
  ON CONFLICT DO NOTHING
  RETURNING id
), event AS (
  INSERT INTO order_events (order_id, version, from_status, to_status, actor, reason)
  SELECT id, 1, NULL, 0, 'user', 'demo data' FROM pending
)
SELECT count(*)::int AS loaded FROM plan`;

/** Puts something on sale where nothing is yet. Returns how many products it added. */
export async function loadDemoData(url: string): Promise<number> {
  const client = await connectClient(url);
  try {
    await client.query('BEGIN');
    // Two launchers on one database: the second finds the products of the first.
    await client.query('LOCK TABLE products IN SHARE ROW EXCLUSIVE MODE');
    const { rows } = await client.query<{ loaded: number }>(LOAD);
    await client.query('COMMIT');
    return rows[0]?.loaded ?? 0;
  } finally {
    await client.end();
  }
}
