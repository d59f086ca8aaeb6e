import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { PaymentSimulator, type PayPageButton, type SimulatedPayment } from '../biz/order/payment-simulator.js';
import { SilentLogger } from '../kratos/log/logger.js';
import { payPageRoute } from './pay-page.js';

class OnePayment extends PaymentSimulator {
  readonly pressed: PayPageButton[] = [];
  broken = false;
  private status: SimulatedPayment['status'] = 'OPEN';

  override async find(sessionId: bigint): Promise<SimulatedPayment | undefined> {
    if (this.broken) throw new Error('no database');
    const expiresAt = new Date(0);
    const payment = {
      sessionId,
      orderId: 7n,
      provider: '<i>pay</i>',
      amountFen: 9_905n,
      status: this.status,
      expiresAt,
    };
    return sessionId === 1n ? payment : undefined;
  }

  override async press(sessionId: bigint, button: PayPageButton): Promise<SimulatedPayment | undefined> {
    this.pressed.push(button);
    if (button !== 'decline') this.status = button === 'pay' ? 'PAID' : 'CLOSED';
    return this.find(sessionId);
  }
}

describe('The pay page', () => {
  const simulator = new OnePayment();
  let server: Server;
  let url: string;

  before(async () => {
    const route = payPageRoute(simulator, new SilentLogger());
    server = createServer((req, res) => {
      if (!route(req, res)) res.writeHead(418).end();
    });
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve);
    });
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  after(() => server.close());

  const get = async (path: string) => {
    const reply = await fetch(`${url}${path}`);
    return { status: reply.status, text: await reply.text(), headers: reply.headers };
  };
  const post = async (body: string) => {
    const reply = await fetch(`${url}/simulator/pay/1`, { method: 'POST', body });
    return { status: reply.status, text: await reply.text() };
  };

  it('shows the amount and the buttons of a payment, escapes its texts and runs nothing', async () => {
    const { status, text, headers } = await get('/simulator/pay/1?from=mail');
    assert.equal(status, 200);
    assert.match(text, /¥99\.05 for order 7, by &#60;i&#62;pay&#60;\/i&#62;: OPEN/);
    assert.equal(text.match(/<button /g)?.length, 3);
    assert.match(headers.get('content-security-policy') ?? '', /default-src 'none'.*form-action 'self'/);
  });

  it('takes its own paths only', async () => {
    assert.equal((await get('/simulator/pay/2')).status, 404);
    for (const path of ['/simulator/pay/', '/simulator/pay/x', '/simulator/pay/1/2', '/v1/orders']) {
      assert.equal((await get(path)).status, 418, path);
    }
  });

  it('rejects other methods, a form without a button, and a form that is too long', async () => {
    assert.equal((await fetch(`${url}/simulator/pay/1`, { method: 'DELETE' })).status, 405);
    for (const form of ['', 'button=steal', `${'x'.repeat(2_000)}&button=pay`]) {
      assert.equal((await post(form)).status, 400, form.slice(0, 20));
    }
    assert.deepEqual(simulator.pressed, []);
  });

  it('says so when the database cannot be reached', async () => {
    simulator.broken = true;
    assert.equal((await get('/simulator/pay/1')).status, 500);
    simulator.broken = false;
  });

  it('lets a declined payment be paid, and offers no button afterwards', async () => {
    assert.match((await post('button=decline')).text, /was declined.*<button/s);
    const { text } = await post('button=pay');
    assert.match(text, /: PAID/);
    assert.doesNotMatch(text, /<button/);
    assert.deepEqual(simulator.pressed, ['decline', 'pay']);
  });
});
