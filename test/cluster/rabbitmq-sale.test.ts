import assert from 'node:assert/strict';
import pg from 'pg';
import type { Postgres } from '../../internal/data/postgres/postgres.js';
import { RedisServer } from '../../internal/data/redis/redis.js';
import { openPostgres } from '../support/instances.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';
import { useRabbitmqCluster } from './rabbitmq.js';
import { PLENTY, Shop } from './shop.js';

const QUEUE = 'resource.instance.created';

describe('product and resource on a RabbitMQ cluster', () => {
  const servers = useServers('postgres', 'redis');
  const cluster = useRabbitmqCluster();
  const processes = useProcesses();
  let product: TestProcess;
  let db: pg.Client;
  let admin: Postgres;
  let view: RedisServer;

  before(async () => {
    const env = { ...servers.env(), KAIMAI_RABBITMQ_URL: cluster().url };
    product = await processes.start('product', { env });
    await processes.start('resource', {
      env: { ...env, ...product.env() },
      config: { resource: { concurrency: 16, simulator: { delay: '0.05s' } } },
    });
    db = new pg.Client({ connectionString: servers.postgresUrl });
    await db.connect();
    admin = openPostgres(servers.postgresUrl, 'kaimai_product');
    view = new RedisServer({ addr: servers.redisUrl, readTimeoutMs: 5_000, connectTimeoutMs: 5_000, keyPrefix: '' });
    await view.ready(5_000);
  });
  after(async () => {
    view?.close();
    await admin?.close();
    await db?.end();
  });

  const count = async (what: string) => {
    const [column, from] = what.split(' FROM ');
    const { rows } = await db.query<{ n: string }>(`SELECT count(${column}) AS n FROM ${from}`);
    return Number(rows[0]?.n);
  };

  it('completes every order exactly once while the leader of the queue is cut off, and after its death', async () => {
    const shop = new Shop(() => [product]);
    await shop.openSale(PLENTY, { payMode: 'PREPAID' });
    const crowd = shop.crowd(2, 100);
    const completed = () => count('* FROM orders WHERE status = 3');
    const goesOn = async () => {
      const before = await completed();
      await eventually('orders are completed', async () => (await completed()) >= before + 20);
    };
    try {
      await goesOn();
      const leader = await cluster().leaderOf(QUEUE);
      await cluster().partition(leader);
      await cluster().untilPaused(leader);
      await goesOn();
      await cluster().heal(leader);
      await cluster().untilWhole();
      cluster().kill(await cluster().leaderOf(QUEUE));
      await goesOn();
    } finally {
      await crowd.done();
    }
    await eventually('every purchase is an order', async () => (await count('* FROM orders')) === shop.bought.length);
    const orders = shop.bought.length;
    await eventually('every order is completed', async () => (await completed()) === orders);
    assert.equal(await count('DISTINCT instance_id FROM orders'), orders);
    assert.equal(await count('* FROM simulated_instances'), orders);
    assert.equal(await count('* FROM order_events WHERE to_status = 3'), orders, 'an order was completed twice');
    assert.equal(await count('* FROM resource_dead_letters'), 0);
    await shop.settled(admin, view);
  });
});
