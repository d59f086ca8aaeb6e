import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';

const SECRET = 'a-secret-of-the-payment-provider';

describe('The payment callback with a configured secret', () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();
  let product: TestProcess;

  before(async () => {
    product = await processes.start('product', { env: servers.env(), config: { payment: { secret: SECRET } } });
  });

  async function paid(headers: Record<string, string>, body: string, order = '4242'): Promise<string> {
    const reply = await fetch(`http://${product.http}/v1/orders/${order}/paid`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body,
    });
    return `${reply.status} ${((await reply.json()) as { reason: string }).reason}`;
  }

  it('accepts only a callback with a valid signature over its order and its bytes, even from the buyer', async () => {
    // The signature covers the exact bytes of the body, including spaces and order.
    const body = '{ "eventId":"evt-1",  "provider":"pay" }';
    const timestamp = String(Math.floor(Date.now() / 1000));
    const signature = createHmac('sha256', SECRET).update(`${timestamp}.4242.${body}`).digest('hex');
    const signed = { 'x-payment-timestamp': timestamp, 'x-payment-signature': signature };
    assert.equal(await paid(signed, body), '404 ORDER_NOT_FOUND');
    assert.equal(await paid(signed, body, 'ORD4242'), '404 ORDER_NOT_FOUND');
    assert.equal(await paid(signed, body, '4243'), '401 UNAUTHENTICATED');
    assert.equal(await paid(signed, body.replace('evt-1', 'evt-2')), '401 UNAUTHENTICATED');
    assert.equal(await paid({}, body), '401 UNAUTHENTICATED');
    assert.equal(await paid({ 'x-user-id': '7' }, body), '401 UNAUTHENTICATED');
    assert.equal(await paid({ 'x-user-role': 'ADMIN' }, body), '404 ORDER_NOT_FOUND');
  });
});
