import assert from 'node:assert/strict';
import { formatUserId } from '../../internal/biz/identity.js';
import type { Postgres } from '../../internal/data/postgres/postgres.js';
import { RedisServer } from '../../internal/data/redis/redis.js';
import { Random } from '../simulation/random.js';
import { violationsOf } from '../support/audit.js';
import { Crowd } from '../support/crowd.js';
import { FaultProxy } from '../support/fault-proxy.js';
import { openPostgres } from '../support/instances.js';
import { OwnRedis } from '../support/own-redis.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import type { Click, Way } from '../support/purchase-client.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const UNITS = 600;
const BUYERS = 3_000;
const SEED = 4;
/** Purchases before the fault. */
const EARLY = 120;
/** Purchases that the stale replica has not received. */
const MISSED = 100;

const WAYS: readonly Way[] = ['grpc', 'json', 'batch', 'batch', 'stream'];
/** How many of the purchases without a record are polled. */
const SAMPLE = 50;

/** Final statuses of QUEUED purchases. */
interface Outcome {
  readonly ordered: number;
  readonly rejected: number;
  /** The purchase was lost with Redis before it became an order: QUEUED is provisional, and polling returns 404. */
  readonly lost: number;
}

describe('A sale on two replicas of product whose Redis fails halfway', () => {
  const servers = useServers('postgres', 'rabbitmq');
  const processes = useProcesses();
  let redis: OwnRedis;
  let proxy: FaultProxy;
  let products: TestProcess[];
  let db: Postgres;
  /** The URL for the product processes, through the proxy. */
  let view: RedisServer;

  before(async function () {
    // This suite needs a Redis that it may kill: not one that was given by URL or runs in a container.
    if (!OwnRedis.available) this.skip();
    redis = await OwnRedis.start();
    proxy = await FaultProxy.open(redis.url);
    const env = { ...servers.env(), KAIMAI_REDIS_URL: proxy.url(redis.url), KAIMAI_LOG_LEVEL: 'error' };
    products = await Promise.all([processes.start('product', { env }), processes.start('product', { env })]);
    db = openPostgres(servers.postgresUrl, 'kaimai_product');
    const addr = proxy.url(redis.url);
    view = new RedisServer({ addr, readTimeoutMs: 5_000, connectTimeoutMs: 5_000, keyPrefix: '' });
  });
  after(async () => {
    // Before the proxy, so that no process tries to reconnect to it.
    await Promise.all((products ?? []).map((p) => p.stop()));
    view?.close();
    await db?.close();
    await proxy?.close();
    await redis?.close();
  });

  async function call<T>(method: string, path: string, headers: Record<string, string>, body?: unknown) {
    const reply = await fetch(`http://${products[0]!.http}${path}`, {
      method,
      headers: { 'content-type': 'application/json', ...headers },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    return { status: reply.status, body: (await reply.json()) as T };
  }
  async function admin(path: string, body: unknown): Promise<{ id: string }> {
    const reply = await call<{ id: string }>('POST', path, { 'x-user-role': 'ADMIN' }, body);
    assert.equal(reply.status, 200, JSON.stringify(reply.body));
    return reply.body;
  }
  const sale = async (itemId: bigint) =>
    (await call<Record<'remaining' | 'sold' | 'epoch', string>>('GET', `/v1/sales/${itemId}`, {})).body;

  /**
   * Sells out a sale, injects the fault halfway, and compares every reply with its result. `prepare` runs between two
   * purchases, when the first have bought.
   */
  async function sellThrough(
    fault: (itemId: bigint) => Promise<void>,
    prepare: (itemId: bigint) => Promise<void> = async () => {},
  ): Promise<Outcome> {
    const spec = await admin('/v1/product-specs', { cpu: 1, memory: 1, image: 'debian-12' });
    const plan = await admin('/v1/products', { name: 'p', priceFen: '1', specId: spec.id, status: 'ENABLED' });
    const itemId = BigInt(plan.id);
    await admin('/v1/sales', { itemId: plan.id, total: String(UNITS), payMode: 'PAY_LATER' });
    await eventually('the sale is open', async () => (await sale(itemId)).remaining === String(UNITS));
    const before = await sale(itemId);
    const random = new Random(SEED);
    const clicks = Array.from({ length: BUYERS }, (_, i): Click => ({ user: i + 1, requestId: `click-${i}` }));
    const crowd = new Crowd(products, itemId);
    try {
      const next = () => ({ way: random.pick(WAYS), replica: random.int(2) });
      await crowd.rush(clicks.slice(0, EARLY), next, 20);
      await prepare(itemId);
      const rush = crowd.rush(clicks.slice(EARLY), next, 20);
      await eventually('more have bought', () => crowd.queued > EARLY, { everyMs: 2 });
      assert.ok(crowd.queued < UNITS, 'all units were sold before the fault');
      await fault(itemId);
      await rush;
      await eventually('admission is there under another epoch', async () => {
        const now = await sale(itemId);
        return BigInt(now.epoch) > BigInt(before.epoch) && (await loadedEpoch(itemId)) === now.epoch;
      });
      await worked(itemId);
      // Units of lost and rejected purchases are available again.
      for (let user = BUYERS + 1; (await sale(itemId)).remaining !== '0'; user++) {
        assert.ok(user < BUYERS + UNITS, 'the sale does not sell out');
        await crowd.click({ user, requestId: '' }, user % 2);
        if ((await sale(itemId)).remaining === '0') await worked(itemId);
      }
      await worked(itemId);
    } finally {
      crowd.close();
    }
    const { sold, remaining } = await sale(itemId);
    assert.deepEqual([sold, remaining], [String(UNITS), '0']);
    assert.deepEqual((await violationsOf(db, view)).slice(0, 20), []);
    return outcomeOf(crowd, itemId);
  }

  const loadedEpoch = (itemId: bigint) => view.commands.hget(`seckill:${itemId}:meta`, 'epoch');
  const worked = (itemId: bigint) =>
    eventually('the stream is empty', async () => (await view.commands.xlen(`stream:seckill:${itemId}`)) === 0);

  async function outcomeOf(crowd: Crowd, itemId: bigint): Promise<Outcome> {
    const { rows } = await db.pool.query<{ user_id: string; n: bigint }>(
      'SELECT user_id, count(*) AS n FROM orders WHERE product_id = $1 AND status <> 2 GROUP BY user_id',
      [itemId],
    );
    const clicked = new Set(crowd.told.map((t) => formatUserId(String(t.user))));
    for (const row of rows) {
      assert.ok(clicked.has(row.user_id), `${row.user_id} never clicked`);
      assert.equal(row.n, 1n, `${row.user_id} is over the limit`);
    }
    assert.equal(rows.length, UNITS);
    const outcome = { ordered: 0, rejected: 0, lost: 0 };
    const told = [...new Map(crowd.told.filter((t) => t.code === 'QUEUED').map((t) => [t.seckillId, t])).values()];
    const records = await db.pool.query<{ seckill_id: string; status: string; user_id: string }>(
      'SELECT seckill_id, status, user_id FROM seckill_records WHERE item_id = $1',
      [itemId],
    );
    const recordOf = new Map(records.rows.map((r) => [r.seckill_id, r]));
    const without = told.filter(({ seckillId, user }) => {
      const record = recordOf.get(seckillId);
      if (!record) return true;
      assert.equal(record.user_id, formatUserId(String(user)), seckillId);
      if (record.status === 'REJECTED') outcome.rejected += 1;
      else outcome.ordered += 1;
      return false;
    });
    outcome.lost = without.length;
    // Polling of lost purchases ends: NOT_KNOWN_YET is followed by PURCHASE_NOT_FOUND.
    const polls = without.slice(0, SAMPLE).map(({ seckillId, user }) =>
      eventually(
        'a final answer',
        async () => {
          const { body } = await call<{ reason: string; status: string }>('GET', `/v1/seckill/${seckillId}`, {
            'x-user-id': String(user),
          });
          return body.status !== 'NOT_KNOWN_YET' && body;
        },
        { timeoutMs: 90_000, everyMs: 500 },
      ),
    );
    for (const body of await Promise.all(polls)) assert.equal(body.reason, 'PURCHASE_NOT_FOUND');
    return outcome;
  }

  it('keeps committed orders and sells the rest again after a flush', async () => {
    const { ordered, lost } = await sellThrough(async () => {
      await redis.client.flushall();
    });
    // A buyer whose reply was lost may have an order with an id that no reply contained.
    assert.ok(ordered > 0 && ordered <= UNITS);
    assert.ok(lost <= UNITS);
  });

  it('has an order for every QUEUED purchase after Redis is killed and restarted with its data', async () => {
    const { rejected, lost } = await sellThrough(async () => {
      await redis.kill();
      await redis.restart();
    });
    assert.deepEqual({ rejected, lost }, { rejected: 0, lost: 0 });
  });

  it('sells every unit exactly once after Redis is killed and restarted empty', async () => {
    const { ordered } = await sellThrough(async () => {
      await redis.kill();
      redis.wipe();
      await redis.restart();
    });
    assert.ok(ordered > 0);
  });

  it('never oversells after a failover to a replica that missed the last purchases', async () => {
    const replica = await OwnRedis.start();
    try {
      await replica.follow(redis);
      let known = 0;
      const key = (itemId: bigint) => `seckill:${itemId}:stock`;
      const promote = async (itemId: bigint) => {
        await replica.client.replicaof('NO', 'ONE');
        known = Number(await replica.client.get(key(itemId)));
      };
      const { ordered, rejected, lost } = await sellThrough(async (itemId) => {
        await eventually(
          'it has missed some',
          async () => Number(await redis.client.get(key(itemId))) <= known - MISSED,
          {
            everyMs: 2,
          },
        );
        await redis.kill();
        assert.equal(Number(await replica.client.get(key(itemId))), known);
        proxy.failOver(replica.url);
      }, promote);
      assert.ok(ordered > 0 && rejected + lost < UNITS);
    } finally {
      await Promise.all(products.map((p) => p.stop()));
      products = [];
      view.close();
      await replica.close();
    }
  });
});
