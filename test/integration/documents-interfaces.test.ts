import assert from 'node:assert/strict';
import { PurchaseReply_Code } from '../../gen/seckill/v1/seckill.js';
import { formatUserId } from '../../internal/biz/identity.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

type Fields = Record<string, unknown>;

const SELLER = '700';
const IMAGE = 'https://img.example/plan.png';
const PRICE_FEN = '9900';
const SALE_PRICE_FEN = '100';

/** The five interfaces of document 004, field by field. The user id is in a header of each request. */
describe('The interfaces of document 004', () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();
  let product: TestProcess;
  /** In sales with a long and with a short time to pay. */
  let item: string;
  let hasty: string;
  let goods: string;

  const start = (roles: string[]) =>
    processes.start('product', {
      env: servers.env(),
      config: { server: { roles }, data: { rabbitmq: { queue: servers.queue('resource.instance.created') } } },
    });

  before(async () => {
    // The seckill consumer starts later, so that a purchase can be observed before its order exists.
    product = await start(['api']);
    const spec = await admin('/v1/product-specs', { cpu: 2, memory: 4, image: 'debian-12' });
    const plan = { specId: spec.id, priceFen: PRICE_FEN, imageUrl: IMAGE, sellerId: SELLER, status: 'ENABLED' };
    const made = [];
    for (const name of ['first', 'second', 'third']) made.push(await admin('/v1/products', { ...plan, name }));
    [item, hasty] = made.slice(1).map((p) => String(p.id)) as [string, string];
    const sale = { total: '10', priceFen: SALE_PRICE_FEN, payMode: 'PAY_LATER', defaultLimit: 3 };
    const spu = await admin('/v1/spus', { spuNo: 'p', title: '手机', publishStatus: 'PUBLISHED' });
    const sku = { spuId: spu.id, skuNo: 's', skuName: '手机 黑色', priceFen: PRICE_FEN, stock: '20' };
    goods = String((await admin('/v1/skus', sku)).id);
    for (const [itemId, payTimeout] of [
      [item, '600s'],
      [hasty, '1s'],
      [goods, '600s'],
    ]) {
      await admin('/v1/sales', { ...sale, itemId, payTimeout });
      await admin(`/v1/sales/${itemId}/open`, {});
    }
  });

  async function send(path: string, headers: Record<string, string>, body?: unknown) {
    const reply = await fetch(`http://${product.http}${path}`, {
      headers: { 'content-type': 'application/json', ...headers },
      ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
    });
    return { status: reply.status, body: (await reply.json()) as Fields };
  }

  async function admin(path: string, body: unknown): Promise<Fields> {
    const reply = await send(path, { 'x-user-role': 'ADMIN' }, body);
    assert.equal(reply.status, 200, JSON.stringify(reply.body));
    return reply.body;
  }

  const envelopeOf = (user: number, path: string, body?: unknown) =>
    send(path, { 'x-user-id': String(user), 'x-kaimai-envelope': '1' }, body);

  /** The data in the envelope of a reply. */
  async function ask(user: number, path: string, body?: unknown): Promise<Fields> {
    const reply = await envelopeOf(user, path, body);
    assert.equal(reply.status, 200, JSON.stringify(reply.body));
    const { code, message, data, ...rest } = reply.body;
    assert.deepEqual([code, message, rest], [0, 'ok', {}]);
    return data as Fields;
  }

  const purchase = async (user: number, itemId: string, quantity: number): Promise<string> => {
    const { status, body } = await envelopeOf(user, '/v1/seckill', { itemId, quantity });
    assert.deepEqual([status, body.code, Object.keys(body)], [200, 0, ['code', 'message', 'data', 'mayReturn']]);
    assert.notEqual(body.message, '');
    const { seckillId, ...rest } = body.data as Fields;
    assert.match(String(seckillId), new RegExp(`^${itemId}-\\d+-\\d+$`));
    assert.deepEqual(rest, {});
    return String(seckillId);
  };
  const record = (user: number, seckillId: string) => ask(user, `/v1/seckill/${seckillId}`);
  const becomes = (user: number, seckillId: string, status: string) =>
    eventually(`${seckillId} is ${status}`, async () => {
      const found = await record(user, seckillId);
      return found.status === status && found;
    });

  it('sells by item and quantity, and returns the status of each purchase in all five states', async () => {
    const paid = await purchase(1, item, 1);
    const cancelled = await purchase(2, item, 1);
    const late = await purchase(3, hasty, 1);
    assert.deepEqual(await record(1, paid), {
      ...{ seckillId: paid, itemId: item, quantity: 1, status: 'QUEUED', orderId: '0', reason: '' },
    });
    await start(['seckill_consumer', 'order_sweeper', 'sale_keeper', 'outbox_relay']);

    const waiting = await becomes(1, paid, 'AWAIT_PAY');
    assert.match(String(waiting.orderId), /^[1-9]\d+$/);
    assert.deepEqual([waiting.seckillId, waiting.itemId, waiting.quantity], [paid, item, 1]);
    await ask(1, `/v1/orders/${waiting.orderId}/paid`, {});
    assert.equal((await becomes(1, paid, 'PAID')).orderId, waiting.orderId);

    const { orderId } = await becomes(2, cancelled, 'AWAIT_PAY');
    await ask(2, `/v1/orders/${orderId}/cancel`, {});
    assert.equal((await becomes(2, cancelled, 'CANCELLED')).orderId, orderId);

    const overdue = await becomes(3, late, 'TIMED_OUT');
    assert.match(String(overdue.orderId), /^[1-9]\d+$/);
  });

  it('lists products by offset and limit, with name, price, image and seller', async () => {
    const reply = await ask(1, '/v1/products?offset=1&limit=2');
    assert.equal(reply.total, '3');
    const listed = (reply.products as Fields[]).map((p) => [p.id, p.name, p.priceFen, p.imageUrl, p.sellerId]);
    const seller = formatUserId(SELLER);
    assert.deepEqual(listed, [
      [item, 'second', PRICE_FEN, IMAGE, seller],
      [hasty, 'third', PRICE_FEN, IMAGE, seller],
    ]);
  });

  it('returns a product with name, price, image and seller', async () => {
    const { id, name, priceFen, imageUrl, sellerId } = await ask(1, `/v1/products/${item}`);
    assert.deepEqual(
      [id, name, priceFen, imageUrl, sellerId],
      [item, 'second', PRICE_FEN, IMAGE, formatUserId(SELLER)],
    );
  });

  it("lists the user's own orders by offset and limit, with id, status, product, quantity and price", async () => {
    const seckillIds = [];
    for (const _ of [1, 2, 3]) seckillIds.push(await purchase(9, item, 1));
    const orderIds = [];
    for (const id of seckillIds) orderIds.push((await becomes(9, id, 'AWAIT_PAY')).orderId);
    await ask(9, `/v1/orders/${orderIds[1]}/paid`, {});
    const reply = await ask(9, '/v1/orders?offset=1&limit=2');
    assert.equal(reply.total, '3');
    const listed = (reply.orders as Fields[]).map((o) => [o.id, o.status, o.productId, o.quantity, o.priceFen]);
    assert.deepEqual(listed, [
      [orderIds[1], 'PAID', item, 1, SALE_PRICE_FEN],
      [orderIds[0], 'PENDING', item, 1, SALE_PRICE_FEN],
    ]);
    const two = await becomes(9, await purchase(9, goods, 2), 'AWAIT_PAY');
    assert.deepEqual([two.itemId, two.quantity], [goods, 2]);
    const [newest] = (await ask(9, '/v1/orders?offset=0&limit=1')).orders as Fields[];
    const { id, status, skuId, quantity, priceFen } = newest ?? {};
    assert.deepEqual([id, status, skuId, quantity, priceFen], [two.orderId, 'PENDING', goods, 2, SALE_PRICE_FEN]);
    assert.deepEqual((await ask(10, '/v1/orders')).orders, []);
  });

  it('returns the user id for a username and a password', async () => {
    const none = {};
    const credentials = { username: 'Ann', password: 'correct horse' };
    const { body: user } = await send('/v1/users', none, { ...credentials, firstName: '娜', lastName: '李' });
    const { body: session } = await send('/v1/sessions', none, credentials);
    assert.equal(session.userId, user.id);
    assert.match(String(session.token), /^[\w-]+\.[\w-]+\.[\w-]+$/);
    const me = await send('/v1/users/me', { 'x-user-id': String(session.userId) });
    const { username, firstName, lastName, createdAt, updatedAt } = me.body;
    assert.deepEqual([username, firstName, lastName], ['Ann', '娜', '李']);
    assert.ok(createdAt === updatedAt && Date.parse(String(createdAt)) > 0);
    // A user that only the trusted caller knows.
    const other = await send('/v1/users/me', { 'x-user-id': '9' });
    assert.deepEqual([other.status, other.body.reason], [404, 'USER_NOT_FOUND']);
  });

  it('returns outcomes as data, and errors with a code, a reason and a message', async () => {
    for (const _ of [1, 2, 3]) await purchase(3, item, 1);
    const refused = await envelopeOf(3, '/v1/seckill', { itemId: item, quantity: 1 });
    const { code, message, data } = refused.body;
    assert.deepEqual([refused.status, code, data], [200, PurchaseReply_Code.LIMIT_REACHED, null]);
    assert.notEqual(message, '');
    const plain = await send('/v1/seckill', { 'x-user-id': '3' }, { itemId: item, quantity: 1 });
    assert.equal(plain.body.code, 'LIMIT_REACHED');
    const anonymous = await send('/v1/seckill', { 'x-kaimai-envelope': '1' }, { itemId: item });
    assert.deepEqual([anonymous.status, anonymous.body.code, anonymous.body.reason], [401, 401, 'UNAUTHENTICATED']);
  });
});
