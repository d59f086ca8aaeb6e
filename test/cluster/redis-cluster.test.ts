import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Postgres } from '../../internal/data/postgres/postgres.js';
import { RedisServer } from '../../internal/data/redis/redis.js';
import { openPostgres } from '../support/instances.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';
import { useRedisCluster } from './redis.js';
import { PLENTY, Shop } from './shop.js';

const TIMEOUTS = { readTimeoutMs: 1_000, connectTimeoutMs: 1_000, keyPrefix: '' };

describe('product on a Redis cluster', () => {
  const servers = useServers('postgres', 'rabbitmq');
  const cluster = useRedisCluster();
  const processes = useProcesses();
  let product: TestProcess;
  let db: Postgres;
  let view: RedisServer;

  before(async () => {
    const nodes = cluster().addresses;
    product = await processes.start('product', {
      env: { ...servers.env(), KAIMAI_DATA_REDIS_NODES: nodes.slice(0, 2).join(',') },
      config: { server: { roles: [] } },
    });
    db = openPostgres(servers.postgresUrl, 'kaimai_product');
    view = new RedisServer({ ...TIMEOUTS, addr: '', nodes });
    await view.ready(5_000);
  });
  after(async () => {
    view?.close();
    await db?.close();
  });
  const shops: Shop[] = [];
  afterEach(async () => {
    await Promise.all(shops.splice(0).map((s) => s.close()));
    await cluster()?.untilServing();
  });

  const shop = () => {
    const s = new Shop(() => [product]);
    shops.push(s);
    return s;
  };
  const epochOf = async (s: Shop) => BigInt((await view.commands.hget(keysOf(s).meta, 'epoch')) ?? 0);
  const sellsOn = async (s: Shop) => {
    const before = s.bought.length;
    await eventually('it sells on', () => s.bought.length >= before + 50);
  };
  const keysOf = ({ itemId }: Shop) => view.keys.sale(BigInt(itemId));

  it('sells several items at a time, each on the server of its own keys, and a stranger’s entries too', async () => {
    const four = [shop(), shop(), shop(), shop()];
    for (const s of four) await s.openSale(30);
    await Promise.all(
      four.map(async (s) => {
        for (let i = 0; i < 20; i++) assert.equal(await s.buy(), 'QUEUED');
        // Any client that writes the item as a hash tag reaches the sale.
        for (let i = 0; i < 10; i++) await view.commands.xadd(keysOf(s).stream, '*', 'uid', `9${i}`, 'ts', Date.now());
      }),
    );
    for (const s of four) {
      await s.settled(db, view);
      assert.equal(await s.orders(db), 30);
      assert.match(await s.buy(), /SOLD_OUT/);
    }
    const servers = new Set(await Promise.all(four.map(async (s) => (await cluster().masterOf(keysOf(s).meta)).port)));
    assert.ok(servers.size > 1, 'the items were meant to lie on several servers');
  });

  it('follows a slot that moves to another server in the middle of a sale', async () => {
    const s = shop();
    await s.openSale(PLENTY);
    const crowd = s.crowd(8);
    await eventually('some are sold', () => s.bought.length >= 50);
    const move = await cluster().beginMove(keysOf(s).meta);
    assert.equal(await move.moveKeys(3), 3);
    await sleep(300);
    await move.finish();
    await s.sellsAgain();
    await sellsOn(s);
    const outcomes = await crowd.done();
    assert.deepEqual(
      [...outcomes.keys()].filter((o) => !/^(QUEUED|503)$/.test(o)),
      [],
    );
    await s.settled(db, view);
    assert.deepEqual(await s.lost(), []);
  });

  it('answers 503 while all keys of a sale are on one server and their slot is on another, and follows ASK', async () => {
    const s = shop();
    await s.openSale(PLENTY);
    const crowd = s.crowd(4);
    await eventually('some are sold', () => s.bought.length >= 20);
    const epoch = await epochOf(s);
    const move = await cluster().beginMove(keysOf(s).meta);
    while ((await move.moveKeys(100)) > 0);
    // Redis runs no script of which a key is not there, as those of a sale without VIP users, until the slot has moved.
    await eventually('purchases are refused', async () => (await s.buy()) === '503');
    assert.equal(await epochOf(s), epoch);
    await view.commands.xadd(keysOf(s).stream, '*', 'uid', '90', 'ts', Date.now());
    assert.equal(await cluster().masterOf(keysOf(s).meta), move.from);
    await move.finish();
    await s.sellsAgain();
    await sellsOn(s);
    const outcomes = await crowd.done();
    assert.deepEqual(
      [...outcomes.keys()].filter((o) => !/^(QUEUED|503)$/.test(o)),
      [],
    );
    await s.settled(db, view);
    assert.deepEqual(await s.lost(), []);
    const ordersOfStranger =
      "SELECT 1 FROM orders WHERE product_id = $1 AND user_id = '00000000-0000-8000-8000-00000000005a'";
    assert.equal((await db.pool.query(ordersOfStranger, [s.itemId])).rowCount, 1);
  });

  it('sells on after the death of a master, and oversells nothing', async () => {
    const s = shop();
    await s.openSale(PLENTY);
    const epoch = await epochOf(s);
    const crowd = s.crowd(8);
    await eventually('some are sold', () => s.bought.length >= 50);
    const master = await cluster().masterOf(keysOf(s).meta);
    await master.kill();
    await cluster().untilFailedOver(keysOf(s).meta, master);
    await s.sellsAgain();
    await sellsOn(s);
    await eventually('the sale is loaded under a new epoch', async () => (await epochOf(s)) > epoch);
    await sellsOn(s);
    await crowd.done();
    await master.start();
    await cluster().untilReplicated();
    await s.settled(db, view);
  });

  it('oversells nothing when a failover loses the last purchases', async () => {
    const s = shop();
    await s.openSale(100);
    for (let i = 0; i < 40; i++) assert.equal(await s.buy(), 'QUEUED');
    await s.settled(db, view);
    const master = await cluster().masterOf(keysOf(s).meta);
    const replica = await cluster().replicaOf(master);
    const epoch = await epochOf(s);
    replica.freeze();
    for (let i = 0; i < 30; i++) assert.equal(await s.buy(), 'QUEUED');
    await master.kill();
    replica.thaw();
    await cluster().untilFailedOver(keysOf(s).meta, master);
    await s.sellsAgain();
    await eventually('the sale is loaded under a new epoch', async () => (await epochOf(s)) > epoch);
    await eventually('it is sold out', async () => (await s.buy()) === 'SOLD_OUT');
    await master.start();
    await cluster().untilReplicated();
    await s.settled(db, view);
    assert.equal(await s.orders(db), 100);
  });
});

