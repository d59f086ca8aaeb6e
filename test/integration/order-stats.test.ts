import assert from 'node:assert/strict';
import pg from 'pg';
import { PgOrderSearchRepo } from '../../internal/data/postgres/order-search.js';
import type { Postgres } from '../../internal/data/postgres/postgres.js';
import { ORDER_STATUS } from '../../internal/data/postgres/status.js';
import { openPostgres } from '../support/instances.js';
import { useServers } from '../support/servers.js';

const BEGIN = Date.parse('2026-03-01T15:10:00Z');
const MINUTE = 60_000;
const ORDERS = 400;

/** Read from the orders themselves. */
const TRUTH = `SELECT to_char(created_at AT TIME ZONE 'UTC' + $3::int * interval '1 minute', 'YYYY-MM-DD') AS day, status, order_type,
    count(*)::text AS orders, sum(amount)::text AS amount FROM orders WHERE created_at >= $1 AND created_at < $2 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3`;

describe('The statistics of orders', () => {
  const servers = useServers('postgres');
  let db: Postgres;
  let pool: pg.Pool;
  let repo: PgOrderSearchRepo;

  before(() => {
    db = openPostgres(servers.postgresUrl, 'kaimai_product');
    pool = new pg.Pool({ connectionString: servers.postgresUrl, max: 8 });
    repo = new PgOrderSearchRepo(db);
  });
  beforeEach(async () => {
    await pool.query(`TRUNCATE orders, order_stats CASCADE`);
    await pool.query(`INSERT INTO product_specs (id, cpu, memory, image) VALUES (1, 2, 4, 'debian-12') ON CONFLICT DO NOTHING;
      INSERT INTO products (id, name, status, price, spec_id) VALUES (7, 'small', 1, 9900, 1) ON CONFLICT DO NOTHING`);
  });
  after(async () => {
    await pool.end();
    await db.close();
  });

  /** Every order in a transaction of its own, created within five hours, then paid, and some cancelled by a second one. */
  async function changeOrders(): Promise<void> {
    const ids = Array.from({ length: ORDERS }, (_, i) => i + 1);
    await Promise.all(
      Array.from({ length: 8 }, async (_, worker) => {
        for (const id of ids.filter((n) => n % 8 === worker)) {
          const createdAt = new Date(BEGIN + ((id * 37) % 300) * MINUTE);
          await db.pool.query(
            `INSERT INTO orders (id, user_id, product_id, req_id, amount, status, source, created_at)
              VALUES ($1, gen_random_uuid(), 7, $1, $2, 0, 'NORMAL', $3)`,
            [id, id * 100, createdAt],
          );
          await db.pool.query(`UPDATE orders SET status = 1, paid_at = created_at WHERE id = $1`, [id]);
          if (id % 3 === 0) await db.pool.query(`UPDATE orders SET status = 2 WHERE id = ANY ($1)`, [[id, id - 8]]);
          if (id % 5 === 0) await db.pool.query(`UPDATE orders SET remark = 'hello' WHERE id = $1`, [id]);
        }
      }),
    );
  }

  async function assertTrue(from: number, before: number, utcOffsetMinutes: number): Promise<void> {
    const period = { from: new Date(from), before: new Date(before), utcOffsetMinutes };
    const counted = (await repo.stats(period)).map((row) => [
      row.day,
      ORDER_STATUS[row.status],
      row.orderType,
      String(row.orders),
      String(row.amountFen),
    ]);
    const { rows } = await pool.query({
      text: TRUTH,
      values: [period.from, period.before, utcOffsetMinutes],
      rowMode: 'array',
    });
    assert.deepEqual(
      counted,
      rows,
      `${period.from.toISOString()} to ${period.before.toISOString()}, ${utcOffsetMinutes}`,
    );
  }

  async function assertAllTrue(): Promise<void> {
    const end = BEGIN + 300 * MINUTE;
    await assertTrue(BEGIN - 60 * MINUTE, end + 60 * MINUTE, 0);
    await assertTrue(BEGIN + 7 * MINUTE, end - 11 * MINUTE, 480);
    await assertTrue(BEGIN + 20 * MINUTE, end - 10 * MINUTE, 330);
    // A time zone whose days do not begin with a half hour, a period within one, and one that touches two.
    await assertTrue(BEGIN, end, 345);
    await assertTrue(BEGIN + 21 * MINUTE, BEGIN + 33 * MINUTE, 0);
    await assertTrue(BEGIN + 15 * MINUTE, BEGIN + 25 * MINUTE, 480);
  }

  const rowsOf = async (sql: string) =>
    Number((await pool.query<{ n: string }>(`SELECT count(*) AS n FROM ${sql}`)).rows[0]?.n);

  it('are those of the orders after concurrent changes, for any period and time zone', async () => {
    await changeOrders();
    assert.equal(await rowsOf('orders'), ORDERS);
    await assertAllTrue();
    assert.ok((await rowsOf('order_stats')) > 0, 'nothing was counted');
  });

  it('stay true while all orders are counted anew', async () => {
    let changing = true;
    const recounts = (async () => {
      let n = 0;
      while (changing) {
        await db.pool.query('SELECT order_stats_recount()');
        n += 1;
      }
      return n;
    })();
    await changeOrders();
    changing = false;
    assert.ok((await recounts) > 0);
    await assertAllTrue();
    await db.pool.query('SELECT order_stats_recount()');
    await assertAllTrue();
    const groups = `(SELECT DISTINCT created_from, status, order_type FROM order_stats) AS groups`;
    assert.equal(await rowsOf('order_stats'), await rowsOf(groups));
  });

  it('hold up no transaction behind another that changes orders of the same half hour', async () => {
    const [one, two] = [await pool.connect(), await pool.connect()];
    try {
      const insert = (client: pg.PoolClient, id: number) =>
        client.query(
          `INSERT INTO orders (id, user_id, product_id, req_id, amount, status, source, created_at)
            VALUES ($1, gen_random_uuid(), 7, $1, 100, 0, 'NORMAL', $2)`,
          [id, new Date(BEGIN)],
        );
      await two.query(`SET lock_timeout = '2s'`);
      for (const client of [one, two]) await client.query('BEGIN');
      // Often enough for both to add up the rows that there are.
      for (let id = 1; id <= 100; id++) await insert(id % 2 === 0 ? one : two, id);
      await two.query('COMMIT');
      await one.query('ROLLBACK');
    } finally {
      await two.query('RESET lock_timeout');
      one.release();
      two.release();
    }
    await assertTrue(BEGIN - MINUTE, BEGIN + 60 * MINUTE, 0);
    assert.equal(await rowsOf('orders'), 50);
  });
});
