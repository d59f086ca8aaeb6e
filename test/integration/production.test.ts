import assert from 'node:assert/strict';
import { createHmac, randomBytes } from 'node:crypto';
import { request } from 'node:http';
import { Client, credentials, Metadata } from '@grpc/grpc-js';
import { OrderServiceService } from '../../gen/order/v1/order.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';

const secret = () => randomBytes(20).toString('hex');
const SECRETS = {
  internal: secret(),
  bff: secret(),
  admin: secret(),
  jwt: secret(),
  purchase: secret(),
  guest: secret(),
  payment: secret(),
};

describe('The product process in production', () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();
  let product: TestProcess;

  before(async () => {
    product = await processes.start('product', {
      env: {
        ...servers.env(),
        KAIMAI_SERVER_ENVIRONMENT: 'production',
        KAIMAI_AUTH_INTERNAL_TOKEN: SECRETS.internal,
        KAIMAI_AUTH_BFF_TOKEN: SECRETS.bff,
        KAIMAI_AUTH_ADMIN_TOKEN: SECRETS.admin,
        KAIMAI_AUTH_JWT_SECRET: SECRETS.jwt,
        KAIMAI_SECKILL_TOKEN_SECRET: SECRETS.purchase,
        KAIMAI_CART_GUEST_TOKEN_SECRET: SECRETS.guest,
        KAIMAI_PAYMENT_SECRET: SECRETS.payment,
      },
    });
  });

  interface Reply {
    readonly status: number;
    readonly reason: string;
    readonly message: string;
    readonly text: string;
  }

  /** An array sends the header once for each element. */
  function send(method: string, path: string, headers: Record<string, string | string[]>, body = ''): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const options = { method, headers: { 'content-type': 'application/json', connection: 'close', ...headers } };
      const req = request(`http://${product.http}${path}`, options, (res) => {
        let text = '';
        res.setEncoding('utf8').on('data', (part: string) => {
          text += part;
        });
        res.on('end', () => {
          const { reason, message } = JSON.parse(text) as { reason: string; message: string };
          resolve({ status: res.statusCode ?? 0, reason, message, text });
        });
      });
      req.on('error', reject).end(body);
    });
  }

  const create = (headers: Record<string, string | string[]>) => send('POST', '/v1/product-specs', headers, '{}');

  it('makes an operator of a caller with the admin token, and of no other', async () => {
    assert.equal((await create({ 'x-admin-token': SECRETS.admin })).reason, 'INVALID_ARGUMENT');
    for (const headers of [
      { 'x-user-role': 'ADMIN' },
      { 'x-user-role': 'ADMIN', 'x-bff-token': SECRETS.bff },
      { 'x-admin-token': SECRETS.bff },
      { 'x-admin-token': SECRETS.internal },
    ]) {
      assert.equal((await create(headers)).reason, 'UNAUTHENTICATED', JSON.stringify(headers));
    }
  });

  it('takes no identity from an alias of a header', async () => {
    const user = { 'x-user-id': '7', 'x-bff-token': SECRETS.bff };
    for (const alias of [
      { 'grpc-metadata-x-user-role': 'ADMIN' },
      { 'grpc-metadata-x-admin-token': SECRETS.admin },
      { 'grpc-metadata-x-internal-token': SECRETS.internal },
    ]) {
      assert.equal((await create({ ...user, ...alias })).reason, 'PERMISSION_DENIED', JSON.stringify(alias));
      assert.equal((await create(alias)).reason, 'UNAUTHENTICATED', JSON.stringify(alias));
    }
    const orders = (headers: Record<string, string>) => send('GET', '/v1/orders', headers);
    assert.equal((await orders(user)).status, 200);
    const aliases = { 'grpc-metadata-x-user-id': '7', 'grpc-metadata-x-bff-token': SECRETS.bff };
    assert.equal((await orders(aliases)).reason, 'UNAUTHENTICATED');
    assert.equal((await orders({ 'x-user-id': '7', ...aliases })).reason, 'UNAUTHENTICATED');
  });

  it('refuses a repeated identity header over JSON and over gRPC', async () => {
    const bff = { 'x-bff-token': SECRETS.bff };
    for (const headers of [
      { 'x-user-id': ['7', '8'] },
      { 'x-user-id': ['7', '7'] },
      { 'x-user-role': ['USER', 'ADMIN'] },
    ]) {
      assert.match((await send('GET', '/v1/orders', { ...bff, ...headers })).message, /must be sent once/);
    }
    const client = new Client(product.grpc, credentials.createInsecure());
    const metadata = new Metadata();
    metadata.set('x-bff-token', SECRETS.bff);
    metadata.add('x-user-id', '7');
    metadata.add('x-user-id', '8');
    const { path, requestSerialize, responseDeserialize } = OrderServiceService.listOrders;
    const list = { offset: 0, limit: 1, status: 0, orderType: 0 } as Parameters<typeof requestSerialize>[0];
    const message = await new Promise<string>((resolve) => {
      client.makeUnaryRequest(path, requestSerialize, responseDeserialize, list, metadata, (err) =>
        resolve(err?.details ?? 'served'),
      );
    });
    client.close();
    // HTTP/2 joins the values, so the id itself is invalid.
    assert.match(message, /x-user-id must be a UUID/);
  });

  it('tells operators the state of its dependencies, and others only whether it is ready', async () => {
    const readyz = async (address: string) => (await fetch(`http://${address}/readyz`)).json();
    assert.deepEqual(await readyz(product.http), { status: 'READY' });
    const { dependencies } = (await readyz(product.metrics)) as { dependencies: { name: string }[] };
    assert.deepEqual(dependencies.map(({ name }) => name).sort(), ['postgres', 'rabbitmq', 'redis']);
  });

  it('requires a signature and an amount of a payment notice', async () => {
    const pay = (body: string, signed: boolean) => {
      const timestamp = String(Math.floor(Date.now() / 1000));
      const signature = createHmac('sha256', SECRETS.payment).update(`${timestamp}.4242.${body}`).digest('hex');
      const headers = { 'x-payment-timestamp': timestamp, 'x-payment-signature': signature };
      return send('POST', '/v1/orders/4242/paid', signed ? headers : {}, body);
    };
    assert.equal((await pay('{"paidAmountFen":"1"}', false)).reason, 'UNAUTHENTICATED');
    assert.match((await pay('{"eventId":"e"}', true)).message, /paidAmountFen is required/);
    assert.equal((await pay('{"eventId":"e","paidAmountFen":"1"}', true)).reason, 'ORDER_NOT_FOUND');
  });
});
