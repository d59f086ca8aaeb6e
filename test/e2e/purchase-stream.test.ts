import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { PurchaseStreamClient } from '../../api/seckill/v1/client/purchase-stream-client.js';
import { PurchaseReply_Code as Code, SeckillServiceService } from '../../gen/seckill/v1/seckill.js';
import { DEVELOPMENT_TOKEN } from '../../internal/conf/defaults.js';
import { RedisServer } from '../../internal/data/redis/redis.js';
import { violationsOf } from '../support/audit.js';
import { openPostgres } from '../support/instances.js';
import { seriesValue } from '../support/metrics-text.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const BUYERS = 200;
/** They arrive over this time, so that what happens to product happens in the middle. */
const ARRIVAL_MS = 600;

describe('PurchaseStream of the product process', () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();
  let db: pg.Client;
  let product: TestProcess;
  let client: PurchaseStreamClient;

  before(async () => {
    db = new pg.Client({ connectionString: servers.postgresUrl });
    await db.connect();
    product = await processes.start('product', {
      env: servers.env(),
      config: { server: { stream_max_age: '0.4s' }, seckill: { stream_window: 4 } },
    });
  });
  beforeEach(() => {
    client = new PurchaseStreamClient({ addr: product.grpc, token: DEVELOPMENT_TOKEN, streams: 2, timeoutMs: 60_000 });
  });
  afterEach(() => client.close());
  after(() => db.end());

  async function admin(path: string, body: unknown): Promise<{ id: string }> {
    const reply = await fetch(`http://${product.http}${path}`, {
      method: 'POST',
      headers: { 'x-user-role': 'ADMIN', 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    assert.equal(reply.status, 200);
    return (await reply.json()) as { id: string };
  }

  async function openSale(): Promise<string> {
    const spec = await admin('/v1/product-specs', { cpu: 1, memory: 1, image: 'debian-12' });
    const plan = await admin('/v1/products', { name: 'plan', priceFen: '1', specId: spec.id, status: 'ENABLED' });
    await admin('/v1/sales', { itemId: plan.id, total: String(BUYERS), payMode: 'PAY_LATER' });
    await admin(`/v1/sales/${plan.id}/open`, {});
    return plan.id;
  }

  /** Every buyer once; each of them is granted. @returns their purchases */
  function buyAll(itemId: string): Promise<string[]> {
    return Promise.all(
      Array.from({ length: BUYERS }, async (_, i) => {
        await sleep((i * ARRIVAL_MS) / BUYERS);
        const result = await client.purchase({
          itemId: BigInt(itemId),
          userId: String(i + 1),
          requestId: `buyer-${i}`,
        });
        assert.equal(result.code, Code.QUEUED, `${result.reason} ${result.message}`);
        return result.seckillId;
      }),
    );
  }

  /** Each purchase became one order, of its buyer. */
  async function ordered(itemId: string, seckillIds: readonly string[]): Promise<void> {
    const orders = async () => {
      const { rows } = await db.query<{ orders: number; buyers: number }>(
        `SELECT count(*)::int AS orders, count(DISTINCT o.user_id)::int AS buyers
           FROM stream_inbox i JOIN orders o ON o.id = i.order_id WHERE i.item_id = $1`,
        [itemId],
      );
      return rows[0];
    };
    await eventually('every purchase is an order', async () => (await orders())?.orders === BUYERS);
    assert.equal((await orders())?.buyers, BUYERS);
    assert.equal(new Set(seckillIds).size, BUYERS);
  }

  async function streamsEnded(): Promise<number> {
    const labels = `operation="${SeckillServiceService.purchaseStream.path}",transport="grpc",code="OK",reason=""`;
    const text = await (await fetch(`http://${product.metrics}/metrics`)).text();
    return seriesValue(text, `kaimai_server_handled_total{${labels}}`) ?? 0;
  }

  it('is open to services only', async () => {
    const stranger = new PurchaseStreamClient({ addr: product.grpc, token: 'not-the-token', streams: 1 });
    try {
      await assert.rejects(stranger.purchase({ itemId: 1n, userId: '1' }), /invalid x-internal-token/);
    } finally {
      await stranger.close();
    }
  });

  it('asks its callers to reconnect when it is old, and loses no answer by it', async () => {
    const itemId = await openSale();
    const bought = await buyAll(itemId);
    await eventually('streams have ended', async () => (await streamsEnded()) > 0);
    assert.equal(client.resent, 0);
    await ordered(itemId, bought);
  });

  it('answers what was sent before a SIGTERM, and the rest after the restart', async () => {
    const itemId = await openSale();
    const buying = buyAll(itemId);
    await sleep(ARRIVAL_MS / 2);
    assert.equal(await product.stop(), 'exited with code 0');
    assert.equal(client.resent, 0);
    product = await product.again();
    await ordered(itemId, await buying);
    assert.equal(client.resent, 0);
  });

  it('makes every purchase exactly once although product is killed in the middle', async () => {
    const itemId = await openSale();
    const buying = buyAll(itemId);
    await sleep(ARRIVAL_MS / 2);
    await product.kill();
    product = await product.again();
    await ordered(itemId, await buying);

    const pool = openPostgres(servers.postgresUrl, 'kaimai_product');
    const admission = new RedisServer({
      ...{ addr: servers.redisUrl, readTimeoutMs: 5_000, connectTimeoutMs: 5_000, keyPrefix: '' },
    });
    try {
      await admission.ready(5_000);
      await eventually('the audit finds nothing', async () => (await violationsOf(pool, admission)).length === 0);
    } finally {
      admission.close();
      await pool.close();
    }
  });
});
