import assert from 'node:assert/strict';
import { join } from 'node:path';
import { credentials, loadPackageDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import amqp from 'amqplib';
import { Redis } from 'ioredis';
import pg from 'pg';
import { projectRoot } from '../../internal/local/project.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const USER = '123';
const USER_UUID = '00000000-0000-8000-8000-00000000007b';
const ADMIN = { 'x-user-role': 'ADMIN' };

// The integration test of document 001 (docs/documents.md), step by step, on real processes and servers.
describe('The integration script of document 001', () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();
  let product: TestProcess;
  let resource: TestProcess;
  let redis: Redis;
  let db: pg.Client;
  let orderId: string;

  before(async () => {
    redis = new Redis(servers.redisUrl);
    db = new pg.Client({ connectionString: servers.postgresUrl });
    await db.connect();
  });
  after(async () => {
    redis.disconnect();
    await db.end();
  });

  const call = async <T>(
    base: string,
    method: string,
    path: string,
    headers: object = {},
    body?: unknown,
  ): Promise<T> => {
    const reply = await fetch(`http://${base}${path}`, {
      method,
      headers: { ...headers, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
      body: body === undefined ? null : JSON.stringify(body),
    });
    const text = await reply.text();
    assert.equal(reply.status, 200, `${method} ${path}: ${text}`);
    return JSON.parse(text) as T;
  };

  it('1. starts the services as documented', async () => {
    product = await processes.start('product', { env: servers.env() });
    resource = await processes.start('resource', { env: { ...servers.env(), ...product.env() } });
    const spec = await call<{ id: string }>(product.http, 'POST', '/v1/product-specs', ADMIN, {
      cpu: 2,
      memory: 4,
      image: 'debian-12',
    });
    const plan = await call<{ id: string }>(product.http, 'POST', '/v1/products', ADMIN, {
      name: 'small',
      priceFen: '9900',
      specId: spec.id,
      status: 'ENABLED',
    });
    assert.equal(plan.id, '1001');
  });

  it('1b. is called by a client that loads the protos at run time', async () => {
    const loaded = loadSync('product/v1/product.proto', {
      includeDirs: [join(projectRoot, 'api'), join(projectRoot, 'third_party')],
      longs: String,
      enums: String,
    });
    // biome-ignore lint/suspicious/noExplicitAny: a client built at run time has no types
    const { ProductService } = (loadPackageDefinition(loaded) as any).product.v1;
    const client = new ProductService(product.grpc, credentials.createInsecure());
    try {
      const reply = await new Promise<{ name: string; status: string; priceFen: string }>((resolve, reject) =>
        client.getProduct({ id: '1001' }, (err: Error | null, r: never) => (err ? reject(err) : resolve(r))),
      );
      assert.deepEqual([reply.name, reply.status, reply.priceFen], ['small', 'ENABLED', '9900']);
    } finally {
      client.close();
    }
  });

  it('2. turns redis-cli XADD stream:seckill:1001 * uid 123 ts 1234567890 into an instance', async () => {
    const streamId = await redis.call('XADD', 'stream:seckill:1001', '*', 'uid', USER, 'ts', '1234567890');
    const record = await eventually('the entry is an order that is paid', async () => {
      const r = await call<{ status: string; orderId: string }>(product.http, 'GET', `/v1/seckill/1001-${streamId}`, {
        'x-user-id': USER,
      });
      return r.status === 'PAID' ? r : undefined;
    });
    const order = await eventually('it is completed', async () => {
      const o = await call<{ status: string; source: string; userId: string; instanceId: string }>(
        product.http,
        'GET',
        `/v1/orders/${record.orderId}`,
        { 'x-user-id': USER },
      );
      return o.status === 'COMPLETED' ? o : undefined;
    });
    assert.equal(order.source, 'SECKILL');
    assert.equal(order.userId, USER_UUID);
    assert.notEqual(order.instanceId, '0');
    await eventually('nothing is left in the stream', async () => (await redis.xlen('stream:seckill:1001')) === 0);
  });

  it('3. turns curl -X POST http://localhost:8000/v1/orders/{id}/paid into an instance', async () => {
    const order = await call<{ id: string; orderNo: string; status: string }>(
      product.http,
      'POST',
      '/v1/orders',
      { 'x-user-id': USER },
      { productId: '1001' },
    );
    assert.equal(order.status, 'PENDING');
    assert.equal(order.orderNo, `ORD${order.id}`);
    orderId = order.id;
    // Like curl: no body, no headers.
    const paid = await call<{ status: string }>(product.http, 'POST', `/v1/orders/${orderId}/paid`);
    assert.equal(paid.status, 'PAID');
    await eventually('it is completed', async () => {
      const o = await call<{ status: string }>(product.http, 'GET', `/v1/orders/${order.orderNo}`, {
        'x-user-id': USER,
      });
      return o.status === 'COMPLETED';
    });
    const { events } = await call<{ events: { from: string; to: string; actor: string }[] }>(
      product.http,
      'GET',
      `/v1/orders/${orderId}/events`,
      { 'x-user-id': USER },
    );
    assert.deepEqual(
      events.map((e) => `${e.from} > ${e.to} by ${e.actor}`),
      ['STATUS_UNSPECIFIED > PENDING by user', 'PENDING > PAID by payment', 'PAID > COMPLETED by resource'],
    );
  });

  it('4. shows both instances in SELECT * FROM instance_logs ORDER BY created_at DESC LIMIT 10', async () => {
    const { rows } = await db.query<{ source: string; source_id: string; status: string; user_id: string }>(
      'SELECT * FROM instance_logs ORDER BY created_at DESC LIMIT 10;',
    );
    assert.deepEqual(
      rows.map((r) => [r.source, r.status, r.user_id]),
      [
        ['ORDER', 'SUCCESS', USER_UUID],
        ['SECKILL', 'SUCCESS', USER_UUID],
      ],
    );
    assert.equal(rows[0]?.source_id, `ORD${orderId}`);
    assert.match(rows[1]?.source_id ?? '', /^\d+-\d+$/);
    for (const sourceId of [`ORD${orderId}`, orderId]) {
      const path = `/v1/instance-logs?source=ORDER&source_id=${sourceId}`;
      const found = await call<{ logs: { sourceId: string }[] }>(resource.http, 'GET', path, { 'x-user-id': USER });
      assert.deepEqual(
        found.logs.map((log) => log.sourceId),
        [`ORD${orderId}`],
      );
    }
  });

  it('5. lists an empty queue in RabbitMQ', async () => {
    const connection = await amqp.connect(servers.rabbitmqUrl);
    try {
      const channel = await connection.createChannel();
      // A missing queue closes the channel, and checkQueue rejects.
      channel.on('error', () => {});
      const queue = await channel.checkQueue(servers.queue('resource.instance.created'));
      assert.equal(queue.messageCount, 0);
      assert.ok(queue.consumerCount >= 1);
    } finally {
      await connection.close();
    }
  });

  it('6. creates an instance for the further source ACTIVITY, by GrantInstance', async () => {
    const granted = await call<{ instanceId: string; source: string }>(
      product.http,
      'POST',
      '/v1/instances/grant',
      ADMIN,
      { productId: '1001', userId: USER, sourceId: 'ACT123456' },
    );
    assert.equal(granted.source, 'ACTIVITY');
    const log = await eventually('the resource domain has created it', async () => {
      const { logs } = await call<{ logs: { status: string; sourceId: string; instanceId: string }[] }>(
        resource.http,
        'GET',
        '/v1/instance-logs?source=ACTIVITY',
        { 'x-user-id': USER },
      );
      return logs[0]?.status === 'SUCCESS' ? logs[0] : undefined;
    });
    assert.equal(log.sourceId, 'ACT123456');
    assert.equal(log.instanceId, granted.instanceId);
  });

  it('7. stops the services with exit code 0', async () => {
    assert.equal(await resource.stop(), 'exited with code 0');
    assert.equal(await product.stop(), 'exited with code 0');
  });
});
