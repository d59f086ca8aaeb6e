import assert from 'node:assert/strict';
import { segmentsOf } from '../../internal/biz/seckill/segment.js';
import type { Postgres } from '../../internal/data/postgres/postgres.js';
import { RedisServer } from '../../internal/data/redis/redis.js';
import type { RedisNode } from '../../internal/local/clusters/redis-nodes.js';
import { Random } from '../simulation/random.js';
import { Crowd } from '../support/crowd.js';
import { openPostgres } from '../support/instances.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import type { Click, Way } from '../support/purchase-client.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';
import { useRedisCluster } from './redis.js';
import { Shop } from './shop.js';

const UNITS = 10_000;
const BUYERS = 50_000;
const SEGMENTS = 4;
const SEED = 20261122;

describe(`A sale of ${UNITS} units in ${SEGMENTS} segments to ${BUYERS} buyers on a Redis cluster`, function () {
  this.timeout(400_000);
  const servers = useServers('postgres', 'rabbitmq');
  const cluster = useRedisCluster();
  const processes = useProcesses();
  let products: TestProcess[];
  let db: Postgres;
  let redis: RedisServer;
  let crowd: Crowd | undefined;

  before(async () => {
    const env = {
      ...servers.env(),
      KAIMAI_DATA_REDIS_NODES: cluster().addresses.join(','),
      KAIMAI_LOG_LEVEL: 'warn',
      KAIMAI_SERVER_WORKERS: '1',
    };
    products = await Promise.all([processes.start('product', { env }), processes.start('product', { env })]);
    db = openPostgres(servers.postgresUrl, 'kaimai_product');
    const timeouts = { readTimeoutMs: 10_000, connectTimeoutMs: 5_000, keyPrefix: '' };
    redis = new RedisServer({ ...timeouts, addr: '', nodes: cluster().addresses });
    await redis.ready(5_000);
  });
  after(async () => {
    crowd?.close();
    redis?.close();
    await db?.close();
  });

  it('sells every unit once while masters are killed, and the audit finds no violation', async () => {
    const shop = new Shop(() => products);
    await shop.openSale(UNITS, { segments: SEGMENTS });
    const itemId = BigInt(shop.itemId);
    const masterOf = (segment: number) => cluster().masterOf(redis.keys.sale(itemId, segment).meta);
    const masters = new Set<RedisNode>(await Promise.all(segmentsOf(SEGMENTS).map(masterOf)));
    assert.equal(masters.size, 3, 'the segments lie on every master');

    const random = new Random(SEED);
    const clicks: Click[] = [];
    // Users that the shop does not have.
    for (let n = 1; n <= BUYERS; n++) clicks.push({ user: 1_000_000 + n, requestId: `click-${n}` });
    const ways: Way[] = ['stream', 'grpc', 'json', 'batch', 'batch', 'batch', 'batch', 'batch'];
    crowd = new Crowd(products, itemId);
    const { rush, queued } = {
      rush: crowd.rush(clicks, () => ({ way: random.pick(ways), replica: random.int(products.length) })),
      queued: () => crowd?.queued ?? 0,
    };
    // Of the calls that wait for a failover none may end the round before it is over.
    rush.catch(() => {});
    for (const [segment, units] of [
      [1, 2_000],
      [2, 5_000],
    ] as const) {
      await eventually(`${units} are bought`, () => queued() >= units, { timeoutMs: 60_000, everyMs: 5 });
      const master = await masterOf(segment);
      await master.kill();
      await eventually('another server has its slots', async () => (await masterOf(segment)) !== master);
      await cluster().untilServing();
      await master.start();
      await cluster().untilReplicated();
    }
    await rush;
    assert.equal(crowd.told.length, BUYERS);
    // Units of purchases that a failover lost came back; those who asked before was told that others had them.
    await eventually('it is sold out', async () => (await shop.buy()) === 'SOLD_OUT', {
      timeoutMs: 60_000,
      everyMs: 5,
    });
    await shop.settled(db, redis, SEGMENTS);
    const orders = await shop.orders(db);
    const lost = crowd.told.filter((t) => t.code === 'QUEUED').length + shop.bought.length - orders;
    console.log(`      ${orders} orders, ${Math.max(0, lost)} answered purchases lost with their masters`);
    assert.equal(orders, UNITS);
    const { rows } = await db.pool.query<{ n: bigint }>(
      'SELECT count(*) AS n FROM (SELECT user_id FROM orders WHERE product_id = $1 GROUP BY 1 HAVING count(*) > 1) AS t',
      [shop.itemId],
    );
    assert.equal(rows[0]?.n, 0n, 'no user has two units');
  });
});
