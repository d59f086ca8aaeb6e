import assert from 'node:assert/strict';
import { Redis } from 'ioredis';
import type { Postgres } from '../../internal/data/postgres/postgres.js';
import { RedisServer } from '../../internal/data/redis/redis.js';
import { violationsOf } from '../support/audit.js';
import { FaultProxy } from '../support/fault-proxy.js';
import { openPostgres } from '../support/instances.js';
import { OwnPostgres } from '../support/own-postgres.js';
import { OwnRedis } from '../support/own-redis.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

interface Reply {
  readonly status: number;
  readonly body: { readonly id?: string; readonly code?: string; readonly remaining?: string };
}

/** Calls that a demoted server sees before another is promoted. */
const CALLS_MEANWHILE = 40;

describe('a failover that closes no connection', () => {
  const servers = useServers('rabbitmq');
  const processes = useProcesses();
  let postgres: OwnPostgres;
  let redis: OwnRedis;
  let postgresProxy: FaultProxy;
  let redisProxy: FaultProxy;
  let product: TestProcess;
  let nextUser = 1;
  let planId: string;

  before(async function () {
    // This suite promotes and stops its own servers: not those that were given by URL or run in containers.
    if (!OwnRedis.available || !OwnPostgres.available) this.skip();
    [postgres, redis] = await Promise.all([OwnPostgres.start(), OwnRedis.start()]);
    postgresProxy = await FaultProxy.open(postgres.url);
    redisProxy = await FaultProxy.open(redis.url);
    product = await processes.start('product', {
      env: {
        ...servers.env(),
        KAIMAI_POSTGRES_URL: postgresProxy.url(postgres.url),
        KAIMAI_REDIS_URL: redisProxy.url(redis.url),
      },
      config: { seckill: { max_deliveries: 3 } },
    });
    const spec = await admin('/v1/product-specs', { cpu: 1, memory: 1, image: 'debian-12' });
    planId = (await admin('/v1/products', { name: 'p', priceFen: '1', specId: spec.id, status: 'ENABLED' })).id!;
    await admin('/v1/sales', { itemId: planId, total: '10000', payMode: 'PAY_LATER' });
    await eventually('the sale is open', async () => (await buy()).body.code === 'QUEUED');
  });
  after(async () => {
    await product?.stop();
    await Promise.all([postgresProxy?.close(), redisProxy?.close()]);
    await Promise.all([postgres?.close(), redis?.close()]);
  });

  async function call(method: string, path: string, headers: Record<string, string>, body?: unknown): Promise<Reply> {
    const reply = await fetch(`http://${product.http}${path}`, {
      method,
      headers: { 'content-type': 'application/json', ...headers },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    return { status: reply.status, body: (await reply.json()) as Reply['body'] };
  }

  async function admin(path: string, body: unknown): Promise<Reply['body']> {
    const reply = await call('POST', path, { 'x-user-role': 'ADMIN' }, body);
    assert.equal(reply.status, 200, JSON.stringify(reply.body));
    return reply.body;
  }

  const buy = () => call('POST', '/v1/seckill', { 'x-user-id': String(nextUser++) }, { itemId: planId });
  const order = () => call('POST', '/v1/orders', { 'x-user-id': String(nextUser++) }, { productId: planId });

  async function readiness(): Promise<{ readonly status: number; readonly down: readonly string[] }> {
    const reply = await fetch(`http://${product.metrics}/readyz`);
    const body = (await reply.json()) as { dependencies: { name: string; up: boolean }[] };
    return { status: reply.status, down: body.dependencies.filter((d) => !d.up).map((d) => d.name) };
  }

  async function statusesOf(calls: () => Promise<Reply>): Promise<number[]> {
    const seen = new Set<number>();
    for (let i = 0; i < CALLS_MEANWHILE; i++) seen.add((await calls()).status);
    return [...seen];
  }

  async function settled(db: Postgres, view: RedisServer): Promise<void> {
    const stream = `stream:seckill:${planId}`;
    await eventually('every purchase is settled', async () => (await view.commands.xlen(stream)) === 0);
    const { rows } = await db.pool.query<{ n: bigint }>('SELECT count(*) AS n FROM dead_letters');
    assert.equal(rows[0]?.n, 0n, 'a purchase was blamed for the failover');
    assert.deepEqual(await violationsOf(db, view), []);
  }

  it('answers 503 while PostgreSQL is demoted, follows the promoted one, and blames no purchase', async () => {
    const standby = await postgres.standby();
    const direct = new Redis(redis.url, { lazyConnect: true });
    try {
      await direct.connect();
      await postgres.demote();
      // Purchases go on: Redis is the gate. Their entries wait for a database that takes writes.
      for (let i = 0; i < 20; i++) assert.equal((await buy()).body.code, 'QUEUED');
      assert.deepEqual(await statusesOf(order), [503]);
      await eventually('readiness follows', async () => (await readiness()).status === 503);
      assert.deepEqual((await readiness()).down, ['postgres']);
      await standby.promote();
      postgresProxy.moveTo(standby.url);
      await eventually('readiness follows again', async () => (await readiness()).status === 200);
      await eventually('orders are made', async () => (await order()).status === 200);
      const pending = (await direct.xpending(`stream:seckill:${planId}`, 'product', '-', '+', 1_000)) as unknown[][];
      const most = Math.max(0, ...pending.map((entry) => Number(entry[3])));
      assert.ok(most <= 1, `an entry was delivered ${most} times`);
      const db = openPostgres(standby.url, 'kaimai_product');
      const view = new RedisServer({ addr: redis.url, readTimeoutMs: 5_000, connectTimeoutMs: 5_000, keyPrefix: '' });
      try {
        await view.ready(5_000);
        await settled(db, view);
      } finally {
        view.close();
        await db.close();
      }
    } finally {
      direct.disconnect();
      await postgres.close();
      postgres = standby;
    }
  });

  it('answers 503 while Redis is demoted, and follows the promoted one', async () => {
    const replica = await OwnRedis.start();
    try {
      await replica.follow(redis);
      await replica.client.replicaof('NO', 'ONE');
      await redis.client.replicaof('127.0.0.1', new URL(replica.url).port);
      assert.deepEqual(await statusesOf(buy), [503]);
      await eventually('readiness names it', async () => (await readiness()).down.includes('redis'));
      assert.equal((await readiness()).status, 200, 'what needs no Redis is served on');
      redisProxy.moveTo(replica.url);
      await eventually('purchases are admitted', async () => (await buy()).body.code === 'QUEUED');
      await eventually('no dependency is down', async () => (await readiness()).down.length === 0);
      const db = openPostgres(postgres.url, 'kaimai_product');
      const addr = replica.url;
      const view = new RedisServer({ addr, readTimeoutMs: 5_000, connectTimeoutMs: 5_000, keyPrefix: '' });
      try {
        await view.ready(5_000);
        await settled(db, view);
      } finally {
        view.close();
        await db.close();
      }
    } finally {
      await redis.close();
      redis = replica;
    }
  });

  it('leaves a Redis that vanished without a word, and follows its successor', async () => {
    const successor = await OwnRedis.start();
    try {
      await successor.follow(redis);
      await successor.client.replicaof('NO', 'ONE');
      process.kill(redis.pid, 'SIGSTOP');
      redisProxy.moveTo(successor.url);
      await eventually('purchases are admitted', async () => (await buy()).body.code === 'QUEUED');
    } finally {
      process.kill(redis.pid, 'SIGCONT');
      await redis.close();
      redis = successor;
    }
  });
});
