import assert from 'node:assert/strict';
import type { Sku } from '../../internal/biz/catalog/catalog.js';
import type { Move, NewGoodsOrder, Order, OrderStatus } from '../../internal/biz/order/order-state.js';
import type { Transaction } from '../../internal/biz/transaction.js';
import { freshId, freshUser, insertSku, type OpenBackend, times, useBackend } from './backend.js';

const RECEIVER = { name: '张三', phone: '13800000000', region: '310115', address: '"1" Road\\' };
const MOVES: Readonly<Record<'PAID' | 'SHIPPED' | 'COMPLETED' | 'CANCELLED', Move>> = {
  PAID: { to: 'PAID', actor: 'payment', reason: '' },
  SHIPPED: { to: 'SHIPPED', actor: 'admin', reason: '', confirmAfterMs: 60_000 },
  COMPLETED: { to: 'COMPLETED', actor: 'user', reason: '' },
  CANCELLED: { to: 'CANCELLED', actor: 'user', reason: '' },
};

export function shipmentRepoContract(name: string, open: OpenBackend): void {
  describe(`ShipmentRepo, and OrderRepo of goods on their way, ${name}`, () => {
    const backend = useBackend(open);
    let sku: Sku;
    before(async () => {
      sku = await insertSku(backend.it, 0n);
    });

    const run = <T>(work: (tx: Transaction) => Promise<T>) => backend.it.transactions.run(work);
    const find = async (id: bigint, userId?: string) => backend.it.orders.find(id, userId);
    const move = async (order: Order, change: Move) =>
      (await run((tx) => backend.it.orders.compareAndSet(tx, order, change))) ??
      assert.fail(`${order.id} was not moved`);

    /** An order of goods that has gone through these moves. */
    const insert = async (moves: readonly Move[] = [], changes: Partial<NewGoodsOrder> = {}): Promise<Order> => {
      const line = { skuId: sku.id, spuId: sku.spuId, sellerId: undefined, spuName: 's', skuName: 'k', skuImage: '' };
      const given: NewGoodsOrder = {
        ...{ id: freshId(), userId: freshUser(), orderType: 'GOODS', source: 'NORMAL', status: 'PENDING' },
        ...{ productId: undefined, productName: 'k', quantity: 1, priceFen: 5n, amountFen: 5n, reqId: freshId() },
        ...{ freightFen: 0n, promotionFen: 0n, receiver: RECEIVER },
        items: [{ ...line, specs: {}, priceFen: 5n, quantity: 1, promotionFen: 0n, goodsType: '', contents: [] }],
        ...changes,
      };
      await run((tx) => backend.it.orders.insertGoods(tx, [given], 'user'));
      let order = (await find(given.id))!;
      for (const change of moves) order = await move(order, change);
      return order;
    };
    const inStatus = (status: OrderStatus) => {
      switch (status) {
        case 'PENDING':
          return insert();
        case 'PAID':
          return insert([MOVES.PAID]);
        case 'SHIPPED':
          return insert([MOVES.PAID, MOVES.SHIPPED]);
        case 'COMPLETED':
          return insert([MOVES.PAID, MOVES.SHIPPED, MOVES.COMPLETED]);
        case 'CANCELLED':
          return insert([MOVES.CANCELLED]);
        case 'REFUNDING':
          return insert([MOVES.PAID, { to: 'REFUNDING', actor: 'user', reason: '' }]);
        default:
          return status satisfies never;
      }
    };

    it('stores one shipment of an order', async () => {
      const { shipments } = backend.it;
      const { id: orderId } = await inStatus('SHIPPED');
      assert.equal(await shipments.find(orderId), undefined);
      const shipment = { orderId, carrier: '顺丰', trackingNumbers: ['SF"1', 'SF\\2', 'SF,3'] };
      await run(async (tx) => {
        await shipments.insert(tx, shipment);
        assert.equal((await shipments.find(orderId, tx))?.carrier, '顺丰');
      });
      const { shippedAt, ...stored } = (await shipments.find(orderId))!;
      assert.deepEqual([stored, shippedAt instanceof Date], [shipment, true]);
      await assert.rejects(run((tx) => shipments.insert(tx, { ...shipment, carrier: 'another' })));
    });

    it('sets the time of shipping and the confirm deadline once, and both survive a refused refund', async () => {
      const shipped = await inStatus('SHIPPED');
      assert.ok(shipped.shippedAt);
      assert.equal(shipped.confirmDeadline?.getTime(), shipped.shippedAt.getTime() + 60_000);
      const refunding = await move(shipped, { to: 'REFUNDING', actor: 'user', reason: 'broken' });
      const back = await move(refunding, { to: 'SHIPPED', actor: 'admin', reason: '' });
      assert.deepEqual([back.shippedAt, back.confirmDeadline], [shipped.shippedAt, shipped.confirmDeadline]);
      const done = await move(back, MOVES.COMPLETED);
      assert.ok(done.completedAt && done.completedAt >= shipped.shippedAt);
      const again = await move(await move(done, { to: 'REFUNDING', actor: 'user', reason: '' }), MOVES.COMPLETED);
      assert.deepEqual(again.completedAt, done.completedAt);
      assert.deepEqual(await find(done.id), again);
    });

    it('never ships an order without a receiver or without a confirm deadline', async () => {
      const nameless = await insert([MOVES.PAID], { receiver: undefined });
      await assert.rejects(move(nameless, MOVES.SHIPPED));
      await assert.rejects(move(await inStatus('PAID'), { to: 'SHIPPED', actor: 'admin', reason: '' }));
    });

    it('replaces the receiver of an order and its freight, which changes what it costs', async () => {
      const { orders, transactions } = backend.it;
      const another = { ...RECEIVER, name: 'Li Si' };
      const order = await inStatus('PENDING');
      const change = { receiver: another, freightFen: order.freightFen + 700n };
      const changed = await transactions.run((tx) => orders.setReceiver(tx, order.id, change));
      const amounts = { freightFen: change.freightFen, amountFen: order.amountFen + 700n };
      assert.deepEqual(changed, { ...order, receiver: another, ...amounts, version: order.version + 1n });
      assert.deepEqual(await find(order.id), changed);
      await assert.rejects(transactions.run((tx) => orders.setReceiver(tx, freshId(), change)));
    });

    it('hides a finished order from its owner, and shows it to all who name no user', async () => {
      const { orders } = backend.it;
      for (const status of ['CANCELLED', 'COMPLETED'] as const) {
        const order = await inStatus(status);
        assert.equal(await orders.hide(order.id, freshUser()), false);
        assert.equal(await orders.hide(order.id, order.userId), true);
        assert.equal(await find(order.id, order.userId), undefined);
        assert.deepEqual(await find(order.id), { ...order, version: order.version + 1n });
        const page = await orders.list(order.userId, {}, { offset: 0, limit: 10 });
        assert.deepEqual(page, { items: [], total: 0n });
        await run(async (tx) => {
          assert.equal(await orders.lock(tx, order.id, order.userId), undefined);
          assert.equal((await orders.lock(tx, order.id, undefined))?.id, order.id);
        });
        // Hiding it again changes nothing.
        assert.equal(await orders.hide(order.id, order.userId), true);
        assert.equal((await find(order.id))?.version, order.version + 1n);
      }
      for (const status of ['PENDING', 'PAID', 'SHIPPED', 'REFUNDING'] as const) {
        const order = await inStatus(status);
        assert.equal(await orders.hide(order.id, order.userId), false, status);
        assert.deepEqual(await find(order.id, order.userId), order);
      }
    });

    describe('lockUnconfirmed', () => {
      const shipped = (agoMs: number) => insert([MOVES.PAID, { ...MOVES.SHIPPED, confirmAfterMs: -agoMs }]);
      // Confirms the overdue orders of other tests.
      beforeEach(() =>
        run(async (tx) => {
          for (const o of await backend.it.orders.lockUnconfirmed(tx, 1_000, []))
            await backend.it.orders.compareAndSet(tx, o, MOVES.COMPLETED);
        }),
      );

      it('locks SHIPPED orders past their deadline, the longest overdue first, without the excepted ones', async () => {
        const { orders } = backend.it;
        const [b, a, c] = [await shipped(20_000), await shipped(30_000), await shipped(10_000)];
        await inStatus('SHIPPED');
        await move(await shipped(90_000), MOVES.COMPLETED);
        await run(async (tx) => {
          assert.deepEqual(await orders.lockUnconfirmed(tx, 2, []), [a, b]);
          assert.deepEqual(await orders.lockUnconfirmed(tx, 9, [b.id]), [a, c]);
          await run(async (other) => assert.deepEqual(await orders.lockUnconfirmed(other, 9, []), []));
        });
      });

      it('gives each order to one of twenty concurrent transactions', async () => {
        const { orders } = backend.it;
        for (let i = 0; i < 8; i++) await shipped(1_000 + i);
        const taken = await Promise.all(
          times(20, () =>
            run(async (tx) => {
              const mine = await orders.lockUnconfirmed(tx, 3, []);
              for (const order of mine) assert.ok(await orders.compareAndSet(tx, order, MOVES.COMPLETED));
              return mine.map((o) => o.id);
            }),
          ),
        );
        const ids = taken.flat();
        assert.ok(ids.length > 0);
        assert.equal(new Set(ids).size, ids.length);
      });
    });
  });
}
