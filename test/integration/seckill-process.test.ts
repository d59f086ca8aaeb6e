import assert from 'node:assert/strict';
import { Redis } from 'ioredis';
import pg from 'pg';
import { formatUserId } from '../../internal/biz/identity.js';
import { homeSegment, segmentOf, segmentsOf } from '../../internal/biz/seckill/segment.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

describe('The product process', () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();
  let product: TestProcess;
  let pool: pg.Pool;
  let redis: Redis;

  before(async () => {
    const config = { data: { rabbitmq: { queue: servers.queue('resource.instance.created') } } };
    product = await processes.start('product', { env: servers.env(), config });
    pool = new pg.Pool({ connectionString: servers.postgresUrl, max: 2 });
    redis = new Redis(servers.redisUrl);
  });
  after(async () => {
    await pool?.end();
    redis?.disconnect();
  });

  async function call(method: string, path: string, headers: Record<string, string>, body?: unknown) {
    const response = await fetch(`http://${product.http}${path}`, {
      method,
      headers: { 'content-type': 'application/json', ...headers },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    return { status: response.status, body: (await response.json()) as Record<string, unknown> };
  }
  const admin = (method: string, path: string, body?: unknown) => call(method, path, { 'x-user-role': 'ADMIN' }, body);
  const as = (user: number, method: string, path: string, body?: unknown) =>
    call(method, path, { 'x-user-id': String(user) }, body);
  const count = async (sql: string, ...values: unknown[]) =>
    Number((await pool.query<{ n: string }>(`SELECT count(*) AS n FROM ${sql}`, values)).rows[0]?.n);

  async function plan(): Promise<string> {
    const spec = await admin('POST', '/v1/product-specs', { cpu: 2, memory: 4, image: 'debian-12' });
    assert.equal(spec.status, 200, JSON.stringify(spec.body));
    const made = await admin('POST', '/v1/products', {
      name: 'p',
      priceFen: '9900',
      specId: spec.body.id,
      status: 'ENABLED',
    });
    assert.equal(made.status, 200, JSON.stringify(made.body));
    return made.body.id as string;
  }

  it('sells several units of goods at a time over JSON', async () => {
    const spu = await admin('POST', '/v1/spus', {
      ...{ spuNo: 'p-1', title: '手机', categoryId: '1', brandId: '2', mainImages: ['https://img.test/1'] },
      ...{ detailHtml: '<p>', publishStatus: 'PUBLISHED' },
    });
    assert.equal(spu.status, 200, JSON.stringify(spu.body));
    const wanted = { spuId: spu.body.id, skuNo: 's-1', skuName: '手机 黑色', priceFen: '500', stock: '9' };
    const named = (specs: string) =>
      call('POST', '/v1/skus', { 'x-user-role': 'ADMIN' }, `${JSON.stringify(wanted).slice(0, -1)},"specs":${specs}}`);
    const proto = await named('{"__proto__":"x"}');
    assert.deepEqual([proto.status, proto.body.reason], [400, 'INVALID_ARGUMENT'], JSON.stringify(proto.body));
    const sku = await named('{"color":"黑色","constructor":"x"}');
    assert.equal(sku.status, 200, JSON.stringify(sku.body));
    assert.deepEqual(sku.body.specs, { color: '黑色', constructor: 'x' });
    const itemId = sku.body.id as string;
    assert.equal((await as(1, 'POST', '/v1/skus', wanted)).status, 403);
    const repriced = await admin('PATCH', `/v1/skus/${itemId}`, { version: sku.body.version, marketPriceFen: '900' });
    assert.deepEqual([repriced.status, repriced.body.specs, repriced.body.priceFen], [200, sku.body.specs, '500']);
    const adjusted = await admin('POST', `/v1/skus/${itemId}/stock`, {
      ...{ delta: '-4', version: repriced.body.version, requestId: 'count-1' },
    });
    assert.deepEqual([adjusted.status, adjusted.body.stock], [200, '5']);
    const more = await admin('POST', '/v1/sales', { itemId, total: '6' });
    assert.equal(more.status, 400);
    assert.match(JSON.stringify(more.body), /total/);
    const sale = await admin('POST', '/v1/sales', { itemId, total: '5', priceFen: '100', defaultLimit: 3 });
    assert.deepEqual([sale.body.itemType, sale.body.name], ['GOODS', '手机 黑色'], JSON.stringify(sale.body));
    await admin('POST', `/v1/sales/${itemId}/open`, {});
    const bought = await eventually('the sale is known to be open', async () => {
      const reply = await as(7, 'POST', '/v1/seckill', { itemId, quantity: 2 });
      return reply.body.code === 'QUEUED' && reply;
    });
    const { seckillId } = bought.body.data as { seckillId: string };
    const { orderId } = await eventually('it is an order', async () => {
      const { body } = await as(7, 'GET', `/v1/seckill/${seckillId}`);
      return body.status === 'PAID' && body;
    });
    const order = (await as(7, 'GET', `/v1/orders/${orderId}`)).body;
    assert.deepEqual(
      [order.orderType, order.skuId, order.productId, order.productName, order.quantity, order.amountFen],
      ['GOODS', itemId, '0', '手机 黑色', 2, '200'],
    );
    const detail = (await as(7, 'GET', `/v1/spus/${spu.body.id}`)).body;
    assert.deepEqual(
      (detail.skus as { stock: string; lockStock: string }[]).map((s) => [s.stock, s.lockStock]),
      [['3', '3']],
    );
    const found = await as(7, 'GET', `/v1/spus?spec_name=color&spec_value=${encodeURIComponent('黑色')}`);
    assert.deepEqual(
      (found.body.spus as { id: string; detailHtml: string }[]).map((s) => [s.id, s.detailHtml]),
      [[spu.body.id, '']],
    );
    assert.equal((await as(7, 'GET', '/v1/spus?spec_name=color')).status, 400);
    const closed = await admin('POST', `/v1/sales/${itemId}/close`, {});
    assert.equal(closed.body.status, 'CLOSED');
    await eventually('the unsold units are free', async () => {
      const { body } = await as(7, 'GET', `/v1/skus/${itemId}`);
      return body.lockStock === '0' && body.stock === '3';
    });
  });

  it('sells an instance over JSON, and answers the polls of its buyer alone', async () => {
    const itemId = await plan();
    const created = await admin('POST', '/v1/sales', { itemId, total: '1', priceFen: '100', payTimeout: '90.5s' });
    assert.deepEqual([created.status, created.body.status, created.body.payTimeout], [200, 'SCHEDULED', '90.500s']);
    const later = await plan();
    await admin('POST', '/v1/sales', { itemId: later, total: '1', startsAt: new Date(Date.now() + 3_600_000) });
    assert.equal((await as(1, 'POST', '/v1/seckill', { itemId: later })).body.code, 'NOT_STARTED');
    const opened = await admin('POST', `/v1/sales/${itemId}/open`, {});
    assert.deepEqual([opened.body.status, opened.body.remaining], ['OPEN', '1']);
    const bought = await eventually('the sale is known to be open', async () => {
      const reply = await as(1, 'POST', '/v1/seckill', { itemId, requestId: 'r' });
      return reply.body.code === 'QUEUED' && reply;
    });
    const { seckillId } = bought.body.data as { seckillId: string };
    assert.equal((await as(2, 'POST', '/v1/seckill', { itemId })).body.code, 'SOLD_OUT');
    assert.equal((await as(1, 'POST', '/v1/seckill', { itemId, quantity: 2 })).status, 400);
    assert.equal((await as(1, 'POST', '/v1/seckill', { itemId: '999999' })).status, 404);
    await eventually(
      'the order is there',
      async () => (await as(1, 'GET', `/v1/seckill/${seckillId}`)).body.status === 'PAID',
    );
    assert.equal((await as(2, 'GET', `/v1/seckill/${seckillId}`)).status, 404);
    const sale = await call('GET', `/v1/sales/${itemId}`, {});
    assert.deepEqual([sale.body.sold, sale.body.remaining], ['1', '0']);
    assert.ok(Date.parse(String(sale.body.serverTime)) > 0);
    const limit = await admin('PUT', `/v1/sales/${itemId}/vip-limits/7`, { limit: 3 });
    assert.deepEqual([limit.status, limit.body.limit, limit.body.left, limit.body.version], [200, 3, 3, '1']);
    const own = await as(7, 'GET', `/v1/sales/${itemId}/limit`);
    assert.deepEqual([own.status, own.body.limit, own.body.left, own.body.version], [200, 3, 3, '1']);
    const taken = await as(1, 'GET', `/v1/sales/${itemId}/limit`);
    assert.deepEqual([taken.body.limit, taken.body.left, taken.body.version], [1, 0, '0']);
    const changed = await admin('PATCH', `/v1/sales/${itemId}`, { version: sale.body.version, defaultLimit: 2 });
    assert.deepEqual([changed.status, changed.body.defaultLimit], [200, 2]);
    const watch = await fetch(`http://${product.http}/v1/sales/${itemId}/watch`);
    assert.equal((await admin('POST', `/v1/sales/${itemId}/close`, {})).body.status, 'CLOSED');
    const lines = (await watch.text()).trim().split('\n');
    assert.equal((JSON.parse(lines.at(-1) ?? '') as { result: { availability: string } }).result.availability, 'ENDED');
  });

  it('answers the polls for purchases of each segment of a sale', async () => {
    const SEGMENTS = 2;
    const itemId = await plan();
    const sale = { itemId, total: '2', priceFen: '100', segments: SEGMENTS };
    assert.equal((await admin('POST', '/v1/sales', sale)).status, 200);
    await admin('POST', `/v1/sales/${itemId}/open`, {});
    for (const home of segmentsOf(SEGMENTS)) {
      let user = 1;
      while (homeSegment(formatUserId(String(user)), SEGMENTS) !== home) user += 1;
      const bought = await eventually('the sale is known to be open', async () => {
        const reply = await as(user, 'POST', '/v1/seckill', { itemId });
        return reply.body.code === 'QUEUED' && reply;
      });
      const { seckillId } = bought.body.data as { seckillId: string };
      assert.equal(segmentOf(seckillId.slice(itemId.length + 1)), home);
      const poll = () => as(user, 'GET', `/v1/seckill/${seckillId}`);
      assert.equal((await poll()).status, 200, seckillId);
      await eventually('the order is there', async () => (await poll()).body.status === 'PAID');
    }
  });

  it('turns the XADD of document 001 into a completed order within seconds', async () => {
    const itemId = await plan();
    await redis.xadd(`stream:seckill:${itemId}`, '*', 'uid', '123', 'ts', '1234567890');
    await eventually(
      'it is an order with an instance',
      async () =>
        (await count(
          'orders o JOIN instance_requests r ON r.instance_id = o.instance_id WHERE o.product_id = $1',
          itemId,
        )) === 1,
    );
  });

  it('loses and doubles no order when it is killed in the middle of a batch', async () => {
    const itemId = await plan();
    const N = 600;
    const add = async (from: number, to: number) => {
      const pipeline = redis.pipeline();
      for (let user = from; user < to; user++)
        pipeline.xadd(`stream:seckill:${itemId}`, '*', 'uid', String(user), 'ts', '1');
      await pipeline.exec();
    };
    await add(0, N / 2);
    await eventually('it has begun', async () => (await count('stream_inbox WHERE item_id = $1', itemId)) > 0);
    await add(N / 2, N);
    await product.kill();
    product = await product.again();
    await eventually('all are orders', async () => (await count('orders WHERE product_id = $1', itemId)) === N);
    await eventually('the stream is empty', async () => (await redis.xlen(`stream:seckill:${itemId}`)) === 0);
    assert.equal(await count('orders WHERE product_id = $1', itemId), N);
    assert.equal(await count('instance_requests WHERE product_id = $1', itemId), N);
    assert.equal(
      await count(`outbox b JOIN instance_requests r ON r.instance_id = b.ref_id WHERE r.product_id = $1`, itemId),
      N,
    );
    assert.equal(await count('(SELECT DISTINCT user_id FROM orders WHERE product_id = $1) u', itemId), N);
  });

  it('ends with an exit code when it cannot be wired', () =>
    assert.rejects(
      processes.start('product', { env: servers.env(), config: { server: { roles: ['unknown'] } }, timeoutMs: 45_000 }),
      /exited with code 1[\s\S]*server\.roles/,
    ));
});
