import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';

interface Span {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  /** 2 for a server, 3 for a client. */
  readonly kind: number;
  readonly startTimeUnixNano: string;
  readonly scope: string;
}

/** A receiver of OTLP/HTTP in JSON. */
class Collector {
  readonly spans: Span[] = [];
  private changed: () => void = () => undefined;
  private readonly server: Server = createServer((req, res) => {
    let text = '';
    req.on('data', (data: Buffer) => {
      text += data.toString();
    });
    req.on('end', () => {
      interface Scoped {
        readonly scope: { readonly name: string };
        readonly spans: readonly Omit<Span, 'scope'>[];
      }
      const body = JSON.parse(text) as { resourceSpans: { scopeSpans: Scoped[] }[] };
      for (const { scopeSpans } of body.resourceSpans) {
        for (const { scope, spans } of scopeSpans) this.spans.push(...spans.map((s) => ({ ...s, scope: scope.name })));
      }
      res.writeHead(200, { 'content-type': 'application/json' }).end('{}');
      this.changed();
    });
  });

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}/v1/traces`;
  }

  stop(): Promise<unknown> {
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(resolve));
  }

  async find(test: (span: Span) => boolean): Promise<Span> {
    for (;;) {
      const found = this.spans.find(test);
      if (found) return found;
      await new Promise<void>((resolve) => {
        this.changed = resolve;
      });
    }
  }
}

/** The spans of a trace as a tree, in the order of their start times. */
function treeOf(spans: readonly Span[]): string {
  const ids = new Set(spans.map((s) => s.spanId));
  const lines: string[] = [];
  const add = (span: Span, depth: number) => {
    lines.push(`${'  '.repeat(depth + 4)}${span.name}`);
    const below = spans.filter((s) => s.parentSpanId === span.spanId);
    for (const s of below.sort((a, b) => (BigInt(a.startTimeUnixNano) < BigInt(b.startTimeUnixNano) ? -1 : 1))) {
      add(s, depth + 1);
    }
  };
  for (const span of spans) if (!ids.has(span.parentSpanId ?? '')) add(span, 0);
  return lines.join('\n');
}

describe('Tracing of the processes', () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();
  const collector = new Collector();
  let endpoint: string;
  before(async () => {
    endpoint = await collector.start();
  });
  after(() => collector.stop());

  it('continues the trace of a caller down to the database, without recording parameters', async () => {
    const product = await processes.start('product', { env: servers.env(), config: { trace: { endpoint } } });
    const traceId = '0af7651916cd43dd8448eb211c80319c';
    const parent = 'b7ad6b7169203331';
    const res = await fetch(`http://${product.http}/v1/product-specs`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        'x-user-role': 'ADMIN',
        traceparent: `00-${traceId}-${parent}-01`,
      },
      body: JSON.stringify({ cpu: 2, memory: 4, image: 'an-image-of-a-kind' }),
    });
    assert.equal(res.status, 200, await res.clone().text());
    const server = await collector.find((s) => s.name === 'product.v1.ProductService/CreateProductSpec');
    assert.equal(server.traceId, traceId);
    assert.equal(server.parentSpanId, parent);
    const query = await collector.find((s) => s.scope.endsWith('instrumentation-pg') && s.traceId === traceId);
    const below = new Set([server.spanId]);
    for (const s of collector.spans) if (s.parentSpanId !== undefined && below.has(s.parentSpanId)) below.add(s.spanId);
    assert.ok(
      below.has(query.parentSpanId ?? ''),
      JSON.stringify(collector.spans.map((s) => [s.name, s.parentSpanId])),
    );
    assert.ok(!JSON.stringify(collector.spans).includes('an-image-of-a-kind'));
    // Rounds of background servers without work start no traces.
    assert.equal(await product.stop(), 'exited with code 0');
    assert.deepEqual([...new Set(collector.spans.map((s) => s.traceId))], [traceId]);
  });

  for (const way of ['ordinary order', 'flash sale'] as const) {
    it(`records one trace from the click to the instance for ${way}`, async () => {
      const config = { trace: { endpoint } };
      const product = await processes.start('product', { env: servers.env(), config });
      const resource = await processes.start('resource', { env: { ...servers.env(), ...product.env() }, config });
      const traceId = randomBytes(16).toString('hex');
      const send = async <T>(path: string, body: unknown, headers: Record<string, string>): Promise<T> => {
        const res = await fetch(`http://${product.http}${path}`, {
          method: 'POST',
          headers: { 'content-type': 'application/json', ...headers },
          body: JSON.stringify(body),
        });
        assert.equal(res.status, 200, await res.clone().text());
        return (await res.json()) as T;
      };
      const admin = { 'x-user-role': 'ADMIN' };
      const buyer = { 'x-user-id': '123' };
      const click = { ...buyer, traceparent: `00-${traceId}-b7ad6b7169203331-01` };
      const spec = await send<{ id: string }>('/v1/product-specs', { cpu: 1, memory: 1, image: 'debian' }, admin);
      const item = await send<{ id: string }>(
        '/v1/products',
        { name: 'Traced', status: 'ENABLED', priceFen: '100', specId: spec.id },
        admin,
      );
      if (way === 'ordinary order') {
        const order = await send<{ id: string }>('/v1/orders', { productId: item.id }, buyer);
        await send(`/v1/orders/${order.id}/paid`, { provider: 'test', eventId: traceId }, click);
      } else {
        await send('/v1/sales', { itemId: item.id, total: '1', priceFen: '100' }, admin);
        await send(`/v1/sales/${item.id}/open`, {}, admin);
        const reply = await send<{ code: string }>('/v1/seckill', { itemId: item.id }, click);
        assert.equal(reply.code, 'QUEUED');
      }
      const reported = await collector.find(
        (s) => s.traceId === traceId && s.name === 'instance.v1.InstanceService/ReportInstance' && s.kind === 2,
      );
      assert.equal(await resource.stop(), 'exited with code 0');
      assert.equal(await product.stop(), 'exited with code 0');

      const spans = collector.spans.filter((s) => s.traceId === traceId);
      const byId = new Map(spans.map((s) => [s.spanId, s]));
      const path: string[] = [];
      for (let s: Span | undefined = reported; s; s = byId.get(s.parentSpanId ?? '')) path.unshift(s.name);
      assert.equal(
        path[0],
        way === 'ordinary order' ? 'order.v1.OrderService/MarkOrderPaid' : 'seckill.v1.SeckillService/Purchase',
      );
      assert.deepEqual(path.slice(1), [
        'publish <default>',
        'instance report',
        'instance.v1.InstanceService/ReportInstance',
        'instance.v1.InstanceService/ReportInstance',
      ]);
      assert.ok(spans.some((s) => s.name === 'instance create'));
      assert.ok(spans.some((s) => s.name.startsWith('resource.instance.created') || s.name.includes('process')));
      console.log(treeOf(spans));
    });
  }

  it('keeps serving while the collector is unavailable', async () => {
    const config = { trace: { endpoint: 'http://127.0.0.1:1/v1/traces' } };
    const product = await processes.start('product', { env: servers.env(), config });
    assert.equal((await fetch(`http://${product.http}/v1/products`)).status, 200);
    assert.equal(await product.stop(), 'exited with code 0');
  });
});
