import assert from 'node:assert/strict';
import type { Product } from '../../internal/biz/catalog/product.js';
import type { NewRefund, Refund } from '../../internal/biz/order/refund-state.js';
import type { Transaction } from '../../internal/biz/transaction.js';
import {
  freshId,
  freshUser,
  insertProduct,
  insertSku,
  newGoodsOrder,
  newOrder,
  type OpenBackend,
  times,
  useBackend,
} from './backend.js';

const PAGE = { offset: 0, limit: 10 };

export function refundRepoContract(name: string, open: OpenBackend): void {
  describe(`RefundRepo ${name}`, () => {
    const backend = useBackend(open);
    let plan: Product;
    before(async () => {
      plan = await insertProduct(backend.it.products);
    });

    const run = <T>(work: (tx: Transaction) => Promise<T>) => backend.it.transactions.run(work);
    const insertPayment = async (orderId: bigint) => {
      const id = freshId();
      const payment = {
        id,
        orderId,
        provider: 'testpay',
        eventId: `evt-${id}`,
        amountFen: 7n,
        outcome: 'APPLIED' as const,
      };
      await run((tx) => backend.it.payments.insert(tx, payment));
      return payment;
    };
    const newRefund = async (changes: Partial<NewRefund> = {}): Promise<NewRefund> => {
      const order = newOrder(plan);
      await run((tx) => backend.it.orders.insert(tx, [order], 'user'));
      return {
        ...{ id: freshId(), orderId: order.id, userId: order.userId, kind: 'WHOLE', status: 'APPROVED' },
        ...{ amountFen: 2n ** 60n, reason: '不要了', paymentId: undefined, orderStatus: 'PAID', requestedBy: 'user' },
        ...changes,
      };
    };
    const insertGoodsOrder = async (quantities: readonly number[]) => {
      const skus = await Promise.all(quantities.map(() => insertSku(backend.it, 0n)));
      const order = newGoodsOrder(skus.map((sku, i) => [sku, quantities[i] ?? 1]));
      await run((tx) => backend.it.orders.insertGoods(tx, [order], 'user'));
      return { order, skuIds: skus.map((sku) => sku.id) };
    };
    const insert = async (changes: Partial<NewRefund> = {}): Promise<Refund> => {
      const refund = await newRefund(changes);
      await run((tx) => backend.it.refunds.insert(tx, refund));
      return get(refund.id);
    };
    const get = async (id: bigint) => (await backend.it.refunds.find(id, undefined))!;
    const move = (refund: Refund, to: Refund['status']) =>
      run((tx) => backend.it.refunds.setStatus(tx, refund, { to }));
    /** Claims until nothing is due. */
    const claimAll = async (leaseMs = 60_000) => {
      const claims = await backend.it.refunds.claim(1_000, leaseMs);
      return new Map(claims.map((c) => [c.refund.id, c]));
    };
    beforeEach(() => claimAll());

    it('stores a refund as it was given, and shows it to its buyer alone', async () => {
      const given = await newRefund();
      await run((tx) => backend.it.refunds.insert(tx, given));
      const { createdAt, ...stored } = await get(given.id);
      assert.ok(createdAt instanceof Date);
      assert.deepEqual(stored, {
        ...given,
        decision: '',
        attempts: 0,
        lastError: '',
        doneAt: undefined,
        provider: undefined,
        lines: [],
        requestId: undefined,
        requestFingerprint: undefined,
        returnedAt: undefined,
        restocked: false,
      });
      assert.equal((await backend.it.refunds.find(given.id, given.userId))?.id, given.id);
      assert.equal(await backend.it.refunds.find(given.id, freshUser()), undefined);
    });

    it('keeps one refund for a payment, and one of a whole order unless it was refused', async () => {
      const first = await newRefund();
      const payment = await insertPayment(first.orderId);
      await run((tx) => backend.it.refunds.insert(tx, { ...first, paymentId: payment.id }));
      assert.equal(await run((tx) => backend.it.refunds.findByPayment(tx, payment.id)), undefined);
      const ofPayment = await insert({ ...first, id: freshId(), kind: 'PAYMENT', paymentId: payment.id });
      assert.equal((await run((tx) => backend.it.refunds.findByPayment(tx, payment.id)))?.id, ofPayment.id);
      await assert.rejects(insert({ ...first, id: freshId(), kind: 'PAYMENT', paymentId: payment.id }));
      await assert.rejects(run((tx) => backend.it.refunds.insert(tx, { ...first, id: freshId() })));
      await assert.rejects(
        run((tx) => backend.it.refunds.insert(tx, { ...first, id: freshId(), paymentId: freshId() })),
      );
      const refused = await insert({ status: 'REQUESTED' });
      await move(refused, 'REFUSED');
      const again = await insert({ orderId: refused.orderId });
      assert.deepEqual(
        (await run((tx) => backend.it.refunds.listOfOrder(tx, refused.orderId))).map((r) => [r.id, r.status]),
        [
          [refused.id, 'REFUSED'],
          [again.id, 'APPROVED'],
        ],
      );
    });

    it('refunds the units of a line once, and lets those of a refused refund be refunded again', async () => {
      const { order, skuIds } = await insertGoodsOrder([3, 1]);
      const of = (...quantities: readonly number[]) => {
        const lines = quantities.flatMap((quantity, i) =>
          quantity === 0 ? [] : [{ skuId: skuIds[i]!, quantity, amountFen: 2n ** 53n + 1n }],
        );
        return insert({ orderId: order.id, userId: order.userId, kind: 'LINES', status: 'REQUESTED', lines });
      };
      const first = await of(2, 1);
      assert.deepEqual(first.lines, [
        { skuId: skuIds[0], quantity: 2, amountFen: 2n ** 53n + 1n },
        { skuId: skuIds[1], quantity: 1, amountFen: 2n ** 53n + 1n },
      ]);
      await assert.rejects(of(2));
      await assert.rejects(of(0, 1));
      assert.equal((await move(first, 'REFUSED')).status, 'REFUSED');
      await of(3, 1);
      const unknown = [{ skuId: freshId(), quantity: 1, amountFen: 1n }];
      await assert.rejects(insert({ orderId: order.id, userId: order.userId, kind: 'LINES', lines: unknown }));
    });

    it('stores one refund for each request id of an order', async () => {
      const first = await insert({ kind: 'PAYMENT', requestId: 'once', requestFingerprint: 'f' });
      assert.deepEqual([first.requestId, first.requestFingerprint], ['once', 'f']);
      await assert.rejects(insert({ orderId: first.orderId, requestId: 'once' }));
      await insert({ requestId: 'once' });
    });

    it('remembers when the units of a refund came back, and whether they are on sale again', async () => {
      const refund = await insert();
      const returned = await run((tx) => backend.it.refunds.setReturned(tx, refund, true));
      assert.ok(returned.returnedAt instanceof Date);
      assert.equal((await get(refund.id)).restocked, true);
    });

    it('gives each approved refund to one of twenty claims at once, with its payment', async () => {
      const all = await Promise.all(times(10, () => insert()));
      const paid = await newRefund();
      const payment = await insertPayment(paid.orderId);
      await run((tx) => backend.it.refunds.insert(tx, { ...paid, paymentId: payment.id }));
      const waiting = await insert({ status: 'REQUESTED' });
      const claims = (await Promise.all(times(20, () => backend.it.refunds.claim(2, 60_000)))).flat();
      const ids = claims.map((c) => c.refund.id);
      assert.deepEqual(new Set(ids), new Set([...all.map((r) => r.id), paid.id]));
      assert.equal(ids.length, 11);
      assert.ok(!ids.includes(waiting.id));
      const withPayment = claims.find((c) => c.refund.id === paid.id);
      assert.equal(withPayment?.refund.provider, 'testpay');
      assert.deepEqual(withPayment?.payment, { provider: 'testpay', eventId: payment.eventId });
      assert.deepEqual(new Set(claims.map((c) => c.refund.attempts)), new Set([1]));
    });

    it('gives a refund again when the lease has ended, and after a failure when its wait has', async () => {
      const [lapsed, failed, later] = [await insert(), await insert(), await insert()];
      const claims = await claimAll(0);
      for (const { id } of [lapsed, failed, later]) assert.ok(claims.has(id));
      await backend.it.refunds.recordFailure(claims.get(failed.id)!.refund, 'a \0 reason', 0);
      await backend.it.refunds.recordFailure(claims.get(later.id)!.refund, 'later', 60_000);
      const again = await claimAll();
      assert.equal(again.get(lapsed.id)?.refund.attempts, 2);
      assert.match(again.get(failed.id)?.refund.lastError ?? '', /^a . reason$|^a \0 reason$/);
      assert.ok(!again.has(later.id));
      // A worker that comes back after its lease changes nothing of the next one's.
      await backend.it.refunds.recordFailure(claims.get(lapsed.id)!.refund, 'late', 0);
      assert.equal((await get(lapsed.id)).lastError, '');
    });

    it('is claimed no more once it is done, and with all its attempts when it is started again', async () => {
      const [done, failed] = [await insert(), await insert()];
      await claimAll(0);
      assert.ok((await move(done, 'DONE')).doneAt instanceof Date);
      await move(failed, 'FAILED');
      assert.deepEqual(
        [...(await claimAll(0)).keys()].filter((id) => id === done.id || id === failed.id),
        [],
      );
      await move(failed, 'APPROVED');
      assert.equal((await claimAll()).get(failed.id)?.refund.attempts, 1);
    });

    it('lists by status, user and order, newest first', async () => {
      const userId = freshUser();
      const [older, newer] = [await insert({ userId }), await insert({ userId, status: 'REQUESTED' })];
      const idsOf = async (filter: Parameters<typeof backend.it.refunds.list>[0]) => {
        const { items, total } = await backend.it.refunds.list(filter, PAGE);
        assert.equal(total, BigInt(items.length));
        return items.map((r) => r.id);
      };
      assert.deepEqual(await idsOf({ userId }), [newer.id, older.id]);
      assert.deepEqual(await idsOf({ userId, status: 'REQUESTED' }), [newer.id]);
      assert.deepEqual(await idsOf({ orderId: older.orderId }), [older.id]);
    });
  });
}
