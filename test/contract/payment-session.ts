import assert from 'node:assert/strict';
import type { Product } from '../../internal/biz/catalog/product.js';
import type { PaymentSession } from '../../internal/biz/order/payment-session-state.js';
import type { Transaction } from '../../internal/biz/transaction.js';
import { eventually } from '../support/wait.js';
import { freshId, insertProduct, newOrder, type OpenBackend, times, useBackend } from './backend.js';

export function paymentSessionRepoContract(name: string, open: OpenBackend): void {
  describe(`PaymentSessionRepo ${name}`, () => {
    const backend = useBackend(open);
    let plan: Product;
    before(async () => {
      plan = await insertProduct(backend.it.products);
    });

    const run = <T>(work: (tx: Transaction) => Promise<T>) => backend.it.transactions.run(work);
    const newSession = async (payTimeoutMs = 60_000) => {
      const order = newOrder(plan, { payTimeoutMs });
      await run((tx) => backend.it.orders.insert(tx, [order], 'user'));
      return { id: freshId(), orderId: order.id, provider: 'testpay', amountFen: 2n ** 60n };
    };
    const insert = async (lookUpAfterMs = 60_000, payTimeoutMs = 60_000): Promise<PaymentSession> => {
      const session = await newSession(payTimeoutMs);
      return (await run((tx) => backend.it.paymentSessions.insert(tx, session, lookUpAfterMs)))!;
    };
    const findOpen = ({ orderId, provider }: PaymentSession) =>
      run((tx) => backend.it.paymentSessions.findOpen(tx, orderId, provider));
    /** Takes what is due, in one call that other tests' sessions do not crowd out. */
    const claimAll = async (leaseMs = 60_000) => {
      const claimed = await backend.it.paymentSessions.claim(1_000, leaseMs);
      return new Map(claimed.map((s) => [s.id, s]));
    };
    const at = (url: string, ms: number) => ({ payUrl: url, expiresAt: new Date(Date.now() + ms) });

    it('opens a session until the pay deadline of its order', async () => {
      const session = await newSession();
      const stored = await run((tx) => backend.it.paymentSessions.insert(tx, session, 60_000));
      const { payDeadline } = (await backend.it.orders.find(session.orderId, undefined))!;
      const none = { status: 'OPEN', payUrl: undefined, expired: false, lookUps: 0, closing: false };
      assert.deepEqual(stored, { ...session, ...none, expiresAt: payDeadline });
      assert.deepEqual(await findOpen(stored!), stored);
      assert.equal(await findOpen({ ...stored!, provider: 'otherpay' }), undefined);
    });

    it('lets the open sessions of an order be closed at once, whatever look-up is under way', async () => {
      const [session, other] = [await insert(0), await insert()];
      const claimed = (await claimAll()).get(session.id)!;
      const expired = await insert(60_000, 1_000);
      await backend.it.paymentSessions.setStarted(expired.id, at('https://e', -1_000));
      await run((tx) => backend.it.paymentSessions.requestClose(tx, [session.orderId, expired.orderId]));
      await backend.it.paymentSessions.lookUpAgain(claimed, 60_000);
      assert.equal(await findOpen(session), undefined);
      const due = await claimAll();
      assert.deepEqual([due.get(session.id)?.closing, due.has(other.id), due.has(expired.id)], [true, false, false]);
      assert.equal((await findOpen(other))?.closing, false);
      await backend.it.paymentSessions.end(session, 'CLOSED');
      await run((tx) => backend.it.paymentSessions.requestClose(tx, [session.orderId]));
      assert.equal((await claimAll()).has(session.id), false);
    });

    it('opens none for an order whose pay deadline has passed', async () => {
      const session = await newSession(0);
      assert.equal(await run((tx) => backend.it.paymentSessions.insert(tx, session, 60_000)), undefined);
    });

    it('keeps the first pay URL, and an expiry before the deadline', async () => {
      const session = await insert();
      const early = at('https://a', 30_000);
      const started = await backend.it.paymentSessions.setStarted(session.id, early);
      assert.deepEqual(started, { ...session, ...early });
      assert.deepEqual(await backend.it.paymentSessions.setStarted(session.id, at('https://b', 1)), started);
      const late = await insert();
      const { expiresAt } = await backend.it.paymentSessions.setStarted(late.id, at('https://c', 3_600_000));
      assert.deepEqual(expiresAt, late.expiresAt);
    });

    it('finds no session that has expired or has ended', async () => {
      const [expired, ended] = [await insert(), await insert()];
      await backend.it.paymentSessions.setStarted(expired.id, at('https://a', -1));
      // Only by its own order and provider.
      await backend.it.paymentSessions.end({ ...ended, orderId: expired.orderId }, 'PAID');
      assert.equal((await findOpen(ended))?.id, ended.id);
      await backend.it.paymentSessions.end(ended, 'PAID');
      await backend.it.paymentSessions.end(ended, 'CLOSED');
      assert.equal(await findOpen(expired), undefined);
      assert.equal(await findOpen(ended), undefined);
    });

    it('gives each session that is due to one of twenty claims at once, and no other', async () => {
      await claimAll();
      const due = await Promise.all(times(10, () => insert(0)));
      const later = await insert();
      const claimed = (await Promise.all(times(20, () => backend.it.paymentSessions.claim(2, 60_000)))).flat();
      assert.deepEqual(new Set(claimed.map((s) => s.id)), new Set(due.map((s) => s.id)));
      assert.equal(claimed.length, 10);
      assert.ok(claimed.every((s) => s.lookUps === 1));
      assert.ok(!(await claimAll()).has(later.id));
    });

    it('gives a session again after its lease, or when it is to be looked up again, but not once it has ended', async () => {
      const [lapsed, waiting, again, ended] = [await insert(0), await insert(0), await insert(0), await insert(0)];
      const claimed = await claimAll(0);
      await backend.it.paymentSessions.lookUpAgain(claimed.get(waiting.id)!, 30_000);
      await backend.it.paymentSessions.lookUpAgain(claimed.get(again.id)!, 0);
      await backend.it.paymentSessions.end(ended, 'CLOSED');
      const second = await claimAll();
      const given = [lapsed, waiting, again, ended].map((s) => second.get(s.id)?.lookUps);
      assert.deepEqual(given, [2, undefined, 2, undefined]);
      // One that comes back after its lease does not disturb the next look-up.
      await backend.it.paymentSessions.lookUpAgain(claimed.get(lapsed.id)!, 0);
      assert.ok(!(await claimAll()).has(lapsed.id));
    });

    it('looks a session up about the time that it expires, however long the wait', async () => {
      const session = await insert(0, 5_500);
      const claimed = await claimAll();
      await backend.it.paymentSessions.lookUpAgain(claimed.get(session.id)!, 3_600_000);
      await eventually('it is due', async () => (await claimAll()).has(session.id));
    });
  });
}
