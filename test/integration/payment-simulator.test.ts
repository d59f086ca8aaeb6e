import assert from 'node:assert/strict';
import { SimulatedPaymentProvider } from '../../internal/data/payment/simulator.js';
import type { Postgres } from '../../internal/data/postgres/postgres.js';
import { openPostgres } from '../support/instances.js';
import { useServers } from '../support/servers.js';

describe('The simulated payment provider', () => {
  const servers = useServers('postgres');
  let db: Postgres;
  before(() => {
    db = openPostgres(servers.postgresUrl, 'kaimai_product');
  });
  after(() => db.close());

  it('pays a refund back once, and answers a repeated call the same', async () => {
    const rates = { delayMs: 0, failureRate: 0, lostCallbackRate: 0, repeatedCallbackRate: 0 };
    const provider = new SimulatedPaymentProvider(db, 'sim', { baseUrl: 'http://127.0.0.1', secret: '', ...rates });
    const order = { refundId: 1n, orderId: 2n, eventId: 'e', amountFen: 3n };
    for (let i = 0; i < 2; i++) assert.deepEqual(await provider.refund(order), { kind: 'paid' });
    for (const other of [{ amountFen: 4n }, { eventId: 'f' }]) {
      assert.equal((await provider.refund({ ...order, ...other })).kind, 'failed');
    }
    const { rows } = await db.pool.query('SELECT amount, event_id, calls FROM simulated_refunds WHERE refund_id = 1');
    assert.deepEqual(rows, [{ amount: 3n, event_id: 'e', calls: 4 }]);
  });
});
