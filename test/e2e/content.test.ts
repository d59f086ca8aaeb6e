import assert from 'node:assert/strict';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const RECEIVER = { name: '张三', phone: '13800000000', region: '310115', address: 'Century Avenue 1' };
const DAY_MS = 86_400_000;
const NONE = { hasAccess: false, accessEndTime: null };

// biome-ignore lint/suspicious/noExplicitAny: JSON of many shapes, whose fields the assertions name
type Json = any;

describe('Contents, on two replicas of the product process', () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();
  let product: TestProcess;
  let started: Promise<TestProcess> | undefined;
  const rabbitmq = () => ({
    ...{ queue: servers.queue('resource.instance.created'), content_queue: servers.queue('content.changed') },
    refund_queue: servers.queue('order.refund.requested'),
  });
  /**
   * A replica whose clock of access is 31 days ahead. It grants nothing, and it alone marks what has ended: from its start on
   * access of 30 days is.
   */
  const later = () => {
    const content = { expire_interval: '0.1s', clock_offset: '2678400s' };
    const config = { server: { roles: ['api', 'entitlement_expirer'] }, data: { rabbitmq: rabbitmq() }, content };
    started ??= processes.start('product', { env: servers.env(), config });
    return started;
  };

  before(async () => {
    const data = { rabbitmq: rabbitmq() };
    const payment = { simulated_providers: ['p'] };
    const config = { data, payment, content: { expire_interval: '3600s' }, refund: { poll_interval: '0.05s' } };
    product = await processes.start('product', { env: servers.env(), config });
  });

  async function call(on: TestProcess, headers: Record<string, string>, method: string, path: string, body?: unknown) {
    const response = await fetch(`http://${on.http}${path}`, {
      ...{ method, headers: { 'content-type': 'application/json', ...headers } },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    return { status: response.status, body: (await response.json()) as Json };
  }
  const succeeds = async (reply: Promise<{ status: number; body: Json }>): Promise<Json> => {
    const { status, body } = await reply;
    assert.equal(status, 200, JSON.stringify(body));
    return body;
  };
  const as = (user: number, method: string, path: string, body?: unknown, on = product) =>
    call(on, { 'x-user-id': String(user) }, method, path, body);
  const admin = (method: string, path: string, body?: unknown) =>
    succeeds(call(product, { 'x-user-role': 'ADMIN' }, method, path, body));
  const content = (title: string, access: object = {}): Promise<Json> =>
    admin('POST', '/v1/contents', {
      ...{ title, contentType: 'COURSE', priceFen: '1990', publishStatus: 'PUBLISHED', ...access },
    });
  const THIRTY_DAYS = { accessType: 'TEMPORARY', accessDays: 30 };
  const pay = (id: string): Promise<Json> =>
    succeeds(call(product, {}, 'POST', `/v1/orders/${id}/paid`, { provider: 'p', eventId: id }));
  const access = async (user: number, id: string, on = product): Promise<Json> =>
    succeeds(as(user, 'GET', `/v1/contents/${id}/access`, undefined, on));
  const mine = async (user: number, query = ''): Promise<Json[]> =>
    (await succeeds(as(user, 'GET', `/v1/users/me/contents${query}`))).entitlements;
  const refund = async (user: number, id: string) => {
    const { id: refundId, status } = await succeeds(as(user, 'POST', `/v1/orders/${id}/refunds`, { reason: 'r' }));
    if (status === 'REQUESTED') await admin('POST', `/v1/refunds/${refundId}/approve`, {});
    await eventually('the refund is paid out', async () => {
      return (await admin('GET', `/v1/refunds/${refundId}`)).status === 'DONE';
    });
  };
  let numbers = 0;
  const sku = async (contents: readonly object[]): Promise<string> => {
    const no = `card-${++numbers}`;
    const spu = await admin('POST', '/v1/spus', {
      spuNo: no,
      title: '卡',
      publishStatus: 'PUBLISHED',
      goodsType: 'CARD',
    });
    const created = await admin('POST', '/v1/skus', {
      ...{ spuId: spu.id, skuNo: no, skuName: '卡', priceFen: '500', stock: '20' },
    });
    await admin('PUT', `/v1/skus/${created.id}/contents`, { contents });
    return created.id;
  };

  it('sells 30 days of a content, which can be used until the clock has passed their end', async () => {
    const { id } = await content('thirty days', THIRTY_DAYS);
    assert.deepEqual(await access(1, id), { ...NONE, accessType: 'ACCESS_TYPE_UNSPECIFIED' });
    const order = await succeeds(as(1, 'POST', '/v1/orders', { contentId: id }));
    assert.deepEqual([order.orderType, order.status, order.contentDays], ['CONTENT', 'PENDING', 30]);
    assert.equal((await pay(order.id)).status, 'COMPLETED');
    const now = await access(1, id);
    assert.deepEqual([now.hasAccess, now.accessType], [true, 'TEMPORARY']);
    const leftMs = new Date(now.accessEndTime).getTime() - Date.now();
    assert.ok(leftMs > 29.9 * DAY_MS && leftMs <= 30 * DAY_MS, `${leftMs} ms are left`);
    assert.equal((await access(1, id, await later())).hasAccess, false, 'after 31 days it has ended');
    await eventually('the other replica marks it', async () => (await mine(1))[0]?.status === 'EXPIRED');
    assert.equal((await access(1, id)).hasAccess, false);
    assert.deepEqual(await mine(1, '?status=ACTIVE'), []);
  });

  it('opens two contents with goods, and takes both back with the refund', async () => {
    const [a, b] = [await content('a'), await content('b')];
    const card = await sku([{ contentId: a.id, accessDays: 60 }, { contentId: b.id }]);
    const shown = await succeeds(call(product, {}, 'GET', `/v1/skus/${card}`));
    assert.deepEqual(shown.contents, [
      { contentId: a.id, accessDays: 60 },
      { contentId: b.id, accessDays: 0 },
    ]);
    const lines = [{ skuId: card, quantity: 1 }];
    const order = await succeeds(as(2, 'POST', '/v1/orders', { lines, receiver: RECEIVER }));
    assert.equal((await pay(order.id)).status, 'PAID');
    const opened = await mine(2);
    assert.deepEqual(
      opened.map((e) => [e.contentTitle, e.accessType, e.goodsType, e.orderNo]),
      [
        ['b', 'PERMANENT', 'CARD', order.orderNo],
        ['a', 'TEMPORARY', 'CARD', order.orderNo],
      ],
    );
    assert.equal((await access(2, b.id, await later())).hasAccess, true);
    await refund(2, order.id);
    assert.deepEqual([(await access(2, a.id)).hasAccess, (await access(2, b.id)).hasAccess], [false, false]);
    assert.deepEqual(new Set((await mine(2)).map((e) => e.status)), new Set(['REVOKED']));
  });

  for (const payMode of ['PREPAID', 'PAY_LATER']) {
    it(`sells goods that open a content, and a content, in ${payMode} flash sales`, async () => {
      const opened = await content(`opened by ${payMode}`, { accessType: 'TEMPORARY', accessDays: 60 });
      const sold = await content(`sold by ${payMode}`);
      const card = await sku([{ contentId: opened.id, accessDays: 60 }]);
      for (const itemId of [card, sold.id]) {
        await admin('POST', '/v1/sales', { itemId, total: '5', payMode, priceFen: '100' });
        await eventually('the sale is open', async () => {
          const { body } = await call(product, { 'x-user-role': 'ADMIN' }, 'POST', `/v1/sales/${itemId}/open`, {});
          return body.availability === 'AVAILABLE';
        });
        const { code, data } = await succeeds(as(3, 'POST', '/v1/seckill', { itemId, quantity: 1 }));
        assert.equal(code, 'QUEUED');
        const purchase = await eventually('the purchase is settled', async () => {
          const { body } = await as(3, 'GET', `/v1/seckill/${data.seckillId}`);
          return (body.status === 'PAID' || body.status === 'AWAIT_PAY') && body;
        });
        if (payMode === 'PAY_LATER') await pay(purchase.orderId);
      }
      assert.equal((await access(3, opened.id)).hasAccess, true);
      assert.deepEqual(await access(3, sold.id), { ...NONE, hasAccess: true, accessType: 'PERMANENT' });
      const again = await as(3, 'POST', '/v1/orders', { contentId: sold.id });
      assert.deepEqual([again.status, again.body.reason], [409, 'CONTENT_ALREADY_OWNED']);
    });
  }

  it('brings a changed title by message to what buyers have, and leaves their orders', async () => {
    const { id } = await content('old title');
    const order = await succeeds(as(4, 'POST', '/v1/orders', { contentId: id }));
    await pay(order.id);
    for (let version = 1; version <= 5; version++) {
      await admin('PATCH', `/v1/contents/${id}`, { version: String(version), title: `title ${version + 1}` });
    }
    await eventually('the newest title arrives', async () => (await mine(4))[0]?.contentTitle === 'title 6');
    assert.equal((await succeeds(as(4, 'GET', `/v1/orders/${order.id}`))).productName, 'old title');
  });

  it('refuses a content twice in a request, a wrong mix of fields, and hides what is unpublished', async () => {
    const hidden = await admin('POST', '/v1/contents', { title: 'hidden', contentType: 'VIDEO', priceFen: '1' });
    assert.equal((await as(5, 'GET', `/v1/contents/${hidden.id}`)).status, 404);
    const order = await as(5, 'POST', '/v1/orders', { contentId: hidden.id });
    assert.deepEqual([order.status, order.body.reason], [409, 'CONTENT_NOT_ON_SALE']);
    const mixed = await as(5, 'POST', '/v1/orders', { contentId: hidden.id, productId: '1001' });
    assert.deepEqual([mixed.status, mixed.body.reason], [400, 'INVALID_ARGUMENT']);
    const days = await call(product, { 'x-user-role': 'ADMIN' }, 'POST', '/v1/contents', {
      ...{ title: 't', contentType: 'VIDEO', priceFen: '1', accessDays: 3 },
    });
    assert.equal(days.status, 400);
    const batch = await call(product, { 'x-user-id': '5' }, 'POST', `/v1/contents/${hidden.id}/grant`, {});
    assert.equal(batch.status, 403);
  });

  it('lets operators grant and revoke', async () => {
    const { id } = await content('granted');
    const grant = { userId: '6', accessDays: 90, requestId: 'gift-1', reason: 'gift' };
    const first = await admin('POST', `/v1/contents/${id}/grant`, grant);
    assert.equal((await admin('POST', `/v1/contents/${id}/grant`, grant)).id, first.id);
    assert.equal((await access(6, id, await later())).hasAccess, true);
    assert.deepEqual(await admin('POST', `/v1/contents/${id}/revoke`, { userId: '6', reason: 'shared' }), {
      revoked: 1,
    });
    assert.equal((await access(6, id)).hasAccess, false);
  });
});
