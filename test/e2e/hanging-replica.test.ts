import assert from 'node:assert/strict';
import pg from 'pg';
import { formatUserId } from '../../internal/biz/identity.js';
import { RedisServer } from '../../internal/data/redis/redis.js';
import { violationsOf } from '../support/audit.js';
import { openPostgres } from '../support/instances.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

/** More than a process has connections. Each order has a sku of its own, because orders of one sku share a transaction. */
const SKUS = 12;
const READS = 10;
const RECEIVER = { name: 'a', phone: '13800000000', region: '310115', address: 'b' };
/** So long that only what is tested ends a wait. */
const PATIENT = {
  server: { http: { timeout: '60s' }, grpc: { timeout: '60s' } },
  data: { database: { statementTimeout: '40s', connectTimeout: '40s' } },
};

describe('A replica that is stopped (SIGSTOP) inside a transaction', () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();
  let hanging: TestProcess;
  let other: TestProcess;
  let db: pg.Client;

  before(async () => {
    db = new pg.Client({ connectionString: servers.postgresUrl });
    await db.connect();
    const options = { env: servers.env(), config: PATIENT };
    [hanging, other] = await Promise.all([processes.start('product', options), processes.start('product', options)]);
  });
  after(() => db.end());

  async function call(product: TestProcess, user: number | 'ADMIN', path: string, body?: unknown) {
    const reply = await fetch(`http://${product.http}${path}`, {
      method: body === undefined ? 'GET' : 'POST',
      headers: {
        ...(user === 'ADMIN' ? { 'x-user-role': 'ADMIN' } : { 'x-user-id': String(user) }),
        'content-type': 'application/json',
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    return { status: reply.status, body: (await reply.json()) as { id: string } };
  }
  async function sku(skuNo: string): Promise<string> {
    const spu = await call(other, 'ADMIN', '/v1/spus', {
      ...{ spuNo: skuNo, title: 't', categoryId: '1', brandId: '2', publishStatus: 'PUBLISHED' },
    });
    const made = await call(other, 'ADMIN', '/v1/skus', {
      ...{ spuId: spu.body.id, skuNo, skuName: 's', priceFen: '5', stock: '1000', specs: {} },
    });
    assert.equal(made.status, 200, JSON.stringify(made.body));
    return made.body.id;
  }
  const order = (product: TestProcess, user: number, ...skuIds: string[]) => {
    const lines = skuIds.map((skuId) => ({ skuId, quantity: 1 }));
    return call(product, user, '/v1/orders', { lines, receiver: RECEIVER, requestId: `order-${user}` });
  };
  const sessions = async (where: string): Promise<number> => {
    const { rows } = await db.query<{ n: number }>(
      `SELECT count(*)::int AS n FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND ${where}`,
    );
    return rows[0]!.n;
  };

  it('holds up neither the reads of another replica, nor its orders for longer than its session lives', async () => {
    const wanted: string[] = [];
    for (let i = 0; i < SKUS; i++) wanted.push(await sku(`wanted-${i}`));
    const free = await sku('free');
    // The first order waits behind this one, with the locks of its skus.
    await db.query('BEGIN');
    await db.query(
      `INSERT INTO orders (id, user_id, order_type, source, status, product_name, quantity, price, amount, req_id, request_id)
        VALUES (1, $1, 'GOODS', 'NORMAL', 0, 's', 1, 5, 5, 1, $2)`,
      [formatUserId('1'), 'order-1'],
    );
    const first = order(hanging, 1, ...wanted);
    await eventually('the first order waits', async () => (await sessions("wait_event_type = 'Lock'")) === 1);
    process.kill(hanging.pid, 'SIGSTOP');
    try {
      const orders = wanted.map((skuId, i) => order(other, 2 + i, skuId));
      const waiting = () => sessions("wait_event_type = 'Lock'");
      // One of the stopped replica, and as many of the other as it has connections for transactions.
      await eventually('orders of the other replica wait', async () => (await waiting()) >= 5);
      const before = await waiting();
      for (let i = 0; i < READS; i++) {
        assert.equal((await call(other, 2, '/v1/orders')).status, 200);
        assert.equal((await call(other, 2, `/v1/skus/${free}`)).status, 200);
      }
      assert.ok((await waiting()) >= before, 'the reads did not wait for the orders');
      // Now the transaction of the stopped replica goes on in PostgreSQL, and waits for its client.
      await db.query('ROLLBACK');
      for (const { status, body } of await Promise.all([...orders, order(other, 100, free)])) {
        assert.equal(status, 200, JSON.stringify(body));
      }
    } finally {
      process.kill(hanging.pid, 'SIGCONT');
    }
    // PostgreSQL has ended its session: it tries again, and the buyer repeats what got no answer.
    await first;
    await eventually('the first order', async () => (await order(hanging, 1, ...wanted)).status === 200);
    const { rows } = await db.query<{ n: number }>('SELECT count(*)::int AS n FROM orders');
    assert.equal(rows[0]?.n, SKUS + 2);
    await audited();
  });

  async function audited(): Promise<void> {
    const pool = openPostgres(servers.postgresUrl, 'kaimai_product');
    const redis = new RedisServer({
      ...{ addr: servers.redisUrl, readTimeoutMs: 5_000, connectTimeoutMs: 5_000, keyPrefix: '' },
    });
    try {
      await redis.ready(5_000);
      assert.deepEqual(await violationsOf(pool, redis), []);
    } finally {
      redis.close();
      await pool.close();
    }
  }
});
