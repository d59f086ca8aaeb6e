import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';

interface Span {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly attributes: readonly { readonly key: string; readonly value: { readonly stringValue?: string } }[];
  readonly scope: string;
}

/** The receiving end of OTLP/HTTP, in JSON. */
class Collector {
  readonly spans: Span[] = [];
  #changed: () => void = () => undefined;
  readonly #server: Server = createServer((req, res) => {
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
      this.#changed();
    });
  });

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/v1/traces`;
  }

  stop(): Promise<unknown> {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(resolve));
  }

  async find(test: (span: Span) => boolean): Promise<Span> {
    for (;;) {
      const found = this.spans.find(test);
      if (found) return found;
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
  }
}

describe('tracing of the product process', function () {
  this.timeout(120_000);
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();
  const collector = new Collector();
  let endpoint: string;
  before(async () => {
    endpoint = await collector.start();
  });
  after(() => collector.stop());

  it('continues the trace of a caller, down to the database, and tells no parameter', async () => {
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
    // Rounds of the background servers that found nothing start no traces.
    assert.equal(await product.stop(), 'exited with code 0');
    assert.deepEqual([...new Set(collector.spans.map((s) => s.traceId))], [traceId]);
  });

  it('serves on when the collector is away', async () => {
    const config = { trace: { endpoint: 'http://127.0.0.1:1/v1/traces' } };
    const product = await processes.start('product', { env: servers.env(), config });
    assert.equal((await fetch(`http://${product.http}/v1/products`)).status, 200);
    assert.equal(await product.stop(), 'exited with code 0');
  });
});
