import assert from 'node:assert/strict';
import type { Postgres } from '../../internal/data/postgres/postgres.js';
import { RedisServer } from '../../internal/data/redis/redis.js';
import { SENTINEL_MASTER } from '../../internal/local/clusters/redis-sentinels.js';
import { openPostgres } from '../support/instances.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';
import { useRedisSentinels } from './redis.js';
import { PLENTY, Shop } from './shop.js';

describe('product on a Redis with Sentinels', () => {
  const servers = useServers('postgres', 'rabbitmq');
  const sentinels = useRedisSentinels();
  const processes = useProcesses();
  let product: TestProcess;
  let db: Postgres;
  let view: RedisServer;

  before(async () => {
    const addresses = sentinels().addresses;
    product = await processes.start('product', {
      env: { ...servers.env(), KAIMAI_DATA_REDIS_SENTINELS: addresses.join(',') },
      config: { data: { redis: { master_name: SENTINEL_MASTER, wait_replicas: 1 } } },
    });
    db = openPostgres(servers.postgresUrl, 'kaimai_product');
    const place = { addr: '', sentinels: addresses, masterName: SENTINEL_MASTER };
    view = new RedisServer({ ...place, readTimeoutMs: 1_000, connectTimeoutMs: 1_000, keyPrefix: '' });
    await view.ready(5_000);
  });
  after(async () => {
    view?.close();
    await db?.close();
  });
  let shop: Shop;
  beforeEach(() => {
    shop = new Shop(() => [product]);
  });
  afterEach(() => shop.close());

  it('sells on at the server that the Sentinels promote, and loses no purchase that a replica had confirmed', async () => {
    await shop.openSale(PLENTY);
    const crowd = shop.crowd(8);
    await eventually('some are sold', () => shop.bought.length >= 50);
    const master = await sentinels().master();
    await master.kill();
    await eventually('another server is promoted', async () => (await sentinels().master()) !== master);
    const promoted = await sentinels().master();
    await eventually('it takes writes', async () => /^role:master/m.test(await promoted.client.info('replication')));
    await shop.sellsAgain();
    const soldBefore = shop.bought.length;
    await eventually('it sells on', () => shop.bought.length >= soldBefore + 50);
    await crowd.done();
    await shop.settled(db, view);
    assert.deepEqual(await shop.lost(), []);
  });

  it('confirms no purchase that no replica has, and answers the same request once one has it', async () => {
    await shop.openSale(10);
    assert.equal(await shop.buy(), 'QUEUED');
    const master = await sentinels().master();
    const replicas = sentinels().servers.filter((server) => server !== master && server.isAlive);
    for (const replica of replicas) replica.freeze();
    const headers = { 'x-user-id': '424242' };
    const purchase = { itemId: shop.itemId, requestId: 'once' };
    const refused = await shop.call('POST', '/v1/seckill', headers, purchase);
    for (const replica of replicas) replica.thaw();
    assert.deepEqual([refused.status, refused.body.reason], [503, 'SALE_UNAVAILABLE']);
    await eventually('the same request is granted', async () => {
      return (await shop.call('POST', '/v1/seckill', headers, purchase)).body.code === 'QUEUED';
    });
    await shop.settled(db, view);
    assert.equal(await shop.orders(db), 2);
  });
});

describe('product on a Redis whose servers ask for a replica (min-replicas-to-write)', () => {
  const servers = useServers('postgres', 'rabbitmq');
  const sentinels = useRedisSentinels(['min-replicas-to-write 1']);
  const processes = useProcesses();
  let product: TestProcess;
  let db: Postgres;
  let view: RedisServer;
  let shop: Shop;

  before(async () => {
    const place = { addr: '', sentinels: sentinels().addresses, masterName: SENTINEL_MASTER };
    product = await processes.start('product', {
      env: { ...servers.env(), KAIMAI_DATA_REDIS_SENTINELS: place.sentinels.join(',') },
      config: { data: { redis: { master_name: SENTINEL_MASTER } } },
    });
    db = openPostgres(servers.postgresUrl, 'kaimai_product');
    view = new RedisServer({ ...place, readTimeoutMs: 1_000, connectTimeoutMs: 1_000, keyPrefix: '' });
    await view.ready(5_000);
    shop = new Shop(() => [product]);
  });
  after(async () => {
    await shop?.close();
    view?.close();
    await db?.close();
  });

  it('answers 503 while the master has no replica, sells on once it has one, and loses nothing', async () => {
    await shop.openSale(PLENTY);
    const crowd = shop.crowd(4);
    await eventually('some are sold', () => shop.bought.length >= 20);
    const master = await sentinels().master();
    const replicas = sentinels().servers.filter((server) => server !== master);
    for (const replica of replicas) await replica.kill();
    const purchase = { itemId: shop.itemId, requestId: 'once' };
    const headers = { 'x-user-id': '424242' };
    const buy = () => shop.call('POST', '/v1/seckill', headers, purchase);
    const refused = await eventually('a purchase is refused', async () => {
      const reply = await buy();
      return reply.status !== 200 && reply;
    });
    assert.deepEqual([refused.status, refused.body.reason], [503, 'SALE_UNAVAILABLE']);
    await replicas[0]!.start();
    await shop.sellsAgain();
    const outcomes = await crowd.done();
    assert.deepEqual(
      [...outcomes.keys()].filter((o) => !/^(QUEUED|503)$/.test(o)),
      [],
    );
    await shop.settled(db, view);
    assert.deepEqual(await shop.lost(), []);
  });
});
