import assert from 'node:assert/strict';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { RECEIVER } from '../support/seckill.js';
import { useServers } from '../support/servers.js';

interface Reply<T> {
  readonly status: number;
  readonly body: T;
}
interface Fields {
  readonly [name: string]: unknown;
}
interface Failure {
  readonly reason: string;
  readonly metadata: Readonly<Record<string, string>>;
}
interface Use {
  readonly applies: boolean;
  readonly refusal: string;
  readonly savedAmountFen: string;
}

describe('coupons over JSON', () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();
  let replicas: readonly TestProcess[];
  let skuId: string;

  before(async () => {
    const options = () => ({
      env: servers.env(),
      config: {
        server: { roles: ['api'] },
        data: { rabbitmq: { queue: servers.queue('resource.instance.created') } },
      },
    });
    replicas = await Promise.all([1, 2].map(() => processes.start('product', options())));
    const spu = await admin('/v1/spus', { spuNo: 'p', title: '手机', publishStatus: 'PUBLISHED' });
    const sku = { spuId: spu.id, skuNo: 's', skuName: '手机 黑色', priceFen: '9900', stock: '20' };
    skuId = String((await admin('/v1/skus', sku)).id);
  });

  async function send<T = Fields>(
    path: string,
    headers: Record<string, string>,
    { method = 'POST', body, on = 0 }: { method?: string; body?: unknown; on?: number } = {},
  ): Promise<Reply<T>> {
    const reply = await fetch(`http://${replicas[on]?.http}${path}`, {
      ...{ method, headers: { 'content-type': 'application/json', ...headers } },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    return { status: reply.status, body: (await reply.json()) as T };
  }

  async function admin(path: string, body: unknown, method = 'POST'): Promise<Fields> {
    const reply = await send(path, { 'x-user-role': 'ADMIN' }, { method, body });
    assert.equal(reply.status, 200, JSON.stringify(reply.body));
    return reply.body;
  }
  const user = <T = Fields>(id: number, path: string, body?: unknown, on = 0) =>
    send<T>(path, { 'x-user-id': String(id) }, { method: body === undefined ? 'GET' : 'POST', body, on });
  const coupon = (changes: object = {}) =>
    admin('/v1/coupons', { name: '满减', value: { offFen: '2000', thresholdFen: '9000' }, total: '10', ...changes });

  it('are created, claimed, tried, quoted and used by an order, with equal amounts in every reply', async () => {
    const { id: couponId, scope, limitPerUser } = await coupon();
    assert.deepEqual([scope, limitPerUser], [{ kind: 'ALL', ids: [] }, 1]);
    const mine = (await user(1, `/v1/coupons/${couponId}/claim`, { requestId: 'r' })).body;
    assert.equal(mine.status, 'UNUSED');
    const lines = [{ skuId, quantity: 1 }];
    const tried = await user<{ coupons: { id: string; use: Use }[] }>(1, '/v1/users/me/coupons:check', { lines });
    assert.deepEqual(
      tried.body.coupons.map(({ id, use }) => [id, use.applies, use.savedAmountFen]),
      [[mine.id, true, '2000']],
    );
    const quote = (await user(1, '/v1/quotes', { lines, couponId: mine.id })).body;
    assert.deepEqual([quote.amountFen, (quote.coupon as Use).applies], ['7900', true]);
    const wanted = { lines, receiver: RECEIVER, couponId: mine.id, expectedAmountFen: quote.amountFen };
    const order = (await user(1, '/v1/orders', wanted)).body;
    assert.deepEqual([order.amountFen, order.promotionAmountFen], ['7900', '2000']);
    const again = await user<Failure>(1, '/v1/orders', wanted, 1);
    assert.deepEqual(
      [again.status, again.body.reason, again.body.metadata.reason],
      [409, 'COUPON_UNAVAILABLE', 'HELD'],
    );
    const held = await user<{ coupons: Fields[] }>(1, '/v1/users/me/coupons?status=HELD');
    assert.deepEqual(
      held.body.coupons.map((c) => [c.id, c.orderId]),
      [[mine.id, order.id]],
    );
    const paid = await send(`/v1/orders/${order.id}/paid`, { 'x-user-role': 'ADMIN' }, { body: {} });
    assert.equal(paid.status, 200, JSON.stringify(paid.body));
    const refused = (await user<{ coupon: Use; amountFen: string }>(1, '/v1/quotes', { lines, couponId: mine.id }))
      .body;
    assert.deepEqual([refused.coupon.refusal, refused.amountFen], ['USED', '9900']);
    assert.equal((await user<Failure>(2, '/v1/quotes', { lines, couponId: mine.id })).body.reason, 'COUPON_NOT_FOUND');
  });

  it('are listed to users while they are offered, and to operators always', async () => {
    const { id, version } = await coupon({ value: { percent: 20, capFen: '500' }, limitPerUser: 3 });
    const listed = async (headers: Record<string, string>) => {
      const { body } = await send<{ coupons: Fields[] }>('/v1/coupons?limit=100', headers, { method: 'GET' });
      return body.coupons.some((c) => c.id === id);
    };
    assert.equal(await listed({ 'x-user-id': '1' }), true);
    await admin(`/v1/coupons/${id}`, { version, enabled: false }, 'PATCH');
    assert.deepEqual([await listed({ 'x-user-id': '1' }), await listed({ 'x-user-role': 'ADMIN' })], [false, true]);
    const late = await send<Failure>(
      `/v1/coupons/${id}`,
      { 'x-user-role': 'ADMIN' },
      { method: 'PATCH', body: { version, name: 'n' } },
    );
    assert.equal(late.body.reason, 'COUPON_VERSION_CONFLICT');
  });

  it('name the field of a value that makes no sense', async () => {
    const fieldOf = async (changes: object) => {
      const body = { name: 'n', value: { offFen: '1' }, total: '1', ...changes };
      const headers = { 'x-user-role': 'ADMIN' };
      const reply = await send<{ violations: readonly { field: string }[] }>('/v1/coupons', headers, { body });
      assert.equal(reply.status, 400, JSON.stringify(reply.body));
      return reply.body.violations.map((v) => v.field).join();
    };
    assert.equal(await fieldOf({ value: {} }), 'value');
    assert.equal(await fieldOf({ value: { offFen: '1', percent: 5 } }), 'value.percent');
    assert.equal(await fieldOf({ value: { offFen: '1', capFen: '5' } }), 'value.capFen');
    assert.equal(await fieldOf({ value: { percent: 5, thresholdFen: '5' } }), 'value.thresholdFen');
    assert.equal(await fieldOf({ scope: { kind: 'SKU' } }), 'scope.ids');
    assert.equal(await fieldOf({ endsAt: '2000-01-01T00:00:00Z' }), 'endsAt');
  });

  it('are granted by operators, and give out exactly their total when hundreds ask two processes at once', async () => {
    const { id } = await coupon({ total: '50' });
    const granted = await admin(`/v1/coupons/${id}/grant`, { userIds: ['900001', '900002'], requestId: 'g' });
    assert.equal((granted.coupons as unknown[]).length, 2);
    const replies = await Promise.all(
      Array.from({ length: 300 }, (_, i) => user<Failure>(910_000 + i, `/v1/coupons/${id}/claim`, {}, i % 2)),
    );
    assert.equal(replies.filter((r) => r.status === 200).length, 48);
    const reasons = replies.filter((r) => r.status !== 200).map((r) => `${r.body.reason} ${r.body.metadata.reason}`);
    assert.deepEqual([...new Set(reasons)], ['COUPON_UNAVAILABLE SOLD_OUT']);
  });
});
