import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import { join } from 'node:path';
import { projectRoot } from '../../internal/local/project.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const file = (name: string) => join(projectRoot, 'internal/kratos/transport/tls/testdata', name);
const SERVER = { cert: file('server.pem'), key: file('server.key'), clientCa: file('ca.pem') };
const CLIENT = { cert: readFileSync(file('client.pem')), key: readFileSync(file('client.key')) };
const ADMIN = { 'x-user-role': 'ADMIN' };

describe('Product and resource with mTLS', () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();
  let product: TestProcess;

  before(async () => {
    product = await processes.start('product', {
      env: servers.env(),
      config: { server: { http: { tls: SERVER }, grpc: { tls: SERVER } } },
    });
    await processes.start('resource', {
      env: {
        ...servers.env(),
        ...product.env(),
        KAIMAI_CLIENT_TLS_CA: file('ca.pem'),
        KAIMAI_CLIENT_TLS_CERT: file('client.pem'),
        KAIMAI_CLIENT_TLS_KEY: file('client.key'),
      },
    });
  });

  function call<T>(method: string, path: string, headers: Record<string, string>, body?: unknown): Promise<T> {
    return new Promise((resolve, reject) => {
      const options = {
        method,
        headers: { 'content-type': 'application/json', ...headers },
        ca: readFileSync(file('ca.pem')),
      };
      const req = request(`https://${product.http}${path}`, { ...options, ...CLIENT, agent: false }, (res) => {
        let text = '';
        res.setEncoding('utf8').on('data', (part: string) => {
          text += part;
        });
        res.on('end', () => resolve(JSON.parse(text) as T));
      });
      req.on('error', reject).end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  it('complete an order: resource reports its instance over mTLS', async () => {
    const spec = await call<{ id: string }>('POST', '/v1/product-specs', ADMIN, {
      cpu: 1,
      memory: 1,
      image: 'debian-12',
    });
    const plan = await call<{ id: string }>('POST', '/v1/products', ADMIN, {
      name: 'plan',
      priceFen: '100',
      specId: spec.id,
      status: 'ENABLED',
    });
    const user = { 'x-user-id': '7' };
    const { id } = await call<{ id: string }>('POST', '/v1/orders', user, { productId: plan.id, quantity: 1 });
    await call('POST', `/v1/orders/${id}/paid`, user, { provider: 'test', eventId: 'event-1', paidAmountFen: '100' });
    await eventually('the completed order', async () => {
      const order = await call<{ status: string }>('GET', `/v1/orders/${id}`, user);
      return order.status === 'COMPLETED' ? order : undefined;
    });
  });

  it('serve no client without a certificate', async () => {
    const refused = new Promise((resolve, reject) => {
      const options = { ca: readFileSync(file('ca.pem')), agent: false };
      request(`https://${product.http}/v1/products`, options, resolve).on('error', reject).end();
    });
    await assert.rejects(refused);
    await assert.rejects(fetch(`http://${product.http}/v1/products`));
  });
});
