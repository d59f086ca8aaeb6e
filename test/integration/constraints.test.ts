import assert from 'node:assert/strict';
import pg from 'pg';
import { useServers } from '../support/servers.js';

const USER = '00000000-0000-8000-8000-000000000001';

describe('constraints of the schema', () => {
  const servers = useServers('postgres');
  let db: pg.Client;
  before(async () => {
    db = new pg.Client({ connectionString: servers.postgresUrl });
    await db.connect();
    await db.query(`
      INSERT INTO product_specs (id, cpu, memory, image) VALUES (1, 1, 1, 'i');
      INSERT INTO products (id, name, price, spec_id) VALUES (1, 'plan', 1, 1);
      INSERT INTO spu (id, spu_no, title, category_id, brand_id) VALUES (2, 'n', 't', 1, 1);
      INSERT INTO sku (id, spu_id, sku_no, sku_name, price, specs, stock, lock_stock) VALUES (3, 2, 'n', 's', 1, '{}', 5, 2);
      INSERT INTO orders (id, user_id, product_id, req_id, amount, source, status, paid_at, completed_at)
        VALUES (1, '${USER}', 1, 1, 1, 'NORMAL', 3, now(), now());
      INSERT INTO sales (id, item_id, status, starts_at, total, sold, price, pay_mode, pay_timeout_ms, default_limit,
          order_type, returned, released_at)
        VALUES (1, 3, 2, now(), 10, 4, 1, 'PREPAID', 1, 1, 'GOODS', 6, now())`);
  });
  after(() => db.end());

  const refuses = (what: string, constraint: string, statement: string) =>
    it(`refuse ${what}`, async () => {
      await assert.rejects(db.query(statement), (err: pg.DatabaseError) => {
        assert.equal(err.constraint, constraint, err.message);
        return true;
      });
    });

  refuses(
    'an order that was completed before it was paid',
    'orders_paid_before_completed',
    `UPDATE orders SET completed_at = paid_at - interval '1 ms'`,
  );
  refuses('a completed order that was never paid', 'orders_paid_before_completed', 'UPDATE orders SET paid_at = NULL');
  refuses('an unknown order status', 'orders_status_known', 'UPDATE orders SET status = 6');
  refuses('an instance order without a product', 'orders_instance_has_product', 'UPDATE orders SET product_id = NULL');
  refuses('an instance order with a sku', 'orders_sku_is_goods', 'UPDATE orders SET sku_id = 3');
  refuses('a sale that sold more units than it has', 'sales_not_oversold', 'UPDATE sales SET returned = 0, sold = 11');
  refuses('a sale that sold units which it has returned', 'sales_not_oversold', 'UPDATE sales SET sold = 5');
  refuses('a sale that sold less than nothing', 'sales_not_oversold', 'UPDATE sales SET sold = -1');
  refuses('a sale that returned less than nothing', 'sales_returned_check', 'UPDATE sales SET returned = -1');
  refuses(
    'units that a sale returned before it was released',
    'sales_return_once_released',
    'UPDATE sales SET released_at = NULL',
  );
  refuses('a sku with more locked units than stock', 'sku_stock_covers_locks', 'UPDATE sku SET lock_stock = 6');
  refuses('a sku with less than no locked units', 'sku_stock_covers_locks', 'UPDATE sku SET lock_stock = -1');
  const freight = (kind: string, ...terms: string[]) =>
    `INSERT INTO freight_rules (region_prefix, kind, first_fee, first_units, further_fee, further_units, enabled)
       VALUES ('31', '${kind}', 1, ${terms.join(', ')}, true)`;
  refuses('a flat freight with a first step', 'freight_rules_kind', freight('FLAT', '1', 'NULL', 'NULL'));
  refuses('a flat freight with a further fee', 'freight_rules_kind', freight('FLAT', 'NULL', '1', 'NULL'));
  refuses('a flat freight with further units', 'freight_rules_kind', freight('FLAT', 'NULL', 'NULL', '1'));
  refuses('a freight by units without a first step', 'freight_rules_kind', freight('BY_UNITS', 'NULL', '1', '1'));
  refuses('a freight by units without a further fee', 'freight_rules_kind', freight('BY_UNITS', '1', 'NULL', '1'));
  refuses('a freight by units without further units', 'freight_rules_kind', freight('BY_UNITS', '1', '1', 'NULL'));
});
