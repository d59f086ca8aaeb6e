import assert from 'node:assert/strict';
import pg from 'pg';
import { RedisServer } from '../../internal/data/redis/redis.js';
import { violationsOf } from '../support/audit.js';
import { openPostgres } from '../support/instances.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const ADMIN = { 'x-user-role': 'ADMIN' };
const RECEIVER = { name: '张三', phone: '13800000000', region: '310115', address: 'Century Avenue 1' };
const SECRET = 'a-secret-of-the-payment-provider';
const REFUNDS = 200;

interface Order {
  readonly id: string;
  readonly status: string;
  readonly closeReason: string;
  readonly amountFen: string;
  readonly refundedAmountFen: string;
}
interface Refund {
  readonly id: string;
  readonly status: string;
  readonly kind: string;
  readonly amountFen: string;
}
interface Payment {
  readonly paymentId: string;
  readonly payUrl: string;
}

/** Every path that ends in money going back, on processes whose payment provider fails and loses callbacks. */
describe('Payments and refunds', () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();
  let db: pg.Client;
  let product: TestProcess;
  let users = 0;

  before(async () => {
    db = new pg.Client({ connectionString: servers.postgresUrl });
    await db.connect();
    product = await processes.start('product', {
      env: servers.env(),
      config: {
        payment: {
          ...{ secret: SECRET, lookUpAfter: '1s' },
          simulator: { delay: '0.02s', failureRate: 0.2, lostCallbackRate: 0.3, repeatedCallbackRate: 0.5 },
        },
        refund: { retryBackoff: '0.05s', pollInterval: '0.1s', lease: '2s', maxAttempts: 100 },
      },
    });
    // No instance can be created.
    await processes.start('resource', {
      env: { ...servers.env(), ...product.env() },
      config: { resource: { maxAttempts: 1, simulator: { failureRate: 1 } } },
    });
  });
  after(() => db?.end());

  async function call<T>(method: string, path: string, headers: Record<string, string>, body?: unknown): Promise<T> {
    const reply = await fetch(`http://${product.http}${path}`, {
      ...{ method, headers: { 'content-type': 'application/json', ...headers } },
      body: body === undefined ? null : JSON.stringify(body),
    });
    const text = await reply.text();
    assert.equal(reply.status, 200, `${method} ${path}: ${text}`);
    return JSON.parse(text) as T;
  }
  const admin = <T>(path: string, body: unknown) => call<T>('POST', path, ADMIN, body);
  const as = (user: number) => ({ 'x-user-id': String(user) });
  const get = (id: string) => call<Order>('GET', `/v1/orders/${id}`, ADMIN);
  const becomes = async (id: string, status: string) => {
    await eventually(`order ${id} is ${status}`, async () => (await get(id)).status === status);
    return get(id);
  };
  const refundBecomes = (id: string, status: string) =>
    eventually(
      `refund ${id} is ${status}`,
      async () => (await call<Refund>('GET', `/v1/refunds/${id}`, ADMIN)).status === status,
    );

  /** Asks until the provider answers. */
  const startPayment = (order: string, user: number) =>
    eventually('the payment starts', async () => {
      const headers = { 'content-type': 'application/json', ...as(user) };
      const reply = await fetch(`http://${product.http}/v1/orders/${order}/pay`, {
        ...{ method: 'POST', headers, body: '{}' },
      });
      if (reply.ok) return (await reply.json()) as Payment;
      assert.equal(reply.status, 503, await reply.text());
      return undefined;
    });

  /** Presses a button of the pay page. */
  async function press(order: string, user: number, button: string): Promise<Payment> {
    const payment = await startPayment(order, user);
    const page = await (await fetch(payment.payUrl)).text();
    assert.match(page, /<button name="button" value="pay">/);
    const form = new URLSearchParams({ button });
    assert.equal((await fetch(payment.payUrl, { method: 'POST', body: form })).status, 200);
    return payment;
  }

  let skus = 0;
  async function newSku(stock: number): Promise<string> {
    const no = `refund-${++skus}`;
    const spu = { spuNo: no, title: 'phone', categoryId: '1', brandId: '1', publishStatus: 'PUBLISHED' };
    const { id: spuId } = await admin<{ id: string }>('/v1/spus', spu);
    const sku = { spuId, skuNo: no, skuName: no, priceFen: '9900', specs: { color: 'black' }, stock: String(stock) };
    return (await admin<{ id: string }>('/v1/skus', sku)).id;
  }
  const stockOf = async (sku: string) => (await call<{ stock: string }>('GET', `/v1/skus/${sku}`, {})).stock;
  const order = (user: number, ...lines: readonly string[]) =>
    call<Order>('POST', '/v1/orders', as(user), {
      lines: lines.map((skuId) => ({ skuId, quantity: 1 })),
      receiver: RECEIVER,
    });
  /** A callback may be lost, so the order is paid some time later. */
  async function paidOrder(user: number, ...lines: readonly string[]): Promise<Order> {
    const { id } = await order(user, ...lines);
    await press(id, user, 'pay');
    return becomes(id, 'PAID');
  }
  const requestRefund = (id: string, user: number, lines: readonly string[] = []) =>
    call<Refund>('POST', `/v1/orders/${id}/refunds`, as(user), {
      reason: 'no longer needed',
      lines: lines.map((skuId) => ({ skuId, quantity: 1 })),
    });

  it('lets a buyer decline, close and pay on the pay page', async () => {
    const user = ++users;
    const { id } = await order(user, await newSku(1));
    const first = await press(id, user, 'decline');
    assert.equal((await press(id, user, 'decline')).paymentId, first.paymentId);
    await press(id, user, 'close');
    await eventually('another payment starts', async () => {
      return (await startPayment(id, user)).paymentId !== first.paymentId;
    });
    await press(id, user, 'pay');
    await becomes(id, 'PAID');
  });

  it('pays back an order before shipping, and one line of three', async () => {
    const skuIds = [await newSku(5), await newSku(5), await newSku(5)] as const;
    const [whole, part] = [++users, ++users];
    const [all, some] = await Promise.all([paidOrder(whole, ...skuIds), paidOrder(part, ...skuIds)]);
    const refund = await requestRefund(all.id, whole);
    const line = await requestRefund(some.id, part, [skuIds[1]]);
    assert.deepEqual([refund.kind, line.kind, line.amountFen], ['WHOLE', 'LINES', '9900']);
    assert.equal((await becomes(all.id, 'CANCELLED')).closeReason, 'REFUNDED');
    await refundBecomes(line.id, 'DONE');
    const after = await get(some.id);
    assert.deepEqual([after.status, after.refundedAmountFen], ['PAID', '9900']);
    assert.deepEqual(await Promise.all(skuIds.map(stockOf)), ['4', '5', '4']);
  });

  it('takes goods back after shipping', async () => {
    const user = ++users;
    const sku = await newSku(5);
    const { id } = await paidOrder(user, sku);
    await admin(`/v1/orders/${id}/ship`, { carrier: 'SF', trackingNumbers: ['SF1'] });
    const refund = await requestRefund(id, user);
    assert.equal(refund.status, 'REQUESTED');
    await admin(`/v1/refunds/${refund.id}/approve`, {});
    await becomes(id, 'CANCELLED');
    assert.equal(await stockOf(sku), '4');
    await admin(`/v1/refunds/${refund.id}/receive`, { restock: true });
    assert.equal(await stockOf(sku), '5');
  });

  it('pays a failed instance of a sale back and sells its unit to another buyer', async () => {
    const spec = await admin<{ id: string }>('/v1/product-specs', { cpu: 1, memory: 1, image: 'debian-12' });
    const plan = { name: 'plan', priceFen: '100', specId: spec.id, status: 'ENABLED' };
    const { id: itemId } = await admin<{ id: string }>('/v1/products', plan);
    await admin('/v1/sales', { itemId, total: '1', defaultLimit: 1, payMode: 'PAY_LATER' });
    await admin(`/v1/sales/${itemId}/open`, {});
    for (const user of [++users, ++users]) {
      const bought = await eventually('the unit is on sale', async () => {
        const reply = await call<{ code: string; data?: { seckillId: string } }>('POST', '/v1/seckill', as(user), {
          itemId,
        });
        return reply.code === 'QUEUED' ? reply.data : undefined;
      });
      const record = () =>
        call<{ status: string; orderId: string }>('GET', `/v1/seckill/${bought.seckillId}`, as(user));
      await eventually('the order exists', async () => (await record()).status === 'AWAIT_PAY');
      const { orderId } = await record();
      await press(orderId, user, 'pay');
      assert.equal((await becomes(orderId, 'CANCELLED')).closeReason, 'REFUNDED');
      assert.equal((await record()).status, 'REFUNDED');
    }
  });

  it('pays each of 200 refunds back once when product is killed among them', async () => {
    const sku = await newSku(REFUNDS);
    // Without the pay page, which would take longer than the rest.
    const { rows } = await db.query<{ n: string }>('SELECT count(*) AS n FROM simulated_refunds');
    const before = Number(rows[0]?.n);
    const ids: string[] = [];
    for (let done = 0; done < REFUNDS; done += 20) {
      // From the last ones on, the provider pays nothing back before the kill.
      if (done === REFUNDS - 20) await db.query('BEGIN; LOCK TABLE simulated_refunds IN SHARE MODE');
      const orders = await Promise.all(Array.from({ length: 20 }, () => order(++users, sku)));
      await Promise.all(
        orders.map(async ({ id }) => {
          await call('POST', `/v1/orders/${id}/paid`, ADMIN, { provider: 'simulator', eventId: `bulk-${id}` });
          await call('POST', `/v1/orders/${id}/refunds`, ADMIN, { reason: 'bulk' });
          ids.push(id);
        }),
      );
    }
    const paidBack = async () => {
      const counted = await db.query<{ n: string }>('SELECT count(*) AS n FROM simulated_refunds');
      return Number(counted.rows[0]?.n) - before;
    };
    const open = async () => {
      const counted = await db.query<{ n: string }>(`SELECT count(*) AS n FROM refunds WHERE status <> 'DONE'`);
      return Number(counted.rows[0]?.n);
    };
    assert.ok((await open()) > 0, 'the refunds were paid before the kill');
    await product.kill();
    await db.query('ROLLBACK');
    product = await product.again();
    await eventually('every refund is done', async () => (await open()) === 0, { timeoutMs: 120_000 });
    assert.equal(await paidBack(), REFUNDS);
    const sums = await db.query<{ orders: string; refunded: string }>(
      `SELECT count(*) AS orders, count(*) FILTER (WHERE status = 2 AND refunded_amount = amount) AS refunded
       FROM orders WHERE id = ANY ($1::bigint[])`,
      [ids],
    );
    assert.deepEqual(sums.rows, [{ orders: String(REFUNDS), refunded: String(REFUNDS) }]);
    assert.equal(await stockOf(sku), String(REFUNDS));
  });

  it('leaves nothing for the audit to report', async () => {
    const pool = openPostgres(servers.postgresUrl, 'kaimai_product');
    const { redisUrl: addr } = servers;
    const redis = new RedisServer({ addr, readTimeoutMs: 5_000, connectTimeoutMs: 5_000, keyPrefix: '' });
    try {
      await redis.ready(5_000);
      assert.deepEqual(await violationsOf(pool, redis, [1, 2, 3, 5, 6, 7, 10, 12, 13, 15]), []);
    } finally {
      redis.close();
      await pool.close();
    }
  });
});
