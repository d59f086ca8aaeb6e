import assert from 'node:assert/strict';
import { ErrorReason } from '../../gen/seckill/v1/error_reason.js';
import {
  Sale_Availability as Availability,
  PurchaseReply_Code as Code,
  Sale_PayMode as PayMode,
  PurchaseRecord_Status as RecordStatus,
  Sale_Status as SaleStatus,
} from '../../gen/seckill/v1/seckill.js';
import { consumersKey, saleKeys } from '../../internal/data/redis/seckill-keys.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { SeckillReplica } from '../support/seckill.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const BACKLOG = 3;

interface Body {
  readonly id: string;
  readonly code: string | number;
  readonly reason: string;
  readonly status: string;
  readonly availability: string;
  readonly payMode: string;
  readonly version: string;
  readonly orderId: string;
  readonly token: string;
  readonly mayReturn: boolean;
  readonly data: { readonly seckillId: string } | null;
}

/** One process serves. Everything behind it happens when a test says so. */
describe('A caller meets every state and refusal of a flash sale:', () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();
  let product: TestProcess;
  let behind: SeckillReplica;
  /** The values that replies had, by field. */
  const met = { code: new Set(), record: new Set(), sale: new Set(), availability: new Set(), payMode: new Set() };
  const refusals = new Set<string>();

  before(async () => {
    product = await processes.start('product', {
      env: servers.env(),
      config: { server: { roles: ['api'] }, seckill: { backlog_limit: BACKLOG, token_ttl: '5s' } },
    });
    behind = new SeckillReplica(servers);
    await behind.start();
  });
  after(() => behind?.close());

  async function call(method: string, path: string, headers: Record<string, string>, body?: unknown): Promise<Body> {
    const reply = await fetch(`http://${product.http}${path}`, {
      method,
      headers: { 'content-type': 'application/json', ...headers },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    const told = (await reply.json()) as Body;
    if (reply.status !== 200) refusals.add(told.reason);
    return told;
  }
  const admin = (method: string, path: string, body: unknown = {}) =>
    call(method, path, { 'x-user-role': 'ADMIN' }, body);
  const as = (user: number) => ({ 'x-user-id': String(user) });
  const buy = async (itemId: string, user: number, more: object = {}) => {
    const reply = await call('POST', '/v1/seckill', as(user), { itemId, ...more });
    if (reply.reason === undefined) met.code.add(reply.code);
    return reply;
  };
  const record = async (seckillId: string, user: number) => {
    const reply = await call('GET', `/v1/seckill/${seckillId}`, as(user));
    if (reply.code === undefined) met.record.add(reply.status);
    return reply;
  };
  const look = async (itemId: string) => {
    const reply = await call('GET', `/v1/sales/${itemId}`, {});
    met.sale.add(reply.status);
    met.availability.add(reply.availability);
    met.payMode.add(reply.payMode);
    return [reply.status, reply.availability];
  };
  const plan = async (sale: object, open = true): Promise<string> => {
    const { id } = await behind.plan();
    await admin('POST', '/v1/sales', { itemId: String(id), total: '1', ...sale });
    if (open) await admin('POST', `/v1/sales/${id}/open`);
    return String(id);
  };
  const worked = async (itemId: string) => {
    const consumer = behind.consumer('a');
    await consumer.start();
    await eventually('the stream is empty', () => behind.idle(BigInt(itemId)));
    await consumer.stop(AbortSignal.timeout(10_000));
  };

  it('SCHEDULED and NOT_STARTED before its time', async () => {
    const itemId = await plan({ startsAt: new Date(Date.now() + 3_600_000) }, false);
    assert.deepEqual(await look(itemId), ['SCHEDULED', 'NOT_STARTED']);
    assert.equal((await buy(itemId, 1)).code, 'NOT_STARTED');
    await admin('POST', `/v1/sales/${itemId}/open`);
    assert.deepEqual(await look(itemId), ['OPEN', 'NOT_STARTED']);
    await eventually('the opening is known', async () => (await buy(itemId, 1)).code === 'NOT_STARTED');
  });

  it('QUEUED, LIMIT_REACHED and SALE_BACKLOG_FULL while it is open, then AWAIT_PAY, PAID, CANCELLED, TIMED_OUT, REFUNDED and REJECTED', async () => {
    const itemId = await plan({ total: '4', payMode: 'PAY_LATER' });
    assert.deepEqual(await look(itemId), ['OPEN', 'AVAILABLE']);
    const ids: string[] = [];
    for (const user of [1, 2, 3]) {
      const reply = await buy(itemId, user);
      assert.equal(reply.code, 'QUEUED');
      ids.push(reply.data!.seckillId);
    }
    assert.equal((await buy(itemId, 1)).code, 'LIMIT_REACHED');
    assert.equal((await buy(itemId, 4)).reason, 'SALE_BACKLOG_FULL');
    assert.equal((await record(ids[0]!, 1)).status, 'QUEUED');
    assert.equal((await record(ids[0]!, 2)).reason, 'PURCHASE_NOT_FOUND');
    const stream = saleKeys('', BigInt(itemId)).stream;
    const foreign = await behind.redis.commands.xadd(stream, '*', 'uid', '1');
    await worked(itemId);
    const { status, reason } = await record(`${itemId}-${foreign}`, 1);
    assert.deepEqual([status, reason], ['REJECTED', 'LIMIT_REACHED']);
    const orders = await Promise.all(ids.map(async (id, i) => (await record(id, i + 1)).orderId));
    assert.equal((await record(ids[0]!, 1)).status, 'AWAIT_PAY');
    await call('POST', `/v1/orders/${orders[0]}/paid`, {}, {});
    await call('POST', `/v1/orders/${orders[1]}/cancel`, as(2), {});
    await behind.rows(`UPDATE orders SET pay_deadline = now() - interval '1 s' WHERE id = $1`, BigInt(orders[2]!));
    await behind.orders.sweepOverdue(10);
    const statuses = await Promise.all(ids.map(async (id, i) => (await record(id, i + 1)).status));
    assert.deepEqual(statuses, ['PAID', 'CANCELLED', 'TIMED_OUT']);
    const { id: orderId, instanceId } = await behind.orders.get(BigInt(orders[0]!), undefined);
    await behind.instances.reportInstance({ instanceId: instanceId!, status: 'FAILED', reason: 'no capacity' });
    const { items: refunds } = await behind.refunds.list({ orderId }, { offset: 0, limit: 1 });
    await behind.refunds.complete(refunds[0]!.id);
    assert.equal((await record(ids[0]!, 1)).status, 'REFUNDED');
  });

  it('NONE_LEFT_NOW and a SOLD_OUT that may end when no unit is left, then a final SOLD_OUT', async () => {
    const itemId = await plan({ payMode: 'PAY_LATER' });
    const { seckillId } = (await buy(itemId, 1)).data!;
    await worked(itemId);
    assert.deepEqual(await look(itemId), ['OPEN', 'NONE_LEFT_NOW']);
    await eventually('it is known', async () => {
      const refused = await buy(itemId, 2);
      return refused.code === 'SOLD_OUT' && refused.mayReturn;
    });
    await call('POST', `/v1/orders/${(await record(seckillId, 1)).orderId}/paid`, {}, {});
    assert.deepEqual(await look(itemId), ['OPEN', 'SOLD_OUT']);
    await eventually('it is known', async () => !(await buy(itemId, 2)).mayReturn);
  });

  it('TOKEN_REQUIRED, PURCHASE_TOKEN_INVALID and TOKEN_EXPIRED when it requires a token', async () => {
    const itemId = await plan({ requireToken: true });
    assert.equal((await buy(itemId, 1)).code, 'TOKEN_REQUIRED');
    assert.equal((await buy(itemId, 1, { token: 'nonsense' })).reason, 'PURCHASE_TOKEN_INVALID');
    const { token } = await call('POST', `/v1/sales/${itemId}/token`, as(1), {});
    await eventually('the token is old', async () => (await buy(itemId, 1, { token })).code === 'TOKEN_EXPIRED', {
      everyMs: 250,
    });
  });

  it('CLOSED, ENDED and SALE_STATUS_CONFLICT after its end', async () => {
    const itemId = await plan({ payMode: 'PREPAID' });
    await admin('POST', `/v1/sales/${itemId}/close`);
    assert.deepEqual(await look(itemId), ['CLOSED', 'ENDED']);
    await eventually('the end is known', async () => (await buy(itemId, 1)).code === 'ENDED');
    assert.equal((await admin('POST', `/v1/sales/${itemId}/open`)).reason, 'SALE_STATUS_CONFLICT');
  });

  it('SALE_NOT_FOUND, SALE_EXISTS, SALE_VERSION_CONFLICT and SALE_UNAVAILABLE when it is refused', async () => {
    assert.equal((await buy('999999', 1)).reason, 'SALE_NOT_FOUND');
    const itemId = await plan({});
    assert.equal((await admin('POST', '/v1/sales', { itemId, total: '1' })).reason, 'SALE_EXISTS');
    const stale = { version: '99', defaultLimit: 2 };
    assert.equal((await admin('PATCH', `/v1/sales/${itemId}`, stale)).reason, 'SALE_VERSION_CONFLICT');
    await behind.redis.commands.del(saleKeys('', BigInt(itemId)).meta);
    assert.equal((await buy(itemId, 1)).reason, 'SALE_UNAVAILABLE');
  });

  it('NOT_KNOWN_YET when Redis lost data and a consumer may still have the purchase in memory', async () => {
    const itemId = await plan({});
    await behind.redis.commands.del(consumersKey(''));
    const lost = `${itemId}-${Date.now()}-0`;
    assert.equal((await record(lost, 1)).status, 'NOT_KNOWN_YET');
    // No consumer reports within the time for it, so none can have the purchase.
    await behind.redis.commands.hset(consumersKey(''), 'since', String(Date.now() - 60_000));
    assert.equal((await record(lost, 1)).reason, 'PURCHASE_NOT_FOUND');
  });

  // Only values that a reply above had count: a value that is added to a proto has to be met there, too.
  describe('and misses none of', () => {
    const named = (values: object) =>
      Object.keys(values)
        .filter((k) => !/^\d|^-\d|UNSPECIFIED|UNRECOGNIZED/.test(k))
        .sort();
    const all = [
      ['PurchaseReply.Code', Code, () => met.code],
      ['PurchaseRecord.Status', RecordStatus, () => met.record],
      ['Sale.Status', SaleStatus, () => met.sale],
      ['Sale.Availability', Availability, () => met.availability],
      ['Sale.PayMode', PayMode, () => met.payMode],
    ] as const;
    for (const [name, values, seen] of all) {
      it(`the values of ${name}`, () => {
        assert.deepEqual([...seen()].sort(), named(values));
      });
    }
    it('the error reasons of the package', () => {
      const missing = named(ErrorReason).filter((reason) => !refusals.has(reason));
      assert.deepEqual(missing, []);
    });
  });
});
