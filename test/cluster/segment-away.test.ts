import assert from 'node:assert/strict';
import { formatUserId } from '../../internal/biz/identity.js';
import { homeSegment, segmentsOf } from '../../internal/biz/seckill/segment.js';
import type { Postgres } from '../../internal/data/postgres/postgres.js';
import { RedisServer } from '../../internal/data/redis/redis.js';
import { openPostgres } from '../support/instances.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { type Click, PurchaseClient, type Way } from '../support/purchase-client.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';
import { useRedisCluster } from './redis.js';
import { Shop } from './shop.js';

const SEGMENTS = 4;
const UNITS = 400;
/** The ways in which the purchases of several callers are made together. */
const TOGETHER: readonly Way[] = ['batch', 'stream'];

describe('While a master with a segment of a sale hangs', () => {
  const servers = useServers('postgres', 'rabbitmq');
  // So long that no replica takes over.
  const cluster = useRedisCluster({ nodeTimeoutMs: 60_000 });
  const processes = useProcesses();
  let product: TestProcess;
  let db: Postgres;
  let redis: RedisServer;

  before(async () => {
    const nodes = cluster().addresses;
    product = await processes.start('product', {
      env: { ...servers.env(), KAIMAI_DATA_REDIS_NODES: nodes.join(',') },
      config: { server: { roles: [] } },
    });
    db = openPostgres(servers.postgresUrl, 'kaimai_product');
    redis = new RedisServer({ addr: '', nodes, readTimeoutMs: 1_000, connectTimeoutMs: 1_000, keyPrefix: '' });
    await redis.ready(5_000);
  });
  after(async () => {
    redis?.close();
    await db?.close();
  });

  it('the sale shows the units of the other segments, and their purchases and other sales are settled', async () => {
    const [shop, other] = [new Shop(() => [product]), new Shop(() => [product])];
    await shop.openSale(UNITS, { segments: SEGMENTS });
    const itemId = BigInt(shop.itemId);
    const masterOf = (segment: number) => cluster().masterOf(redis.keys.sale(itemId, segment).meta);
    const masters = await Promise.all(segmentsOf(SEGMENTS).map(masterOf));
    const master = masters[1]!;
    const there = segmentsOf(SEGMENTS).filter((segment) => masters[segment] !== master);
    do await other.openSale(UNITS);
    while ((await cluster().masterOf(redis.keys.sale(BigInt(other.itemId)).meta)) === master);

    const buy = async (itemId: string, user: number) => {
      const headers = { 'x-user-id': String(user) };
      const { body, status } = await shop.call('POST', '/v1/seckill', headers, { itemId });
      return body.code ?? status;
    };
    const show = async () => {
      const { body } = await shop.call('GET', `/v1/sales/${itemId}`);
      return [body.remaining, body.availability];
    };
    const homeOf = (user: number) => homeSegment(formatUserId(String(user)), SEGMENTS);
    const users = Array.from({ length: 400 }, (_, i) => i + 1);
    const [stranded = 0, ...alsoStranded] = users.filter((user) => !there.includes(homeOf(user)));
    const served = users.filter((user) => there.includes(homeOf(user))).slice(0, 40);
    const together = users.filter((user) => there.includes(homeOf(user))).slice(40, 60);
    const clicksOf = (way: Way) => {
      const [own, far] = way === 'batch' ? [together.slice(0, 10), 0] : [together.slice(10), 1];
      return [alsoStranded[far]!, ...own].map((user) => ({ user, requestId: `${way} ${user}` }));
    };

    const client = new PurchaseClient(product, { sockets: 1, timeoutMs: 5_000 });
    const codes = async (clicks: readonly Click[], way: Way): Promise<string[]> => {
      const calls = way === 'batch' ? [clicks] : clicks.map((click) => [click]);
      const answers = await Promise.all(
        calls.map((call) => client.purchase(itemId, call, way).catch(() => call.map(() => undefined))),
      );
      return answers.flat().map((answer) => answer?.code ?? 'again');
    };

    master.freeze();
    try {
      const left = (UNITS / SEGMENTS) * there.length;
      assert.deepEqual(await show(), [String(left), 'AVAILABLE']);
      assert.equal(await buy(shop.itemId, stranded), 503);
      for (const user of served) {
        assert.equal(await buy(shop.itemId, user), 'QUEUED');
        assert.equal(await buy(other.itemId, user), 'QUEUED');
      }
      // Callers whose purchases share a script call, and one among them whose segment does not answer.
      for (const way of TOGETHER) {
        const [unanswered, ...answered] = await codes(clicksOf(way), way);
        assert.equal(unanswered, 'again', way);
        assert.ok(
          answered.every((code) => code === 'QUEUED'),
          `${way}: ${answered.join(' ')}`,
        );
      }
      const sold = served.length + together.length;
      assert.deepEqual(await show(), [String(left - sold), 'AVAILABLE']);
      await eventually('they are settled', async () => {
        return (await shop.orders(db)) === sold && (await other.orders(db)) === served.length;
      });
    } finally {
      master.thaw();
    }
    await eventually('all segments are shown', async () => Number((await show())[0]) > UNITS - 100);
    await eventually('the segment sells again', async () => (await buy(shop.itemId, stranded)) === 'QUEUED');
    for (const way of TOGETHER) assert.deepEqual(await codes(clicksOf(way).slice(0, 1), way), ['QUEUED'], way);
    await shop.settled(db, redis, SEGMENTS);
    assert.equal(await shop.orders(db), served.length + together.length + 1 + TOGETHER.length);
    client.close();
    const outages = product
      .log()
      .split('\n')
      .filter((line) => line.includes('purchase streams cannot be reached'));
    assert.equal(outages.length, 1, outages.join('\n'));
  });
});
