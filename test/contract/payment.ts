import assert from 'node:assert/strict';
import type { Product } from '../../internal/biz/catalog/product.js';
import type { Payment } from '../../internal/biz/order/payment.js';
import type { Transaction } from '../../internal/biz/transaction.js';
import { freshId, insertProduct, newOrder, type OpenBackend, times, useBackend } from './backend.js';

export function paymentRepoContract(name: string, open: OpenBackend): void {
  describe(`PaymentRepo ${name}`, () => {
    const backend = useBackend(open);
    let plan: Product;
    before(async () => {
      plan = await insertProduct(backend.it.products);
    });

    const run = <T>(work: (tx: Transaction) => Promise<T>) => backend.it.transactions.run(work);
    const newPayment = async (changes: Partial<Payment> = {}): Promise<Payment> => {
      const order = newOrder(plan);
      await run((tx) => backend.it.orders.insert(tx, [order], 'user'));
      const id = freshId();
      return {
        id,
        orderId: order.id,
        provider: 'testpay',
        eventId: `evt-${id}`,
        amountFen: 7n,
        outcome: 'APPLIED',
        ...changes,
      };
    };

    it('finds a payment by provider and event id together', async () => {
      const payment = await newPayment({ amountFen: 2n ** 53n + 1n });
      assert.equal(await run((tx) => backend.it.payments.insert(tx, payment)), true);
      await run(async (tx) => {
        assert.deepEqual(await backend.it.payments.find(tx, 'testpay', payment.eventId), payment);
        assert.equal(await backend.it.payments.find(tx, 'otherpay', payment.eventId), undefined);
        assert.equal(await backend.it.payments.find(tx, 'testpay', 'another'), undefined);
      });
    });

    it('stores an event once, even if it names another order the second time', async () => {
      const payment = await newPayment();
      const repeated = await newPayment({ eventId: payment.eventId });
      assert.equal(await run((tx) => backend.it.payments.insert(tx, payment)), true);
      assert.equal(await run((tx) => backend.it.payments.insert(tx, repeated)), false);
      assert.deepEqual(await run((tx) => backend.it.payments.find(tx, 'testpay', payment.eventId)), payment);
      assert.equal(await run((tx) => backend.it.payments.insert(tx, { ...repeated, provider: 'otherpay' })), true);
    });

    it('stores one of twenty concurrent payments with the same event and shows it to the others', async () => {
      const eventId = `race-${freshId()}`;
      const raced = await Promise.all(times(20, () => newPayment({ eventId })));
      const seen = await Promise.all(
        raced.map((payment) =>
          run(async (tx) => {
            const inserted = await backend.it.payments.insert(tx, payment);
            return { inserted, found: await backend.it.payments.find(tx, 'testpay', eventId) };
          }),
        ),
      );
      const winner = raced[seen.findIndex((s) => s.inserted)];
      assert.equal(seen.filter((s) => s.inserted).length, 1);
      for (const { found } of seen) assert.deepEqual(found, winner);
    });

    it('finds the payment that paid an order, not a refunded one', async () => {
      const refused = await newPayment({ outcome: 'REFUNDED' });
      const applied = { ...refused, id: freshId(), eventId: `evt-${freshId()}`, outcome: 'APPLIED' as const };
      await run(async (tx) => {
        await backend.it.payments.insert(tx, refused);
        assert.equal(await backend.it.payments.findApplied(tx, refused.orderId), undefined);
        await backend.it.payments.insert(tx, applied);
        assert.deepEqual(await backend.it.payments.findApplied(tx, refused.orderId), applied);
      });
    });
  });
}
