import assert from 'node:assert/strict';
import type { PaymentOrder, PaymentProvider } from '../../internal/biz/order/payment-provider.js';
import { SimulatedPayPage } from '../../internal/data/payment/pay-page.js';
import { SimulatedPaymentProvider, type SimulatorOptions } from '../../internal/data/payment/simulator.js';
import type { Postgres } from '../../internal/data/postgres/postgres.js';
import { SilentLogger } from '../../internal/kratos/log/logger.js';
import { openPostgres } from '../support/instances.js';
import { MemoryPaymentProvider } from '../support/memory/payment-provider.js';
import { useServers } from '../support/servers.js';
import { freshId, times } from './backend.js';

interface ProviderUnderTest {
  readonly provider: PaymentProvider;
  /** What the buyer does. */
  readonly end: (sessionId: bigint, state: 'paid' | 'closed') => Promise<void>;
}

function paymentProviderContract(name: string, open: () => ProviderUnderTest): void {
  describe(`PaymentProvider ${name}`, () => {
    let tested: ProviderUnderTest;
    before(() => {
      tested = open();
    });

    const newOrder = (expiresInMs = 60_000): PaymentOrder => {
      const expiresAt = new Date(Date.now() + expiresInMs);
      return { sessionId: freshId(), orderId: freshId(), amountFen: 2n ** 53n + 1n, expiresAt };
    };

    it('starts one payment for a key, however often and by however many it is asked', async () => {
      const order = newOrder();
      const started = await Promise.all(times(10, () => tested.provider.start(order)));
      for (const one of started) assert.deepEqual(one, started[0]);
      assert.ok(started[0]!.expiresAt <= order.expiresAt);
      assert.deepEqual(await tested.provider.lookUp(order.sessionId), { kind: 'open' });
      const other = await tested.provider.start(newOrder());
      assert.notEqual(other.payUrl, started[0]!.payUrl);
    });

    it('tells what became of a payment', async () => {
      const [paid, closed, expired] = [newOrder(), newOrder(), newOrder(-1)];
      for (const order of [paid, closed, expired]) await tested.provider.start(order);
      await tested.end(paid.sessionId, 'paid');
      await tested.end(closed.sessionId, 'closed');
      const found = await tested.provider.lookUp(paid.sessionId);
      assert.equal(found.kind, 'paid');
      assert.equal(found.amountFen, paid.amountFen);
      assert.notEqual(found.eventId, '');
      assert.deepEqual(await tested.provider.lookUp(paid.sessionId), found);
      for (const { sessionId } of [closed, expired]) {
        assert.deepEqual(await tested.provider.lookUp(sessionId), { kind: 'closed' });
      }
      assert.deepEqual(await tested.provider.lookUp(freshId()), { kind: 'unknown' });
    });

    it('closes a payment for good, unless it is paid', async () => {
      const [open, paid] = [newOrder(), newOrder()];
      for (const order of [open, paid]) await tested.provider.start(order);
      await tested.end(paid.sessionId, 'paid');
      for (let i = 0; i < 2; i++) {
        assert.deepEqual(await tested.provider.close(open.sessionId), { kind: 'closed' });
        assert.equal((await tested.provider.close(paid.sessionId)).kind, 'paid');
      }
      assert.deepEqual(await tested.provider.lookUp(open.sessionId), { kind: 'closed' });
      assert.deepEqual(await tested.provider.close(freshId()), { kind: 'unknown' });
    });

    it('pays back once for a key', async () => {
      const order = { refundId: freshId(), orderId: freshId(), eventId: 'e', amountFen: 5n };
      const paid = await Promise.all(times(5, () => tested.provider.refund(order)));
      for (const outcome of paid) assert.deepEqual(outcome, { kind: 'paid' });
    });
  });
}

describe('payment providers', () => {
  paymentProviderContract('in memory', () => {
    const provider = new MemoryPaymentProvider('testpay');
    return {
      provider,
      end: async (sessionId, state) => {
        provider.end(sessionId, state);
      },
    };
  });

  describe('of the simulator', () => {
    const servers = useServers('postgres');
    let db: Postgres;
    before(() => {
      db = openPostgres(servers.postgresUrl, 'kaimai_product');
    });
    after(() => db?.close());

    const works: SimulatorOptions = {
      ...{ baseUrl: 'http://127.0.0.1:1', secret: '', delayMs: 0 },
      ...{ failureRate: 0, lostCallbackRate: 1, repeatedCallbackRate: 0 },
    };

    paymentProviderContract('of the simulator', () => {
      const page = new SimulatedPayPage(db, works, new SilentLogger());
      return {
        provider: new SimulatedPaymentProvider(db, 'simulator', works),
        end: async (sessionId, state) => {
          const after = await page.press(sessionId, state === 'paid' ? 'pay' : 'close');
          assert.equal(after?.status, state.toUpperCase());
        },
      };
    });

    it('fails on purpose, as often as it is told to', async () => {
      const fails = new SimulatedPaymentProvider(db, 'simulator', { ...works, failureRate: 1 });
      await assert.rejects(fails.lookUp(1n), /on purpose/);
    });

    it('knows nothing of the payments of another provider', async () => {
      const [one, other] = ['one', 'other'].map((name) => new SimulatedPaymentProvider(db, name, works));
      const sessionId = freshId();
      await one!.start({ sessionId, orderId: 1n, amountFen: 1n, expiresAt: new Date(Date.now() + 60_000) });
      assert.deepEqual(await other!.lookUp(sessionId), { kind: 'unknown' });
    });

    it('pays nothing that is closed, and closes nothing that is paid', async () => {
      const page = new SimulatedPayPage(db, works, new SilentLogger());
      const provider = new SimulatedPaymentProvider(db, 'simulator', works);
      for (const [first, second, status] of [
        ['pay', 'close', 'PAID'],
        ['close', 'pay', 'CLOSED'],
        ['decline', 'pay', 'PAID'],
      ] as const) {
        const sessionId = freshId();
        await provider.start({ sessionId, orderId: 1n, amountFen: 1n, expiresAt: new Date(Date.now() + 60_000) });
        await page.press(sessionId, first);
        assert.equal((await page.press(sessionId, second))?.status, status);
      }
      assert.equal(await page.press(freshId(), 'pay'), undefined);
    });
  });
});
