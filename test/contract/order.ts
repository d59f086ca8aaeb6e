import assert from 'node:assert/strict';
import type { Sku } from '../../internal/biz/catalog/catalog.js';
import type { Product } from '../../internal/biz/catalog/product.js';
import { formatUserId } from '../../internal/biz/identity.js';
import type { OrderItem } from '../../internal/biz/order/order-item.js';
import { type NewGoodsOrder, type Order, requestKey } from '../../internal/biz/order/order-state.js';
import type { Transaction } from '../../internal/biz/transaction.js';
import {
  freshId,
  freshUser,
  insertProduct,
  insertSku,
  latch,
  newOrder,
  type OpenBackend,
  times,
  useBackend,
} from './backend.js';

const PAID = { to: 'PAID', actor: 'payment', reason: 'p:1' } as const;
const SELLER = formatUserId('4711');
const CANCELLED = { to: 'CANCELLED', actor: 'user', reason: 'r' } as const;

export function orderRepoContract(name: string, open: OpenBackend): void {
  describe(`OrderRepo ${name}`, () => {
    const backend = useBackend(open);
    let plan: Product;
    before(async () => {
      plan = await insertProduct(backend.it.products);
    });

    const run = <T>(work: (tx: Transaction) => Promise<T>) => backend.it.transactions.run(work);
    const insert = async (changes: Parameters<typeof newOrder>[1] = {}): Promise<Order> => {
      const order = newOrder(plan, changes);
      assert.equal(await run((tx) => backend.it.orders.insert(tx, [order], 'user')), true);
      return (await backend.it.orders.find(order.id, undefined))!;
    };
    const get = async (id: bigint) => (await backend.it.orders.find(id, undefined))!;
    const kinds = async (id: bigint) =>
      (await backend.it.orders.listEvents(id)).map((e) => [e.from, e.to, e.actor, e.reason]);

    it('stores a given order at version 1 with its first event', async () => {
      const { payTimeoutMs, ...given } = newOrder(plan, {
        ...{ payTimeoutMs: 60_000, requestId: 'r-1', remark: '备注', amountFen: 2n ** 60n },
      });
      await run((tx) => backend.it.orders.insert(tx, [{ ...given, payTimeoutMs }], 'user'));
      const { createdAt, payDeadline, ...order } = await get(given.id);
      assert.deepEqual(order, {
        ...given,
        orderNo: `ORD${given.id}`,
        skuId: undefined,
        ...{ totalFen: given.amountFen, freightFen: 0n, promotionFen: 0n, items: [], receiver: undefined },
        ...{ refundedFen: 0n, keptQuantity: undefined },
        requestFingerprint: undefined,
        saleId: undefined,
        instanceId: undefined,
        closeReason: '',
        version: 1n,
        paidAt: undefined,
        ...{ completedAt: undefined, sellerId: undefined, shippedAt: undefined, confirmDeadline: undefined },
        content: undefined,
      });
      assert.equal(payDeadline?.getTime(), createdAt.getTime() + 60_000);
      assert.deepEqual(await kinds(given.id), [[undefined, 'PENDING', 'user', '']]);
    });

    const newGoods = (skus: readonly Sku[], changes: Partial<NewGoodsOrder> = {}): NewGoodsOrder => {
      const items = skus.map(
        (sku): OrderItem => ({
          ...{ skuId: sku.id, spuId: sku.spuId, sellerId: SELLER, spuName: '手机', skuName: sku.skuName, skuImage: '' },
          ...{ specs: { color: '"black"', size: 'L' }, priceFen: 2n ** 50n, quantity: 2, promotionFen: 3n },
          ...{
            goodsType: 'CARD',
            contents: [
              { contentId: 2n ** 60n, days: 30 },
              { contentId: 1n, days: undefined },
            ],
          },
        }),
      );
      return {
        ...newOrder(plan, { orderType: 'GOODS', productId: undefined, quantity: 2 * items.length }),
        ...{ priceFen: 2n ** 50n, amountFen: BigInt(items.length) * (2n ** 51n - 3n) + 7n, freightFen: 7n },
        ...{ promotionFen: BigInt(items.length) * 3n, receiver: undefined, items, ...changes },
      };
    };

    it('stores orders of goods with their lines, as rows and as a snapshot on the order', async () => {
      const { orders } = backend.it;
      const skus = [await insertSku(backend.it, 0n), await insertSku(backend.it, 0n)];
      const receiver = { name: '张三', phone: '13800000000', region: '310115', address: '"1" Road\\' };
      const one = newGoods(skus, { receiver, requestId: 'r', requestFingerprint: 'f'.repeat(64) });
      const two = newGoods(skus.slice(0, 1), { skuId: skus[0]!.id });
      assert.equal(await run((tx) => orders.insertGoods(tx, [one, two], 'user')), true);
      const stored = await get(one.id);
      assert.deepEqual(stored.items, one.items);
      const rows = one.items.map(({ goodsType: _, contents: _contents, ...row }) => row);
      assert.deepEqual(await backend.it.items(one.id), rows);
      assert.deepEqual([stored.totalFen, stored.freightFen, stored.promotionFen], [2n ** 52n, 7n, 6n]);
      assert.deepEqual([stored.receiver, stored.requestFingerprint], [receiver, 'f'.repeat(64)]);
      assert.deepEqual([(await get(two.id)).skuId, (await get(two.id)).receiver], [skus[0]!.id, undefined]);
      assert.deepEqual(await kinds(two.id), [[undefined, 'PENDING', 'user', '']]);
      const sameNumber = newGoods(skus.slice(0, 1), { skuId: skus[0]!.id, reqId: two.reqId });
      await assert.rejects(run((tx) => orders.insertGoods(tx, [sameNumber], 'seckill')));
    });

    it('rejects an order of goods whose request id the user has used before, and finds the used ids', async () => {
      const { orders } = backend.it;
      const sku = await insertSku(backend.it, 0n);
      const first = newGoods([sku], { requestId: 'same' });
      assert.equal(await run((tx) => orders.insertGoods(tx, [first], 'user')), true);
      const again = newGoods([sku], { requestId: 'same', userId: first.userId });
      assert.equal(await run((tx) => orders.insertGoods(tx, [again], 'user')), false);
      const { userId } = first;
      const asked = [
        { userId, requestId: 'same' },
        { userId, requestId: 'other' },
        { userId: freshUser(), requestId: 'same' },
      ];
      const found = await run((tx) => orders.findRequestIds(tx, [...asked, { userId, requestId: '' }]));
      assert.deepEqual(found, new Set([requestKey({ userId, requestId: 'same' })]));
    });

    it('stores a batch and sets the time of payment of its paid orders', async () => {
      const saleId = freshId();
      const batch = times(3, (i) =>
        newOrder(plan, { source: 'SECKILL', status: i === 0 ? 'PENDING' : 'PAID', saleId, instanceId: freshId() }),
      );
      assert.equal(await run((tx) => backend.it.orders.insert(tx, batch, 'seckill')), true);
      const stored = await Promise.all(batch.map((o) => get(o.id)));
      assert.deepEqual(
        stored.map((o) => [o.id, o.status, o.saleId, o.instanceId, o.paidAt !== undefined]),
        batch.map((o, i) => [o.id, i === 0 ? 'PENDING' : 'PAID', saleId, o.instanceId, i > 0]),
      );
      assert.deepEqual(await kinds(batch[2]!.id), [[undefined, 'PAID', 'seckill', '']]);
    });

    it('rejects a request id that the user has used before and accepts it from another user', async () => {
      const first = await insert({ requestId: 'again' });
      const second = newOrder(plan, { userId: first.userId, requestId: 'again' });
      assert.equal(await run((tx) => backend.it.orders.insert(tx, [second], 'user')), false);
      assert.equal(await backend.it.orders.find(second.id, undefined), undefined);
      assert.deepEqual(await kinds(second.id), []);
      assert.deepEqual(await backend.it.orders.findByRequest(first.userId, 'again'), first);
      await insert({ requestId: 'again' });
      assert.equal(await backend.it.orders.findByRequest(freshUser(), 'again'), undefined);
    });

    it('stores one of twenty concurrent orders with the same request id', async () => {
      const userId = freshUser();
      const raced = times(20, () => newOrder(plan, { userId, requestId: 'race' }));
      const won = await Promise.all(raced.map((o) => run((tx) => backend.it.orders.insert(tx, [o], 'user'))));
      assert.equal(won.filter(Boolean).length, 1);
      const { items } = await backend.it.orders.list(userId, {}, { offset: 0, limit: 100 });
      assert.deepEqual(
        items.map((o) => o.id),
        [raced[won.indexOf(true)]!.id],
      );
    });

    it('frees a request id when the transaction of its order is rolled back', async () => {
      const userId = freshUser();
      const [lost, kept] = [
        newOrder(plan, { userId, requestId: 'free' }),
        newOrder(plan, { userId, requestId: 'free' }),
      ];
      const inserted = latch();
      const undone = run(async (tx) => {
        await backend.it.orders.insert(tx, [lost], 'user');
        inserted.open();
        throw new Error('undone');
      });
      await inserted.opened;
      const [, second] = await Promise.allSettled([undone, run((tx) => backend.it.orders.insert(tx, [kept], 'user'))]);
      assert.deepEqual(second, { status: 'fulfilled', value: true });
      assert.equal((await backend.it.orders.findByRequest(userId, 'free'))?.id, kept.id);
    });

    it('never stores two orders of a product with one req_id', async () => {
      const order = await insert();
      const twin = newOrder(plan, { reqId: order.reqId });
      await assert.rejects(run((tx) => backend.it.orders.insert(tx, [twin], 'user')));
      assert.equal(await backend.it.orders.find(twin.id, undefined), undefined);
    });

    it('finds and locks an order for its owner, and for a caller that names no user', async () => {
      const { orders } = backend.it;
      const order = await insert();
      assert.deepEqual(await orders.find(order.id, order.userId), order);
      assert.equal(await orders.find(order.id, freshUser()), undefined);
      assert.equal(await orders.find(freshId(), undefined), undefined);
      await run(async (tx) => {
        assert.equal(await orders.lock(tx, order.id, freshUser()), undefined);
        assert.equal(await orders.lock(tx, freshId(), undefined), undefined);
        assert.deepEqual(await orders.lock(tx, order.id, order.userId), order);
        assert.deepEqual(await orders.lock(tx, order.id, undefined), order);
      });
    });

    it('finds those of several orders that there are', async () => {
      const { orders } = backend.it;
      const [a, b] = [await insert(), await insert()];
      const found = await orders.findAll([b.id, freshId(), a.id]);
      assert.deepEqual(new Map(found.map((o) => [o.id, o])), new Map([a, b].map((o) => [o.id, o])));
      assert.deepEqual(await orders.findAll([]), []);
    });

    it('finds orders that its transaction has not committed', async () => {
      const { orders } = backend.it;
      const order = newOrder(plan);
      await run(async (tx) => {
        await orders.insert(tx, [order], 'user');
        assert.deepEqual(
          (await orders.findAll([order.id], tx)).map((o) => [o.id, o.status, o.version]),
          [[order.id, 'PENDING', 1n]],
        );
        assert.deepEqual(await orders.findAll([order.id]), []);
      });
    });

    it('makes a second lock of an order wait and then shows it the changes of the first', async () => {
      const { orders } = backend.it;
      const order = await insert();
      const [locked, go] = [latch(), latch()];
      const log: string[] = [];
      const first = run(async (tx) => {
        const mine = (await orders.lock(tx, order.id, undefined))!;
        locked.open();
        await go.opened;
        await orders.compareAndSet(tx, mine, PAID);
        log.push('first is about to commit');
      });
      await locked.opened;
      const second = run(async (tx) => {
        const seen = await orders.lock(tx, order.id, undefined);
        log.push(`second sees ${seen?.status} at ${seen?.version}`);
      });
      go.open();
      await Promise.all([first, second]);
      assert.deepEqual(log, ['first is about to commit', 'second sees PAID at 2']);
    });

    it('moves an order to another status and records the event', async () => {
      const { orders } = backend.it;
      const order = await insert();
      const instanceId = freshId();
      const paid = (await run((tx) => orders.compareAndSet(tx, order, { ...PAID, instanceId })))!;
      assert.deepEqual([paid.status, paid.version, paid.instanceId, paid.closeReason], ['PAID', 2n, instanceId, '']);
      assert.ok(paid.paidAt);
      assert.deepEqual(await get(order.id), paid);
      const done = (await run((tx) =>
        orders.compareAndSet(tx, paid, { to: 'COMPLETED', actor: 'resource', reason: '' }),
      ))!;
      assert.deepEqual(
        [done.status, done.version, done.instanceId, done.paidAt],
        ['COMPLETED', 3n, instanceId, paid.paidAt],
      );
      assert.ok(done.completedAt && done.completedAt >= paid.paidAt);
      assert.deepEqual(await kinds(order.id), [
        [undefined, 'PENDING', 'user', ''],
        ['PENDING', 'PAID', 'payment', 'p:1'],
        ['PAID', 'COMPLETED', 'resource', ''],
      ]);
    });

    it('completes the paid instance orders of a batch, with an event each, and leaves the others', async () => {
      const { orders } = backend.it;
      const [a, b, refunding, pending] = [await insert(), await insert(), await insert(), await insert()];
      for (const order of [a, b, refunding]) await run((tx) => orders.compareAndSet(tx, order, PAID));
      const move = { to: 'REFUNDING', actor: 'user', reason: 'r' } as const;
      const left = await run(async (tx) =>
        orders.compareAndSet(tx, (await orders.lock(tx, refunding.id, undefined))!, move),
      );
      const complete = (ids: readonly bigint[]) =>
        run((tx) => orders.completeAll(tx, ids, { status: 'PAID', orderType: 'INSTANCE' }, 'resource'));
      assert.equal(await complete([b.id, refunding.id, a.id, pending.id, freshId()]), 2);
      for (const { id } of [a, b]) {
        const done = await get(id);
        assert.deepEqual([done?.status, done?.version, done?.closeReason], ['COMPLETED', 3n, '']);
        assert.ok(done?.completedAt && done.paidAt && done.completedAt >= done.paidAt);
        assert.deepEqual((await kinds(id)).at(-1), ['PAID', 'COMPLETED', 'resource', '']);
      }
      assert.deepEqual(await get(refunding.id), left);
      assert.equal((await get(pending.id))?.status, 'PENDING');
      assert.equal(await complete([a.id, b.id]), 0);
      assert.equal((await kinds(a.id)).length, 3);
    });

    it('truncates a reason to the length of its columns', async () => {
      const { orders } = backend.it;
      const order = await insert();
      const moved = await run((tx) => orders.compareAndSet(tx, order, { ...CANCELLED, reason: '长'.repeat(300) }));
      assert.equal(moved?.closeReason, '长'.repeat(64));
      assert.equal((await orders.listEvents(order.id)).at(-1)?.reason, '长'.repeat(255));
    });

    it('does not move an order whose status or version has changed', async () => {
      const { orders } = backend.it;
      const order = await insert();
      const paid = (await run((tx) => orders.compareAndSet(tx, order, PAID)))!;
      for (const stale of [
        order,
        { ...paid, version: 1n },
        { ...paid, status: 'PENDING' as const },
        { ...paid, id: freshId() },
      ]) {
        assert.equal(await run((tx) => orders.compareAndSet(tx, stale, CANCELLED)), undefined);
      }
      assert.deepEqual(await get(order.id), paid);
      assert.equal((await kinds(order.id)).length, 2);
    });

    it('applies one of twenty concurrent moves of an order', async () => {
      const { orders } = backend.it;
      const order = await insert();
      const moves = times(20, (i) => (i % 2 === 0 ? PAID : CANCELLED));
      const results = await Promise.all(moves.map((m) => run((tx) => orders.compareAndSet(tx, order, m))));
      const won = results.filter((r) => r !== undefined);
      assert.equal(won.length, 1);
      assert.deepEqual(await get(order.id), won[0]);
      assert.equal((await kinds(order.id)).length, 2);
    });

    it('undoes a move when its transaction is rolled back', async () => {
      const { orders } = backend.it;
      const order = await insert();
      await assert.rejects(
        run(async (tx) => {
          await orders.compareAndSet(tx, order, PAID);
          throw new Error('undone');
        }),
      );
      assert.deepEqual(await get(order.id), order);
      assert.equal((await kinds(order.id)).length, 1);
    });

    it('sets the instance of a PAID order once', async () => {
      const { orders } = backend.it;
      const { id } = await insert({ status: 'PAID' });
      const instanceIds = times(20, () => freshId());
      const set = await Promise.all(instanceIds.map((i) => run((tx) => orders.setInstance(tx, id, i))));
      assert.equal(set.filter(Boolean).length, 1);
      const order = await get(id);
      assert.deepEqual([order.instanceId, order.version], [instanceIds[set.indexOf(true)], 2n]);
    });

    it('sets no instance of an order that is not PAID or does not exist', async () => {
      const { orders } = backend.it;
      const order = await insert();
      assert.equal(await run((tx) => orders.setInstance(tx, order.id, freshId())), false);
      assert.equal(await run((tx) => orders.setInstance(tx, freshId(), freshId())), false);
      assert.deepEqual(await get(order.id), order);
    });

    it('adds up what was refunded of an order, up to its amount and its units', async () => {
      const { id } = await insert({ status: 'PAID', quantity: 3, amountFen: 2n ** 60n });
      const add = (amountFen: bigint, units: number) =>
        run((tx) => backend.it.orders.addRefund(tx, id, { amountFen, units }));
      await add(2n ** 59n, 1);
      await add(0n, 2);
      const { refundedFen, keptQuantity, version } = await get(id);
      assert.deepEqual([refundedFen, keptQuantity, version], [2n ** 59n, 0, 3n]);
      await assert.rejects(add(2n ** 59n + 1n, 0));
      await assert.rejects(add(0n, 1));
      await add(2n ** 59n, 0);
    });

    it('knows whether an order was completed within a time, which a refused refund does not start again', async () => {
      const { orders } = backend.it;
      const { id } = await insert({ status: 'PAID' });
      const within = (ms: number) => run((tx) => orders.isCompletedWithin(tx, id, ms));
      assert.equal(await within(60_000), false);
      const completed = { to: 'COMPLETED', actor: 'user', reason: '' } as const;
      await run(async (tx) => orders.compareAndSet(tx, await get(id), completed));
      const first = await get(id);
      assert.deepEqual([await within(60_000), await within(0)], [true, false]);
      await run(async (tx) => orders.compareAndSet(tx, first, { to: 'REFUNDING', actor: 'user', reason: '' }));
      await run(async (tx) => orders.compareAndSet(tx, await get(id), completed));
      assert.deepEqual((await get(id)).completedAt, first.completedAt);
    });

    it('finds the stream entry of an order', async () => {
      const { orders } = backend.it;
      const order = newOrder(plan, { source: 'SECKILL' });
      await run((tx) => orders.insert(tx, [order], 'seckill'));
      await backend.it.insertInboxRow(order, '1700000000000-0');
      await run(async (tx) => {
        assert.equal(await orders.findStreamId(tx, order.id), '1700000000000-0');
        assert.equal(await orders.findStreamId(tx, freshId()), undefined);
      });
    });

    it('lists the orders of a user, newest first, filtered and in pages', async () => {
      const { orders } = backend.it;
      const userId = freshUser();
      const made = [];
      for (let i = 0; i < 6; i++) made.unshift(await insert({ userId, status: i % 3 === 0 ? 'PAID' : 'PENDING' }));
      await insert();
      const all = await orders.list(userId, {}, { offset: 0, limit: 100 });
      assert.deepEqual([all.items, all.total], [made, 6n]);
      const page = await orders.list(userId, {}, { offset: 2, limit: 3 });
      assert.deepEqual([page.items, page.total], [made.slice(2, 5), 6n]);
      const paid = await orders.list(userId, { status: 'PAID', orderType: 'INSTANCE' }, { offset: 0, limit: 1 });
      assert.deepEqual([paid.items, paid.total], [[made[2]], 2n]);
      assert.deepEqual(await orders.list(userId, { orderType: 'CONTENT' }, { offset: 0, limit: 9 }), {
        items: [],
        total: 0n,
      });
      assert.deepEqual((await orders.list(userId, {}, { offset: 6, limit: 9 })).total, 6n);
    });

    it('lists the orders that follow another one, also of the same creation time', async () => {
      const { orders } = backend.it;
      const userId = freshUser();
      await run((tx) =>
        orders.insert(
          tx,
          times(4, (i) => newOrder(plan, { userId, status: i === 1 ? 'PAID' : 'PENDING' })),
          'seckill',
        ),
      );
      await insert({ userId });
      const { items: all } = await orders.list(userId, {}, { offset: 0, limit: 9 });
      for (const [i, { id: afterId }] of all.entries()) {
        const page = await orders.list(userId, {}, { offset: 0, limit: 2, afterId });
        assert.deepEqual([page.items, page.total], [all.slice(i + 1, i + 3), 5n]);
      }
      const pending = all.filter((o) => o.status === 'PENDING');
      const filter = { status: 'PENDING', orderType: 'INSTANCE' } as const;
      const page = await orders.list(userId, filter, { offset: 0, limit: 9, afterId: all[1]!.id });
      assert.deepEqual([page.items, page.total], [pending.filter((o) => all.indexOf(o) > 1), 4n]);
      // A new order does not shift the pages.
      await insert({ userId });
      assert.deepEqual(
        (await orders.list(userId, {}, { offset: 0, limit: 9, afterId: all[0]!.id })).items,
        all.slice(1),
      );
    });

    it('lists orders with the same creation time by id', async () => {
      const { orders } = backend.it;
      const userId = freshUser();
      const batch = times(5, () => newOrder(plan, { userId }));
      await run((tx) => orders.insert(tx, batch, 'seckill'));
      const { items } = await orders.list(userId, {}, { offset: 0, limit: 100 });
      assert.deepEqual(
        items.map((o) => o.id),
        batch.map((o) => o.id).reverse(),
      );
    });

    describe('lockOverdue', () => {
      const overdue = (agoMs: number) => ({ payTimeoutMs: -agoMs });
      // Cancels the overdue orders of other tests.
      beforeEach(() =>
        run(async (tx) => {
          for (const o of await backend.it.orders.lockOverdue(tx, 1_000, []))
            await backend.it.orders.compareAndSet(tx, o, CANCELLED);
        }),
      );

      it('locks PENDING orders past their deadline, the longest overdue first, up to the limit', async () => {
        const [b, a, c] = [await insert(overdue(2_000)), await insert(overdue(3_000)), await insert(overdue(1_000))];
        await insert({ payTimeoutMs: 600_000 });
        await insert();
        await insert({ ...overdue(9_000), status: 'PAID' });
        await run(async (tx) => {
          assert.deepEqual(await backend.it.orders.lockOverdue(tx, 2, []), [a, b]);
          assert.deepEqual(await backend.it.orders.lockOverdue(tx, 100, []), [a, b, c]);
        });
      });

      it('does not lock the excepted orders', async () => {
        const [a, b] = [await insert(overdue(2_000)), await insert(overdue(1_000))];
        await run(async (tx) => {
          assert.deepEqual(await backend.it.orders.lockOverdue(tx, 100, [a.id, freshId()]), [b]);
        });
      });

      it('skips orders that another transaction has locked', async () => {
        const { orders } = backend.it;
        const [a, b, c] = [await insert(overdue(3_000)), await insert(overdue(2_000)), await insert(overdue(1_000))];
        await run(async (tx) => {
          await orders.lock(tx, a.id, undefined);
          await run(async (other) => {
            assert.deepEqual(await orders.lockOverdue(other, 1, []), [b]);
            await run(async (third) => assert.deepEqual(await orders.lockOverdue(third, 100, []), [c]));
          });
        });
      });

      it('gives each overdue order to one of twenty concurrent transactions', async () => {
        const { orders } = backend.it;
        const made: Order[] = [];
        for (let i = 0; i < 10; i++) made.push(await insert(overdue(1_000 + i)));
        const taken = await Promise.all(
          times(20, () =>
            run(async (tx) => {
              const mine = await orders.lockOverdue(tx, 3, []);
              for (const order of mine) assert.ok(await orders.compareAndSet(tx, order, CANCELLED));
              return mine.map((o) => o.id);
            }),
          ),
        );
        const ids = taken.flat();
        assert.equal(new Set(ids).size, ids.length);
        for (const id of ids) assert.equal((await get(id)).status, 'CANCELLED');
        assert.ok(ids.length > 0 && ids.every((id) => made.some((o) => o.id === id)));
      });
    });
  });
}
