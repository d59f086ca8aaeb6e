import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Postgres } from '../../internal/data/postgres/postgres.js';
import { RedisServer } from '../../internal/data/redis/redis.js';
import { openPostgres } from '../support/instances.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';
import { useRedisCluster } from './redis.js';
import { Shop } from './shop.js';

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
  afterEach(() => cluster()?.untilServing());

  const shop = () => new Shop(() => [product]);
  const keysOf = ({ itemId }: Shop) => view.keys.sale(BigInt(itemId));

  it('sells several items at a time, each on the server of its own keys, and a stranger’s entries too', async () => {
    const shops = [shop(), shop(), shop(), shop()];
    for (const s of shops) await s.openSale(30);
    await Promise.all(
      shops.map(async (s) => {
        for (let i = 0; i < 20; i++) assert.equal(await s.buy(), 'QUEUED');
        // Any client that writes the item as a hash tag reaches the sale.
        for (let i = 0; i < 10; i++) await view.commands.xadd(keysOf(s).stream, '*', 'uid', `9${i}`, 'ts', Date.now());
      }),
    );
    for (const s of shops) {
      await s.settled(db, view);
      assert.equal(await s.orders(db), 30);
      assert.match(await s.buy(), /SOLD_OUT/);
    }
    const servers = new Set(await Promise.all(shops.map(async (s) => (await cluster().masterOf(keysOf(s).meta)).port)));
    assert.ok(servers.size > 1, 'the items were meant to lie on several servers');
  });

  it('follows a slot that moves to another server in the middle of a sale', async () => {
    const s = shop();
    await s.openSale(1_000);
    const crowd = s.crowd(8);
    await eventually('some are sold', () => s.bought.length >= 50);
    const move = await cluster().beginMove(keysOf(s).meta);
    assert.equal(await move.moveKeys(3), 3);
    await sleep(300);
    await move.finish();
    await s.sellsAgain();
    const soldBefore = s.bought.length;
    await eventually('it sells on', () => s.bought.length >= soldBefore + 50);
    const outcomes = await crowd.done();
    assert.deepEqual(
      [...outcomes.keys()].filter((o) => !/^(QUEUED|503|SOLD_OUT)$/.test(o)),
      [],
    );
    await s.settled(db, view);
    assert.ok((await s.orders(db)) <= 1_000);
    assert.deepEqual(await s.lost(), []);
  });

  it('sells on after the death of a master, and oversells nothing', async () => {
    const s = shop();
    await s.openSale(2_000);
    const crowd = s.crowd(8);
    await eventually('some are sold', () => s.bought.length >= 50);
    const master = await cluster().masterOf(keysOf(s).meta);
    await master.kill();
    await eventually(
      'the others call it failed',
      async () => {
        const other = cluster().nodes.find((n) => n !== master)!;
        return /cluster_state:fail/.test(String(await other.client.cluster('INFO')));
      },
      { everyMs: 10 },
    );
    await cluster().untilServing();
    await s.sellsAgain();
    const soldBefore = s.bought.length;
    await eventually('it sells on', () => s.bought.length >= soldBefore + 50);
    await crowd.done();
    await master.start();
    await cluster().untilReplicated();
    await s.settled(db, view);
    assert.ok((await s.orders(db)) <= 2_000);
  });

  it('oversells nothing when a failover loses the last purchases', async () => {
    const s = shop();
    await s.openSale(100);
    for (let i = 0; i < 40; i++) assert.equal(await s.buy(), 'QUEUED');
    await s.settled(db, view);
    const master = await cluster().masterOf(keysOf(s).meta);
    const replica = await cluster().replicaOf(master);
    const [epochBefore] = await view.commands.hmget(keysOf(s).meta, 'epoch');
    replica.freeze();
    for (let i = 0; i < 30; i++) assert.equal(await s.buy(), 'QUEUED');
    await master.kill();
    replica.thaw();
    await eventually(
      'the others call it failed',
      async () => {
        return /cluster_state:fail/.test(String(await replica.client.cluster('INFO').catch(() => '')));
      },
      { everyMs: 10 },
    );
    await cluster().untilServing();
    await s.sellsAgain();
    await eventually('the sale is loaded under a new epoch', async () => {
      const [epoch] = await view.commands.hmget(keysOf(s).meta, 'epoch');
      return BigInt(epoch ?? 0) > BigInt(epochBefore!);
    });
    let outcome = '';
    await eventually('it is sold out', async () => {
      outcome = await s.buy();
      return outcome === 'SOLD_OUT';
    });
    await master.start();
    await cluster().untilReplicated();
    await s.settled(db, view);
    assert.equal(await s.orders(db), 100);
  });
});
