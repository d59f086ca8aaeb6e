import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { RedisServer } from '../../internal/data/redis/redis.js';
import { TcpBalancer } from '../../internal/local/balancer.js';
import type { ServiceName } from '../../internal/local/services.js';
import { violationsOf } from '../support/audit.js';
import { openPostgres } from '../support/instances.js';
import { seriesValue } from '../support/metrics-text.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { Again, PurchaseClient, type Way } from '../support/purchase-client.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const PRODUCTS = 4;
const RESOURCES = 2;
const LANES = 6;
const TOTAL = 100_000;
/** Purchases that succeed between two faults. */
const PACE = 20;
const ADMIN = { 'x-user-role': 'ADMIN', 'content-type': 'application/json' };

describe('Four replicas of product and two of resource behind etcd and TCP balancers', function () {
  this.timeout(600_000);
  const servers = useServers('postgres', 'redis', 'rabbitmq', 'etcd');
  const processes = useProcesses();
  const products: TestProcess[] = [];
  const resources: TestProcess[] = [];
  let grpc: TcpBalancer;
  let http: TcpBalancer;
  let itemId: bigint;
  let buying = true;
  let lanes: Promise<void>[] = [];
  /** Seckill id by user, of each purchase that was answered QUEUED. */
  const bought = new Map<number, string>();
  /** Ids of the ordinary orders that were answered, by user. */
  const ordered = new Map<number, string>();
  const surprises: unknown[] = [];
  let repeated = 0;

  before(async () => {
    const registry = { kind: 'etcd', endpoints: [servers.etcdUrl], prefix: servers.etcdPrefix, ttl: '5s' };
    const server = { maxConnectionAge: '1s', drainDelay: '0.5s' };
    const data = { rabbitmq: { queue: servers.queue('resource.instance.created') } };
    const start = (name: ServiceName, config: object) =>
      processes.start(name, { env: servers.env(), config: { registry, server, data, ...config }, timeoutMs: 100_000 });
    // Each waits for the one before: six at once take longer on a small machine.
    for (let i = 0; i < PRODUCTS; i++) products.push(await start('product', {}));
    const resource = { productAddr: 'discovery:///kaimai.product' };
    for (let i = 0; i < RESOURCES; i++) resources.push(await start('resource', { resource }));
    grpc = await TcpBalancer.start(() => products.map((p) => p.grpc));
    http = await TcpBalancer.start(() => products.map((p) => p.http));
    itemId = BigInt(await newPlan());
    await admin('/v1/sales', { itemId: String(itemId), total: String(TOTAL), defaultLimit: 1 });
    await eventually('the sale is open', () => admin(`/v1/sales/${itemId}/open`, {}));
    const plan = await newPlan();
    const ways: Way[] = ['grpc', 'json'];
    lanes = Array.from({ length: LANES }, (_, lane) => buy(lane, ways[lane % 2]!)).concat(order(LANES, plan));
  });
  after(async () => {
    buying = false;
    await Promise.all(lanes);
    await grpc?.close();
    await http?.close();
  });

  async function admin(path: string, body: unknown): Promise<{ id: string }> {
    const reply = await fetch(`http://${http.address}${path}`, {
      ...{ method: 'POST', headers: ADMIN, body: JSON.stringify(body) },
    });
    const text = await reply.text();
    assert.equal(reply.status, 200, text);
    return JSON.parse(text) as { id: string };
  }

  async function newPlan(): Promise<string> {
    const spec = await admin('/v1/product-specs', { cpu: 1, memory: 1, image: 'debian-12' });
    return (await admin('/v1/products', { name: 'plan', priceFen: '1', specId: spec.id, status: 'ENABLED' })).id;
  }

  /** Buyers one after the other, each with the same request id until there is an answer. */
  async function buy(lane: number, way: Way): Promise<void> {
    const address = { http: http.address, grpc: grpc.address, metrics: '' };
    const client = new PurchaseClient(address, { sockets: 1, timeoutMs: 5_000 });
    for (let n = 1; buying; n++) {
      const user = lane * TOTAL + n;
      for (;;) {
        try {
          const [answer] = await client.purchase(itemId, [{ user, requestId: `click-${user}` }], way);
          if (answer?.code === 'QUEUED') bought.set(user, answer.seckillId);
          else surprises.push(answer?.code);
          break;
        } catch (err) {
          if (!(err instanceof Again)) surprises.push(err);
          if (!(err instanceof Again)) break;
          repeated += 1;
          await sleep(20);
        }
      }
    }
    client.close();
  }

  /** Ordinary orders, repeated under the same request id, and paid. */
  async function order(lane: number, productId: string): Promise<void> {
    for (let n = 1; buying; n++) {
      const user = lane * TOTAL + n;
      const call = async (path: string, headers: object, body: unknown): Promise<{ id: string } | undefined> => {
        for (;;) {
          const reply = await fetch(`http://${http.address}${path}`, {
            ...{ method: 'POST', headers: { ...headers, 'content-type': 'application/json' } },
            ...{ body: JSON.stringify(body), signal: AbortSignal.timeout(5_000) },
          }).catch(() => undefined);
          const text = await reply?.text().catch(() => undefined);
          if (reply?.status === 200 && text !== undefined) return JSON.parse(text) as { id: string };
          if (reply && ![429, 503, 504].includes(reply.status)) {
            surprises.push(`${path}: ${reply.status} ${text}`);
            return undefined;
          }
          repeated += 1;
          await sleep(20);
        }
      };
      const created = await call(
        '/v1/orders',
        { 'x-user-id': String(user) },
        { productId, requestId: `order-${user}` },
      );
      if (!created) continue;
      ordered.set(user, created.id);
      await call(
        `/v1/orders/${created.id}/paid`,
        {},
        {
          ...{ provider: 'demo', eventId: `event-${user}`, paidAmountFen: '1' },
        },
      );
      await sleep(50);
    }
  }

  async function sellsOn(): Promise<void> {
    const [purchases, orders] = [bought.size, ordered.size];
    await eventually('purchases and orders go on', () => bought.size >= purchases + PACE && ordered.size > orders + 1);
  }

  /** Purchases that a replica has answered since its start. */
  async function soldBy(replica: TestProcess): Promise<number> {
    const text = await (await fetch(`http://${replica.metrics}/metrics`)).text();
    return seriesValue(text, 'kaimai_purchases_total{outcome="QUEUED"}') ?? 0;
  }

  it('sell while each is stopped and started again', async () => {
    await sellsOn();
    for (const group of [products, resources]) {
      for (const [i, replica] of group.entries()) {
        assert.equal(await replica.stop(), 'exited with code 0');
        await sellsOn();
        group[i] = await replica.again();
      }
    }
    await sellsOn();
  });

  it('sell while each is killed and started again', async () => {
    for (const group of [products, resources]) {
      for (const [i, replica] of group.entries()) {
        await replica.kill();
        await sellsOn();
        group[i] = await replica.again();
      }
    }
    await sellsOn();
  });

  it('each sell again, also the one that was started last', async () => {
    for (const replica of products) await eventually(`${replica.http} sells`, async () => (await soldBy(replica)) > 0);
  });

  it('have sold each purchase and each order exactly once', async () => {
    buying = false;
    await Promise.all(lanes);
    assert.deepEqual(surprises, []);
    assert.equal(new Set(bought.values()).size, bought.size, 'two buyers got the same purchase');
    const db = openPostgres(servers.postgresUrl, 'kaimai_product');
    const options = { addr: servers.redisUrl, readTimeoutMs: 5_000, connectTimeoutMs: 5_000, keyPrefix: '' };
    const redis = new RedisServer(options);
    try {
      await redis.ready(5_000);
      const orders = async (condition: string): Promise<number> => {
        const text = `SELECT count(*) AS n FROM orders WHERE ${condition}`;
        return Number((await db.pool.query<{ n: bigint }>(text)).rows[0]?.n);
      };
      const ofSale = `product_id = ${itemId}`;
      await eventually('every purchase is an order', async () => (await orders(ofSale)) >= bought.size);
      await eventually('every order is completed', async () => (await orders('status <> 3')) === 0, {
        timeoutMs: 120_000,
      });
      assert.equal(await orders(ofSale), bought.size);
      assert.equal(await orders(`NOT ${ofSale}`), ordered.size);
      assert.deepEqual(await violationsOf(db, redis), []);
    } finally {
      redis.close();
      await db.close();
    }
    console.log(`      ${bought.size} purchases and ${ordered.size} orders; ${repeated} calls were repeated`);
  });
});
