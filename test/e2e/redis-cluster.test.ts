import assert from 'node:assert/strict';
import { RedisServer } from '../../internal/data/redis/redis.js';
import { useRedisCluster } from '../cluster/redis.js';
import { Shop } from '../cluster/shop.js';
import { openPostgres } from '../support/instances.js';
import { useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const UNITS = 100;

/** The shortest of the rounds of `make test-cluster`. */
describe('product on a Redis cluster, in short,', () => {
  const servers = useServers('postgres', 'rabbitmq');
  const cluster = useRedisCluster();
  const processes = useProcesses();

  it('sells every unit once, also after the death of the master that has the sale', async () => {
    const nodes = cluster().addresses;
    const product = await processes.start('product', {
      env: { ...servers.env(), KAIMAI_DATA_REDIS_NODES: nodes.join(',') },
      config: { server: { roles: [] } },
    });
    const db = openPostgres(servers.postgresUrl, 'kaimai_product');
    const redis = new RedisServer({ addr: '', nodes, readTimeoutMs: 1_000, connectTimeoutMs: 1_000, keyPrefix: '' });
    try {
      await redis.ready(5_000);
      const shop = new Shop(() => [product]);
      await shop.openSale(UNITS);
      for (let i = 0; i < UNITS / 2; i++) assert.equal(await shop.buy(), 'QUEUED');
      const { meta } = redis.keys.sale(BigInt(shop.itemId));
      const epoch = await redis.commands.hget(meta, 'epoch');
      const master = await cluster().masterOf(meta);
      await master.kill();
      await cluster().untilFailedOver(meta, master);
      await shop.sellsAgain();
      // The load brings back what the replica had not heard of.
      await eventually('the sale is loaded under a new epoch', async () => {
        return Number(await redis.commands.hget(meta, 'epoch')) > Number(epoch);
      });
      await eventually('it is sold out', async () => (await shop.buy()) === 'SOLD_OUT');
      await shop.settled(db, redis);
      assert.equal(await shop.orders(db), UNITS);
    } finally {
      redis.close();
      await db.close();
    }
  });
});