describe('product on a Redis cluster whose purchases wait for a replica', () => {
  const servers = useServers('postgres', 'rabbitmq');
  const cluster = useRedisCluster();
  const processes = useProcesses();

  it('loses no answered purchase with a master, and confirms none until its successor has a replica', async () => {
    const nodes = cluster().addresses;
    const product = await processes.start('product', {
      env: { ...servers.env(), KAIMAI_DATA_REDIS_NODES: nodes.join(',') },
      config: { server: { roles: [] }, data: { redis: { wait_replicas: 1 } } },
    });
    const db = openPostgres(servers.postgresUrl, 'kaimai_product');
    const view = new RedisServer({ ...TIMEOUTS, addr: '', nodes });
    const shop = new Shop(() => [product]);
    try {
      await view.ready(5_000);
      await shop.openSale(PLENTY);
      const crowd = shop.crowd(8);
      await eventually('some are sold', () => shop.bought.length >= 50);
      const { meta } = view.keys.sale(BigInt(shop.itemId));
      const epoch = BigInt((await view.commands.hget(meta, 'epoch')) ?? 0);
      const master = await cluster().masterOf(meta);
      await master.kill();
      await cluster().untilFailedOver(meta, master);
      await eventually('the sale is loaded under a new epoch', async () => {
        return BigInt((await view.commands.hget(meta, 'epoch')) ?? 0) > epoch;
      });
      const soldBefore = shop.bought.length;
      for (let i = 0; i < 3; i++) assert.equal(await shop.buy(), '503');
      assert.equal(shop.bought.length, soldBefore);
      await master.start();
      await cluster().untilReplicated();
      await shop.sellsAgain();
      await crowd.done();
      await shop.settled(db, view);
      assert.deepEqual(await shop.lost(), []);
    } finally {
      await shop.close();
      view.close();
      await db.close();
    }
  });
});
