import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import pg from 'pg';
import { RedisServer } from '../../internal/data/redis/redis.js';
import type { ServiceAddresses } from '../../internal/local/services.js';
import { violationsOf } from '../support/audit.js';
import { openPostgres } from '../support/instances.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const BUYERS = 200;
const STOCK = 150;
const ADMIN = { 'x-user-role': 'ADMIN', 'content-type': 'application/json' };
/** A busy process may also refuse a call, or come to it too late. */
const SEND_AGAIN = [429, 503, 504];

describe('The system, killed with SIGKILL in the middle of 200 purchases,', () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();
  let db: pg.Client;
  let redis: Redis;
  let product: TestProcess;
  let resource: TestProcess;
  let itemId: string;

  before(async () => {
    db = new pg.Client({ connectionString: servers.postgresUrl });
    await db.connect();
    redis = new Redis(servers.redisUrl);
    product = await processes.start('product', { env: servers.env() });
    // So slow that instances are still being created when the resource domain is killed, however late that is.
    resource = await startResource({ concurrency: 4, simulator: { delay: '0.2s' } });
    const spec = await admin('/v1/product-specs', { cpu: 1, memory: 1, image: 'debian-12' });
    const plan = await admin('/v1/products', { name: 'plan', priceFen: '1', specId: spec.id, status: 'ENABLED' });
    itemId = plan.id;
    await admin('/v1/sales', { itemId, total: String(STOCK), defaultLimit: 1 });
    await admin(`/v1/sales/${itemId}/open`, {});
  });
  after(async () => {
    redis.disconnect();
    await db.end();
  });

  function startResource(config: object, addresses?: ServiceAddresses): Promise<TestProcess> {
    return processes.start('resource', {
      env: { ...servers.env(), ...product.env() },
      config: { resource: config },
      ...(addresses && { addresses }),
    });
  }

  async function admin(path: string, body: unknown): Promise<{ id: string }> {
    const reply = await fetch(`http://${product.http}${path}`, {
      method: 'POST',
      headers: ADMIN,
      body: JSON.stringify(body),
    });
    const text = await reply.text();
    assert.equal(reply.status, 200, text);
    return JSON.parse(text) as { id: string };
  }

  /** Buys like a client that never gives up: with the same request id until there is a reply. */
  async function buy(user: number): Promise<string> {
    const giveUpAtMs = Date.now() + 120_000;
    for (;;) {
      try {
        const reply = await fetch(`http://${product.http}/v1/seckill`, {
          method: 'POST',
          headers: { 'x-user-id': String(user), 'content-type': 'application/json' },
          body: JSON.stringify({ itemId, requestId: `buyer-${user}` }),
          signal: AbortSignal.timeout(5_000),
        });
        const body = (await reply.json()) as { code: string };
        if (reply.ok) return body.code;
        assert.ok(SEND_AGAIN.includes(reply.status), JSON.stringify(body));
      } catch (err) {
        if (err instanceof assert.AssertionError) throw err;
      }
      assert.ok(Date.now() < giveUpAtMs, `buyer ${user} got no reply`);
      await sleep(50);
    }
  }

  /** Checks every invariant after everything is done. */
  async function audited(): Promise<void> {
    const pool = openPostgres(servers.postgresUrl, 'kaimai_product');
    const admission = new RedisServer({
      addr: servers.redisUrl,
      readTimeoutMs: 5_000,
      connectTimeoutMs: 5_000,
      keyPrefix: '',
    });
    try {
      await admission.ready(5_000);
      assert.deepEqual(await violationsOf(pool, admission), []);
    } finally {
      admission.close();
      await pool.close();
    }
  }

  const one = async (sql: string): Promise<number> => Number((await db.query<{ n: string }>(sql)).rows[0]?.n);

  it('completes every order exactly once, and sells exactly the stock', async () => {
    const buying = Array.from({ length: BUYERS }, async (_, i) => {
      // The buyers arrive within a second, so that the processes are killed in the middle.
      await sleep(i * 5);
      return buy(i + 1);
    });

    await eventually('some orders exist', async () => (await one('SELECT count(*) AS n FROM orders')) > 20);
    await product.kill();
    product = await product.again();

    await eventually(
      'some instances run',
      async () => (await one('SELECT count(*) AS n FROM simulated_instances')) > 10,
    );
    await resource.kill();
    const running = await one('SELECT count(*) AS n FROM simulated_instances');
    assert.ok(running < STOCK, 'the resource domain was killed too late');
    resource = await startResource({ concurrency: 16, simulator: { delay: '0.05s' } }, resource);

    const codes = await Promise.all(buying);
    assert.deepEqual(count(codes), { QUEUED: STOCK, SOLD_OUT: BUYERS - STOCK });

    await eventually(
      'every order is completed',
      async () => (await one('SELECT count(*) AS n FROM orders WHERE status = 3')) === STOCK,
      { timeoutMs: 90_000 },
    );
    assert.equal(await one('SELECT count(*) AS n FROM orders'), STOCK);
    assert.equal(await one('SELECT sold AS n FROM sales'), STOCK);
    assert.equal(await one('SELECT count(DISTINCT user_id) AS n FROM orders'), STOCK);
    assert.equal(await one('SELECT count(DISTINCT instance_id) AS n FROM orders'), STOCK);
    assert.equal(await one('SELECT count(*) AS n FROM instance_requests'), STOCK);
    assert.equal(await one("SELECT count(*) AS n FROM instance_logs WHERE status = 'SUCCESS'"), STOCK);
    assert.equal(await one('SELECT count(*) AS n FROM simulated_instances'), STOCK);
    assert.equal(
      await one('SELECT count(*) AS n FROM order_events WHERE to_status = 3'),
      STOCK,
      'an order was completed twice',
    );
    assert.equal(await one("SELECT count(*) AS n FROM stream_inbox WHERE outcome = 'ORDER'"), STOCK);
    assert.equal(await one('SELECT count(*) AS n FROM dead_letters'), 0);
    assert.equal(await one('SELECT count(*) AS n FROM resource_dead_letters'), 0);
    await eventually(
      'the outbox is empty',
      async () => (await one('SELECT count(*) AS n FROM outbox WHERE published_at IS NULL')) === 0,
    );
    await eventually('the stream is empty', async () => (await redis.xlen(`stream:seckill:${itemId}`)) === 0);
    assert.equal(await redis.get(`seckill:${itemId}:stock`), '0');
    await audited();
  });
});

function count(words: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const word of words) counts[word] = (counts[word] ?? 0) + 1;
  return counts;
}
