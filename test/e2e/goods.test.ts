import assert from 'node:assert/strict';
import pg from 'pg';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const RECEIVER = { name: '张三', phone: '13800000000', region: '310115', address: 'Century Avenue 1' };

interface Reply {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: JSON of many shapes, whose fields the assertions name
  readonly body: any;
}

/** A buyer's calls of CreateOrder that come at once; they return slowly enough for the test to count them. */
const BURST = 12;

describe('Goods, on two replicas of the product process', () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();
  /** `quick` has a short time to confirm, and looks often for orders whose time is over. */
  let product: TestProcess;
  let quick: TestProcess;
  let pool: pg.Pool;

  before(async () => {
    const data = { rabbitmq: { queue: servers.queue('resource.instance.created') } };
    const rate = { user_rate: { per_second: 0.01, burst: BURST } };
    const fast = { pay_timeout: '120s', confirm_after: '0.3s', confirm_interval: '0.1s', sweep_interval: '0.1s' };
    [product, quick] = await Promise.all([
      processes.start('product', { env: servers.env(), config: { data, order: rate } }),
      processes.start('product', { env: servers.env(), config: { data, order: { ...rate, ...fast } } }),
    ]);
    pool = new pg.Pool({ connectionString: servers.postgresUrl, max: 1 });
  });
  after(() => pool?.end());

  async function call(on: TestProcess, headers: Record<string, string>, method: string, path: string, body?: unknown) {
    const response = await fetch(`http://${on.http}${path}`, {
      ...{ method, headers: { 'content-type': 'application/json', ...headers } },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const reply: Reply = { status: response.status, body: await response.json() };
    return reply;
  }
  const as = (user: number, method: string, path: string, body?: unknown, on = product) =>
    call(on, { 'x-user-id': String(user) }, method, path, body);
  const admin = (method: string, path: string, body?: unknown, on = product) =>
    call(on, { 'x-user-role': 'ADMIN' }, method, path, body);
  const pay = (id: string, on = product) =>
    call(on, {}, 'POST', `/v1/orders/${id}/paid`, { provider: 'p', eventId: id });
  const succeeds = async (reply: Promise<Reply>) => {
    const { status, body } = await reply;
    assert.equal(status, 200, JSON.stringify(body));
    return body;
  };
  const refusal = async (reply: Promise<Reply>) => {
    const { status, body } = await reply;
    const violations = JSON.parse(body.metadata?.violations ?? '[]') as { field: string }[];
    return [status, body.reason, violations.map((v) => v.field)];
  };

  let numbers = 0;
  const goods = async (count: number, change: Record<string, unknown> = {}) => {
    const no = `p-${++numbers}`;
    const spu = await succeeds(
      admin('POST', '/v1/spus', { spuNo: no, title: '手机', publishStatus: 'PUBLISHED', sellerId: '42', ...change }),
    );
    const skus: string[] = [];
    for (let i = 0; i < count; i++) {
      const sku = {
        spuId: spu.id,
        skuNo: `${no}-${i}`,
        skuName: `手机 ${i}`,
        priceFen: String(100 * (i + 1)),
        stock: '10',
      };
      skus.push((await succeeds(admin('POST', '/v1/skus', { ...sku, specs: { color: 'black', size: `${i}` } }))).id);
    }
    return { spuId: String(spu.id), skus };
  };
  const levelOf = async (sku: string) => {
    const { stock, lockStock } = await succeeds(admin('GET', `/v1/skus/${sku}`));
    return [stock, lockStock];
  };
  const order = (user: number, skus: readonly string[], on = product) =>
    succeeds(
      as(
        user,
        'POST',
        '/v1/orders',
        { lines: skus.map((skuId, i) => ({ skuId, quantity: i + 1 })), receiver: RECEIVER },
        on,
      ),
    );

  it('brings three skus from the click to the confirmed receipt', async () => {
    const { skus } = await goods(3);
    const { id, amountFen, items, sellerId } = await order(1, skus);
    assert.deepEqual([amountFen, items.length, sellerId.slice(-2)], ['1400', 3, '2a']);
    assert.deepEqual(
      await Promise.all(skus.map(levelOf)),
      [1, 2, 3].map((n) => ['10', String(n)]),
    );
    assert.equal((await succeeds(pay(id))).status, 'PAID');
    assert.deepEqual(
      await Promise.all(skus.map(levelOf)),
      [9, 8, 7].map((n) => [String(n), '0']),
    );
    const moved = await succeeds(as(1, 'PUT', `/v1/orders/${id}/receiver`, { ...RECEIVER, address: 'elsewhere' }));
    assert.equal(moved.receiver.address, 'elsewhere');
    const parcels = { carrier: 'SF Express', trackingNumbers: ['SF1', 'SF2'] };
    assert.equal((await as(1, 'POST', `/v1/orders/${id}/ship`, parcels)).status, 403);
    const shipped = await succeeds(admin('POST', `/v1/orders/${id}/ship`, parcels));
    assert.deepEqual([shipped.status, shipped.shipment.trackingNumbers], ['SHIPPED', ['SF1', 'SF2']]);
    // 15 days.
    assert.equal(Date.parse(shipped.confirmDeadline) - Date.parse(shipped.shippedAt), 1_296_000_000);
    assert.equal((await succeeds(as(1, 'GET', `/v1/orders/${id}`))).shipment.carrier, 'SF Express');
    const late = await refusal(as(1, 'PUT', `/v1/orders/${id}/receiver`, RECEIVER));
    assert.deepEqual(late.slice(0, 2), [409, 'ORDER_STATUS_CONFLICT']);
    assert.equal((await as(2, 'POST', `/v1/orders/${id}/confirm`, {})).status, 404);
    const done = await succeeds(as(1, 'POST', `/v1/orders/${id}/confirm`, {}));
    assert.deepEqual([done.status, done.completedAt !== null], ['COMPLETED', true]);
    const { moves } = await succeeds(admin('GET', `/v1/skus/${skus[0]}/stock-moves`));
    assert.deepEqual(
      moves.map((m: { kind: string; orderId: string }) => [m.kind, m.orderId]),
      [
        ['DEDUCT', id],
        ['HOLD', id],
        ['ADJUST', '0'],
      ],
    );
    await succeeds(as(1, 'DELETE', `/v1/orders/${id}`));
    assert.equal((await as(1, 'GET', `/v1/orders/${id}`)).status, 404);
    assert.equal((await succeeds(as(1, 'GET', '/v1/orders'))).total, '0');
    const found = await succeeds(admin('GET', `/v1/orders:search?skuId=${skus[2]}&userId=1&orderType=GOODS&limit=1`));
    assert.deepEqual([found.orders.map((o: { id: string }) => o.id), found.nextPageToken], [[id], '']);
    const [from, before] = [new Date(Date.now() - 3_600_000), new Date(Date.now() + 3_600_000)];
    const period = `createdFrom=${from.toISOString()}&createdBefore=${before.toISOString()}`;
    const { rows } = await succeeds(admin('GET', `/v1/orders:stats?${period}`));
    const completed = rows.filter((r: { status: string }) => r.status === 'COMPLETED');
    assert.deepEqual(
      completed.map((r: { orders: string; amountFen: string }) => [r.orders, r.amountFen]),
      [['1', '1400']],
    );
  });

  it('returns the stock of an order that is not paid in time, and confirms a shipped one on its own', async () => {
    const { skus } = await goods(3);
    const unpaid = await order(3, skus, quick);
    assert.equal(Date.parse(unpaid.payDeadline) - Date.parse(unpaid.createdAt), 120_000);
    await pool.query('UPDATE orders SET pay_deadline = now() WHERE id = $1', [unpaid.id]);
    await eventually('the order times out', async () => {
      const { status, closeReason } = await succeeds(as(3, 'GET', `/v1/orders/${unpaid.id}`));
      return status === 'CANCELLED' && closeReason === 'PAY_TIMEOUT';
    });
    assert.deepEqual(
      await Promise.all(skus.map(levelOf)),
      skus.map(() => ['10', '0']),
    );
    const late = await refusal(pay(unpaid.id));
    assert.deepEqual(late.slice(0, 2), [409, 'ORDER_CANCELLED']);

    const { id } = await order(3, skus);
    await succeeds(pay(id, quick));
    await succeeds(admin('POST', `/v1/orders/${id}/ship`, { carrier: 'c', trackingNumbers: ['1'] }, quick));
    await eventually('the receipt is confirmed', async () => {
      return (await succeeds(as(3, 'GET', `/v1/orders/${id}`))).status === 'COMPLETED';
    });
    const { events } = await succeeds(as(3, 'GET', `/v1/orders/${id}/events`));
    assert.deepEqual([events.at(-1).actor, events.at(-1).reason], ['confirmer', 'CONFIRM_TIMEOUT']);
  });

  it('names the field of a request that cannot become an order', async () => {
    const { skus, spuId } = await goods(2);
    const [skuId, other] = skus;
    let user = 100;
    const tries = (body: object) => refusal(as(++user, 'POST', '/v1/orders', { receiver: RECEIVER, ...body }));
    const line = { skuId, quantity: 1 };
    assert.deepEqual(await tries({ lines: Array.from({ length: 101 }, () => line) }), [
      400,
      'INVALID_ARGUMENT',
      ['lines'],
    ]);
    for (const quantity of [0, -1, 10_001]) {
      const refused = [400, 'INVALID_ARGUMENT', ['lines[1].quantity']];
      assert.deepEqual(await tries({ lines: [line, { skuId: other, quantity }] }), refused);
    }
    assert.deepEqual(await tries({ lines: [line], receiver: undefined }), [400, 'INVALID_ARGUMENT', ['receiver']]);
    const nameless = { ...RECEIVER, name: '' };
    assert.deepEqual(await tries({ lines: [line], receiver: nameless }), [400, 'INVALID_ARGUMENT', ['receiver.name']]);
    assert.deepEqual(await tries({ lines: [line, { skuId: '999999999', quantity: 1 }] }), [
      404,
      'SKU_NOT_FOUND',
      ['lines[1].skuId'],
    ]);
    const short = await as(++user, 'POST', '/v1/orders', {
      lines: [{ skuId, quantity: 11 }, line],
      receiver: RECEIVER,
    });
    assert.deepEqual([short.status, short.body.reason], [409, 'STOCK_INSUFFICIENT']);
    assert.equal(short.body.metadata[`sku_${skuId}`], '10');
    const { version } = await succeeds(admin('GET', `/v1/spus/${spuId}`));
    await succeeds(admin('PATCH', `/v1/spus/${spuId}`, { version, publishStatus: 'UNPUBLISHED' }));
    assert.deepEqual(await tries({ lines: [line] }), [409, 'SKU_NOT_ON_SALE', ['lines[0].skuId']]);
    assert.deepEqual(await levelOf(skuId!), ['10', '0']);
    for (const path of [`/v1/spus/${spuId}`, `/v1/skus/${skuId}`]) {
      assert.deepEqual([(await as(1, 'GET', path)).status, (await admin('GET', path)).status], [404, 200]);
    }
    const listed = (reply: { spus: { id: string }[] }) => reply.spus.some((s) => s.id === spuId);
    assert.equal(listed(await succeeds(as(1, 'GET', '/v1/spus?limit=100'))), false);
    assert.equal(listed(await succeeds(admin('GET', '/v1/spus?limit=100'))), true);
  });

  it('finds goods by title, price and several specifications, with their prices and free units', async () => {
    const { spuId, skus } = await goods(3, { title: 'Findable Tablet' });
    await order(4, skus.slice(0, 1));
    const query = 'title=findable&minPriceFen=150&maxPriceFen=250&specs[color]=black&specs[size]=1';
    const { spus, total } = await succeeds(as(1, 'GET', `/v1/spus?${query}`));
    assert.equal(total, '1');
    const [{ id, minPriceFen, maxPriceFen, freeStock, sellerId }] = spus;
    assert.deepEqual([id, minPriceFen, maxPriceFen, freeStock, sellerId.slice(-2)], [spuId, '100', '300', '29', '2a']);
    const none = await succeeds(as(1, 'GET', `/v1/spus?${query.replace('size]=1', 'size]=2')}`));
    assert.equal(none.total, '0');
  });

  it('limits the orders of a buyer by a token bucket of its own', async () => {
    const replies = await Promise.all(
      Array.from({ length: BURST + 3 }, () => as(777, 'POST', '/v1/orders', { lines: [{ skuId: '1', quantity: 1 }] })),
    );
    const refused = replies.filter((r) => r.status === 429);
    assert.equal(refused.length, 3);
    assert.deepEqual([refused[0]?.body.reason, refused[0]?.body.metadata.limited], ['TOO_MANY_REQUESTS', 'user']);
    assert.equal((await as(778, 'POST', '/v1/orders', { lines: [] })).status, 400);
  });

  it('gives the last unit to one of many buyers on both replicas, and leaves the stock consistent', async () => {
    const { skus } = await goods(1);
    const replies = await Promise.all(
      Array.from({ length: 30 }, (_, i) =>
        as(
          1_000 + i,
          'POST',
          '/v1/orders',
          { lines: [{ skuId: skus[0], quantity: 1 }], receiver: RECEIVER },
          i % 2 ? product : quick,
        ),
      ),
    );
    assert.equal(replies.filter((r) => r.status === 200).length, 10);
    for (const r of replies)
      if (r.status !== 200) assert.equal(r.body.reason, 'STOCK_INSUFFICIENT', JSON.stringify(r.body));
    const { rows } = await pool.query('SELECT FROM sku WHERE lock_stock NOT BETWEEN 0 AND stock');
    assert.equal(rows.length, 0);
  });
});
