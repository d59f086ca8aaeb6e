import assert from 'node:assert/strict';
import { productNotFound } from '../../../../gen/product/v1/errors.js';
import { type GetProductRequest, Product, ProductServiceService } from '../../../../gen/product/v1/product.js';
import { loadDescriptors } from '../../../conf/descriptors.js';
import { auth, headerAuthenticator } from '../../../server/middleware/auth.js';
import { SilentLogger } from '../../log/logger.js';
import { deadline } from '../../middleware/deadline.js';
import { recovery } from '../../middleware/recovery.js';
import type { CallContext } from '../call-context.js';
import { bindService, Dispatcher } from '../dispatcher.js';
import { validation } from '../validation.js';
import { HttpListener } from './listener.js';

describe('JSON listener', () => {
  const { registry } = loadDescriptors();
  let contexts: CallContext[];
  let release: (() => void) | undefined;
  let listener: HttpListener;
  let listen: (strict: boolean) => Promise<void>;
  let base: string;

  beforeEach(async () => {
    contexts = [];
    const unused = () => Promise.reject(new Error('not asked for in this test'));
    const service = {
      getProduct: async ({ id }: GetProductRequest, ctx: CallContext): Promise<Product> => {
        contexts.push(ctx);
        if (id === 404n) throw productNotFound('no such product', { metadata: { id: '404' } });
        if (id >= 3_000n && id < 6_000n) throw productNotFound('not yet', { retryAfterMs: Number(id - 3_000n) });
        if (id === 500n) throw new Error('the password is hunter2');
        if (id === 504n) {
          await new Promise<void>((resolve) => {
            release = resolve;
            ctx.signal.addEventListener('abort', () => resolve(), { once: true });
          });
        }
        ctx.replyHeaders.set('x-served-by', 'shelf');
        return Product.create({ id, priceFen: 9_007_199_254_740_993n });
      },
      createProduct: unused,
      createProductSpec: unused,
      updateProduct: unused,
      listProducts: async () => ({ products: [], total: 0n }),
    };
    const dispatcher = new Dispatcher(
      registry,
      [bindService(ProductServiceService, service)],
      [
        recovery(),
        deadline({ grpcTimeoutMs: 5_000, httpTimeoutMs: 1_000 }),
        auth(
          headerAuthenticator({
            internalToken: 'a-token-for-this-test',
            adminToken: '',
            bffToken: '',
            adminByRole: true,
          }),
          registry,
        ),
      ],
      validation(registry),
    );
    const options = {
      addr: '127.0.0.1:0',
      envelope: false,
      maxBodyBytes: 1024,
      errorShape: 'reason',
      corsOrigins: ['https://shop.example'],
      timeoutMs: 5_000,
      forwardHeaders: ['x-user-id', 'x-user-role', 'x-internal-token'],
    };
    listen = async (strict) => {
      const given = { ...options, strictBody: strict, strictQuery: strict };
      listener = new HttpListener(given, registry, dispatcher, new SilentLogger(), (req, res) => {
        if (req.url !== '/plain') return false;
        res.end('plain');
        return true;
      });
      await listener.start();
      base = `http://127.0.0.1:${listener.port}`;
    };
    await listen(true);
  });

  afterEach(async () => {
    release?.();
    await listener.stop(AbortSignal.timeout(2_000), Date.now() + 2_000);
  });

  async function get(path: string, headers: Record<string, string> = {}, method = 'GET') {
    const res = await fetch(base + path, { method, headers: { connection: 'close', ...headers } });
    const text = await res.text();
    return {
      status: res.status,
      headers: res.headers,
      text,
      json: text.startsWith('{') ? JSON.parse(text) : undefined,
    };
  }

  it('serves a route with the handler of its RPC', async () => {
    const res = await get('/v1/products/7', { 'x-user-id': '123', 'x-request-id': 'r-1' });
    assert.equal(res.status, 200);
    assert.equal(res.json.id, '7');
    assert.equal(res.json.priceFen, '9007199254740993');
    assert.equal(res.headers.get('grpc-metadata-x-served-by'), 'shelf');
    assert.equal(contexts[0]?.identity.userId, '00000000-0000-8000-8000-00000000007b');
    assert.equal(contexts[0]?.metadata('x-request-id'), 'r-1');
    assert.equal((await get('/plain')).text, 'plain');
  });

  it('serves every RPC at its full name too', async () => {
    const res = await fetch(`${base}/product.v1.ProductService/GetProduct`, {
      method: 'POST',
      headers: { connection: 'close', 'content-type': 'application/json' },
      body: '{"id":"7"}',
    });
    assert.equal(res.status, 200);
    assert.equal(((await res.json()) as { id: string }).id, '7');
  });

  it('allows calls from pages of the configured origin only', async () => {
    const shop = await get('/v1/products/7', { origin: 'https://shop.example' });
    assert.equal(shop.headers.get('access-control-allow-origin'), 'https://shop.example');
    const other = await get('/v1/products/7', { origin: 'https://elsewhere.example' });
    assert.equal(other.headers.get('access-control-allow-origin'), null);
  });

  it('returns errors with code, reason, message, metadata and violations', async () => {
    const res = await get('/v1/products/404');
    assert.equal(res.status, 404);
    assert.deepEqual(res.json, {
      code: 404,
      reason: 'PRODUCT_NOT_FOUND',
      message: 'no such product',
      metadata: { id: '404' },
    });
    const invalid = await get('/v1/products/-1');
    assert.equal(invalid.status, 400);
    assert.equal(invalid.json.reason, 'INVALID_ARGUMENT');
    assert.equal(invalid.json.violations[0].field, 'id');
    const garbled = await get('/v1/products/seven');
    assert.equal(garbled.status, 400);
    const hidden = await get('/v1/products/500');
    assert.equal(hidden.status, 500);
    assert.ok(!hidden.text.includes('hunter2'));
  });

  it('rounds the time of a retry up to whole seconds, of which it says at least one', async () => {
    for (const [ms, seconds] of [
      [0, '1'],
      [1, '1'],
      [999, '1'],
      [1_000, '1'],
      [1_001, '2'],
    ] as const) {
      const reply = await fetch(`${base}/v1/products/${3_000 + ms}`, { headers: { 'x-user-id': '1' } });
      assert.equal(reply.headers.get('retry-after'), seconds, `${ms} ms`);
    }
  });

  it('rejects unknown fields and query parameters by name, or ignores them if it is configured so', async () => {
    const read = (body: string) =>
      fetch(`${base}/product.v1.ProductService/GetProduct`, {
        method: 'POST',
        headers: { connection: 'close', 'content-type': 'application/json' },
        body,
      });
    const mistyped = await read('{"id":"7","requestid":"r-1"}');
    assert.equal(mistyped.status, 400);
    const { reason, violations } = (await mistyped.json()) as { reason: string; violations: { field: string }[] };
    assert.deepEqual([reason, violations[0]?.field], ['INVALID_ARGUMENT', 'requestid']);
    const query = await get('/v1/products?userId=5');
    assert.deepEqual([query.status, query.json.violations[0].field], [400, 'userId']);
    assert.equal((await get('/v1/products?limit=5')).status, 200);
    assert.deepEqual(contexts, []);

    await listener.stop(AbortSignal.timeout(2_000), Date.now() + 2_000);
    await listen(false);
    assert.equal((await read('{"id":"7","requestid":"r-1"}')).status, 200);
    assert.equal((await get('/v1/products?userId=5')).status, 200);
  });

  it('requires the role of the RPC', async () => {
    assert.equal((await get('/v1/products', {}, 'POST')).status, 401);
    assert.equal((await get('/v1/products', { 'x-user-id': '5' }, 'POST')).status, 403);
    assert.equal((await get('/v1/products/7', { 'x-user-id': 'ann' })).status, 400);
  });

  it('ends a request at the configured timeout or at the deadline of its caller', async () => {
    const res = await get('/v1/products/504');
    assert.equal(res.status, 504);
    assert.equal(res.json.reason, 'DEADLINE_EXCEEDED');
    assert.equal((await get('/v1/products/504', { 'grpc-timeout': '20m' })).status, 504);
    const [, second] = contexts;
    assert.ok(second);
    assert.equal((second.signal.reason as { reason: string }).reason, 'DEADLINE_EXCEEDED');
  });

  it('aborts the handler when its caller disconnects', async () => {
    const controller = new AbortController();
    const gone = fetch(`${base}/v1/products/504`, { signal: controller.signal }).catch(() => undefined);
    while (contexts.length === 0) await new Promise((resolve) => setImmediate(resolve));
    const signal = contexts[0]?.signal;
    const told = new Promise((resolve) => signal?.addEventListener('abort', resolve, { once: true }));
    controller.abort();
    await Promise.all([gone, told]);
  });
});
