import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { parse } from 'yaml';
import { ALL_REASONS } from '../../../../gen/reasons.js';
import { loadDescriptors } from '../../../conf/descriptors.js';
import { docsRoute } from './docs.js';

describe('/openapi.yaml and /docs', () => {
  let server: Server;
  let base: string;

  before(async () => {
    const { registry } = loadDescriptors();
    const docs = docsRoute({
      registry,
      services: ['order.v1.OrderService'],
      reasons: ALL_REASONS,
      title: 'Kaimai test',
      version: '1',
    });
    server = createServer((req, res) => {
      if (!docs(req, res)) res.writeHead(418).end();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  after(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });

  it('describe only the services of this process', async () => {
    const yaml = parse(await (await fetch(`${base}/openapi.yaml`)).text());
    assert.equal(yaml.info.title, 'Kaimai test');
    assert.ok(yaml.paths['/v1/orders']);
    assert.equal(yaml.paths['/v1/products'], undefined);
    assert.deepEqual(await (await fetch(`${base}/openapi.json`)).json(), yaml);
  });

  it('include a page that runs its own script and loads nothing from other hosts', async () => {
    const reply = await fetch(`${base}/docs`);
    const page = await reply.text();
    const policy = reply.headers.get('content-security-policy') ?? '';
    const script = /<script>([\s\S]*?)<\/script>/.exec(page)?.[1];
    assert.ok(script);
    assert.ok(policy.includes(`'sha256-${createHash('sha256').update(script).digest('base64')}'`));
    assert.match(policy, /^default-src 'none'/);
    assert.doesNotMatch(page, /https?:\/\//);
  });

  it('leave other paths to the next handler, and allow only GET and HEAD', async () => {
    assert.equal((await fetch(`${base}/docs/x`)).status, 418);
    const refused = await fetch(`${base}/docs`, { method: 'POST' });
    assert.equal(refused.status, 405);
    assert.equal(refused.headers.get('allow'), 'GET, HEAD');
    const head = await fetch(`${base}/openapi.yaml`, { method: 'HEAD' });
    assert.equal(head.status, 200);
    assert.equal(await head.text(), '');
  });
});
