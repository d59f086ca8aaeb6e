import assert from 'node:assert/strict';
import { join } from 'node:path';
import {
  credentials,
  loadPackageDefinition,
  Metadata,
  type ServiceClientConstructor,
  type ServiceError,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { ALL_REASONS } from '../../gen/reasons.js';
import { decodeStatus, reasonTable } from '../../internal/kratos/errors/rpc-status.js';
import { projectRoot } from '../../internal/local/project.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

type Body = Record<string, unknown>;

describe('A fair sale of the product process', () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();
  let product: TestProcess;
  let grpc: InstanceType<ServiceClientConstructor>;

  before(async () => {
    product = await processes.start('product', {
      env: servers.env(),
      config: {
        data: { rabbitmq: { queue: servers.queue('resource.instance.created') } },
        server: { trusted_proxies: ['127.0.0.1'] },
        seckill: { user_rate: { per_second: 0.01, burst: 10 }, address_rate: { per_second: 0.01, burst: 50 } },
      },
    });
    const loaded = loadPackageDefinition(
      loadSync('seckill/v1/seckill.proto', {
        includeDirs: [join(projectRoot, 'api'), join(projectRoot, 'third_party')],
        longs: String,
        enums: String,
        defaults: true,
      }),
    ) as unknown as { seckill: { v1: { SeckillService: ServiceClientConstructor } } };
    grpc = new loaded.seckill.v1.SeckillService(product.grpc, credentials.createInsecure());
  });
  after(() => grpc?.close());

  async function call(method: string, path: string, headers: Record<string, string>, body?: unknown) {
    const response = await fetch(`http://${product.http}${path}`, {
      method,
      headers: { 'content-type': 'application/json', 'x-forwarded-for': '203.0.113.1', ...headers },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    return { status: response.status, headers: response.headers, body: (await response.json()) as Body };
  }
  const admin = (method: string, path: string, body?: unknown) => call(method, path, { 'x-user-role': 'ADMIN' }, body);
  const as = (user: number, path: string, body: unknown, from = '203.0.113.1') =>
    call('POST', path, { 'x-user-id': String(user), 'x-forwarded-for': from }, body);

  function callGrpc(method: string, user: number, request: object, more: Record<string, string> = {}): Promise<Body> {
    const metadata = new Metadata();
    for (const [name, value] of Object.entries({ 'x-user-id': String(user), ...more })) metadata.set(name, value);
    return new Promise((resolve, reject) => {
      const options = { deadline: Date.now() + 10_000 };
      (
        grpc as unknown as Record<
          string,
          (r: object, m: Metadata, o: object, cb: (e: ServiceError | null, v: Body) => void) => void
        >
      )[method]!(request, metadata, options, (err, reply) => (err ? reject(err) : resolve(reply)));
    });
  }

  async function sale(fields: object = {}): Promise<string> {
    const spec = await admin('POST', '/v1/product-specs', { cpu: 2, memory: 4, image: 'debian-12' });
    const plan = await admin('POST', '/v1/products', {
      name: 'p',
      priceFen: '9900',
      specId: spec.body.id,
      status: 'ENABLED',
    });
    const itemId = plan.body.id as string;
    const made = await admin('POST', '/v1/sales', { itemId, total: '10', ...fields });
    assert.equal(made.status, 200, JSON.stringify(made.body));
    await admin('POST', `/v1/sales/${itemId}/open`, {});
    return itemId;
  }

  it('admits users by token and waiting room, over JSON', async () => {
    const itemId = await sale({ admitRate: 1 });
    const looked = await call('GET', `/v1/sales/${itemId}`, {});
    assert.deepEqual([looked.body.requireToken, looked.body.admitRate], [true, 1]);
    const path = `/v1/sales/${itemId}/token`;
    const first = await eventually('the sale is known', async () => {
      const reply = await as(1, path, {});
      return reply.body.code === 'READY' && reply.body;
    });
    assert.ok(Date.parse(first.expiresAt as string) > Date.parse(first.serverTime as string));
    // Some seconds' worth of users: on a slow machine the first of them may be called meanwhile.
    const others = await Promise.all([2, 3, 4, 5, 6, 7, 8, 9].map((user) => as(user, path, {})));
    const second = others.map((o) => o.body).reduce((a, b) => (Number(a.ahead) > Number(b.ahead) ? a : b));
    assert.deepEqual([second.code, second.token], ['WAITING', '']);
    assert.ok(Number(second.ahead) > 0);
    for (const field of ['estimatedWait', 'askAgainAfter']) assert.match(second[field] as string, /^\d(\.\d+)?s$/);
    const buy = async (user: number, token?: unknown) => as(user, '/v1/seckill', { itemId, token });
    assert.equal((await buy(2)).body.code, 'TOKEN_REQUIRED');
    const foreign = await buy(2, first.token);
    assert.deepEqual([foreign.status, foreign.body.reason], [403, 'PURCHASE_TOKEN_INVALID']);
    const bought = (await buy(1, first.token)).body;
    assert.equal(bought.code, 'QUEUED');
    assert.deepEqual((await buy(1, first.token)).body, bought);
    const changed = await admin('PATCH', `/v1/sales/${itemId}`, {
      version: looked.body.version,
      admitRate: 0,
      requireToken: false,
    });
    assert.deepEqual([changed.body.requireToken, changed.body.admitRate], [false, 0]);
  });

  it('admits users by token, over gRPC', async () => {
    const itemId = await sale({ requireToken: true });
    const first = await eventually('the sale is known', async () => {
      const reply = await callGrpc('issuePurchaseToken', 11, { itemId });
      return reply.code === 'READY' && reply;
    });
    assert.equal((await callGrpc('purchase', 11, { itemId })).code, 'TOKEN_REQUIRED');
    assert.equal((await callGrpc('purchase', 11, { itemId, token: first.token })).code, 'QUEUED');
    await assert.rejects(callGrpc('purchase', 12, { itemId, token: first.token }), { code: 7 });
    await assert.rejects(callGrpc('issuePurchaseToken', 11, { itemId: '999999' }), { code: 5 });
  });

  it('is not served in production with the development secrets, of carts neither', async () => {
    const secret = 'not-the-one-of-development';
    const config = {
      server: { environment: 'production' },
      auth: { internal_token: secret, bff_token: `${secret}-bff`, jwt: { secret: `${secret}-32-bytes` } },
    };
    await assert.rejects(
      processes.start('product', { env: servers.env(), config }),
      /seckill\.token_secret[\s\S]*cart\.guest_token_secret/,
    );
  });

  it('refuses a user who calls too often on either transport, and no other user', async () => {
    const itemId = await sale();
    const all = await Promise.all(
      Array.from({ length: 15 }, (_, i) => as(21, '/v1/seckill', { itemId }, `203.0.113.${i + 100}`)),
    );
    const refused = all.filter((r) => r.status === 429);
    assert.equal(refused.length, 5);
    assert.equal(refused[0]!.body.reason, 'TOO_MANY_REQUESTS');
    const { limited, retry_after_ms: retryAfterMs } = refused[0]!.body.metadata as Record<string, string>;
    assert.equal(limited, 'user');
    assert.equal(refused[0]!.headers.get('retry-after'), String(Math.ceil(Number(retryAfterMs) / 1_000)));
    await assert.rejects(callGrpc('purchase', 21, { itemId }), (err: ServiceError) => {
      const [details] = err.metadata.get('grpc-status-details-bin') as Buffer[];
      const known = decodeStatus(err.code, err.details, details, reasonTable(ALL_REASONS));
      assert.deepEqual([err.code, known.reason, known.httpCode], [8, 'TOO_MANY_REQUESTS', 429]);
      assert.ok(known.retryAfterMs! > 0 && known.retryAfterMs! <= 100_000);
      return true;
    });
    assert.equal((await as(22, '/v1/seckill', { itemId })).status, 200);
    // Everything else stays open to the user.
    assert.equal((await call('GET', `/v1/sales/${itemId}`, { 'x-user-id': '21' })).status, 200);
  });

  it('refuses an address, as the trusted proxy reports it, that calls too often, and no service of the system', async () => {
    const itemId = await sale();
    const statuses = await Promise.all(
      Array.from(
        { length: 60 },
        async (_, i) => (await as(1_000 + i, '/v1/seckill', { itemId }, '6.6.6.6, 198.51.100.7')).status,
      ),
    );
    assert.equal(statuses.filter((s) => s === 429).length, 10);
    assert.equal((await as(2_000, '/v1/seckill', { itemId }, '198.51.100.7, 198.51.100.8')).status, 200);
    await assert.rejects(callGrpc('purchase', 2_001, { itemId }, { 'x-forwarded-for': '198.51.100.7' }), { code: 8 });
    const internal = { 'x-internal-token': 'kaimai-development-token', 'x-forwarded-for': '198.51.100.7' };
    assert.ok((await callGrpc('purchase', 2_001, { itemId }, internal)).code);
  });
});
