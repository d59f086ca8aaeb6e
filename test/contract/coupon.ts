import assert from 'node:assert/strict';
import type { Coupon, NewCoupon } from '../../internal/biz/pricing/coupon.js';
import type { CouponValue } from '../../internal/biz/pricing/price-calculator.js';
import { couponRequestKey, type NewUserCoupon } from '../../internal/biz/pricing/user-coupon.js';
import type { Transaction } from '../../internal/biz/transaction.js';
import { freshId, freshUser, insertSku, latch, newGoodsOrder, type OpenBackend, times, useBackend } from './backend.js';

const BEYOND_DOUBLE = 2n ** 53n + 1n;
const HOUR_MS = 3_600_000;
const PAGE = { offset: 0, limit: 100 };

export function couponRepoContract(name: string, open: OpenBackend): void {
  describe(`CouponRepo and UserCouponRepo ${name}`, () => {
    const backend = useBackend(open);
    const run = <T>(work: (tx: Transaction) => Promise<T>) => backend.it.transactions.run(work);
    const newCoupon = (changes: Partial<NewCoupon> = {}): NewCoupon => ({
      ...{ name: '满减', value: { kind: 'AMOUNT', offFen: 5n }, scope: { kind: 'ALL' }, enabled: true },
      ...{ startsAt: new Date(Date.now() - HOUR_MS), endsAt: undefined, total: 100n, limitPerUser: 2 },
      ...changes,
    });
    const insert = (changes: Partial<NewCoupon> = {}) => backend.it.coupons.insert(newCoupon(changes));
    const give = async (coupon: Coupon, changes: Partial<NewUserCoupon> = {}) => {
      const row = { id: freshId(), couponId: coupon.id, userId: freshUser(), granted: false, requestId: undefined };
      const given = { ...row, ...changes };
      await run((tx) => backend.it.userCoupons.insert(tx, [given]));
      return given;
    };
    const order = async () => {
      const sku = await insertSku(backend.it, 0n);
      const placed = newGoodsOrder([[sku, 1]]);
      await run((tx) => backend.it.orders.insertGoods(tx, [placed], 'user'));
      return placed.id;
    };
    const stateOf = async (id: bigint) => {
      const [found] = await backend.it.userCoupons.findAll([id]);
      return [found?.state, found?.orderId];
    };

    it('stores coupons as they were given, and changes them by version', async () => {
      const values: CouponValue[] = [
        { kind: 'AMOUNT', offFen: BEYOND_DOUBLE },
        { kind: 'THRESHOLD', thresholdFen: BEYOND_DOUBLE, offFen: 1n },
        { kind: 'PERCENT', percent: 30, capFen: undefined },
        { kind: 'PERCENT', percent: 100, capFen: BEYOND_DOUBLE },
      ];
      for (const value of values) {
        const given = newCoupon({ value, scope: { kind: 'SKU', ids: [BEYOND_DOUBLE] }, total: BEYOND_DOUBLE });
        const stored = await backend.it.coupons.insert(given);
        const { id, claimed, version, createdAt, updatedAt, ...rest } = stored;
        assert.deepEqual([rest, claimed, version], [given, 0n, 1n]);
        assert.ok(createdAt instanceof Date && updatedAt instanceof Date);
        assert.deepEqual(await backend.it.coupons.find(id), stored);
        const changed = { ...given, name: 'later', endsAt: new Date(Date.now() + HOUR_MS), enabled: false };
        const updated = await backend.it.coupons.update(id, 1n, changed);
        assert.deepEqual([updated?.name, updated?.endsAt, updated?.enabled], ['later', changed.endsAt, false]);
        assert.equal(await backend.it.coupons.update(id, 1n, given), undefined);
        assert.equal((await backend.it.coupons.find(id))?.version, 2n);
      }
      assert.equal(await backend.it.coupons.find(freshId()), undefined);
    });

    it('lists coupons, newest first, all or those that are offered', async () => {
      const offered = await insert({ startsAt: new Date(Date.now() + HOUR_MS) });
      const ended = await insert({ endsAt: new Date(Date.now() - 1_000) });
      const disabled = await insert({ enabled: false });
      const idsOf = async (only: boolean) => {
        const { items, total } = await backend.it.coupons.list({ offered: only }, PAGE);
        assert.ok(total >= BigInt(items.length));
        return items.map((c) => c.id).filter((id) => id >= offered.id);
      };
      assert.deepEqual(await idsOf(true), [offered.id]);
      assert.deepEqual(await idsOf(false), [disabled.id, ended.id, offered.id]);
    });

    it('counts what is given out, never beyond the total, and lets no total fall below it', async () => {
      const { id } = await insert({ total: 3n });
      await run((tx) => backend.it.coupons.addClaimed(tx, id, 2));
      await assert.rejects(run((tx) => backend.it.coupons.addClaimed(tx, id, 2)));
      const found = await backend.it.coupons.find(id);
      assert.deepEqual([found?.claimed, found?.version], [2n, 1n]);
      assert.equal(await backend.it.coupons.update(id, 1n, newCoupon({ total: 1n })), undefined);
      assert.equal((await backend.it.coupons.update(id, 1n, newCoupon({ total: 2n })))?.total, 2n);
    });

    it('lets the transactions that lock a coupon follow each other', async () => {
      const { id } = await insert({ total: 20n });
      await Promise.all(
        times(20, () =>
          run(async (tx) => {
            const { coupon } = (await backend.it.coupons.lock(tx, id))!;
            await backend.it.coupons.addClaimed(tx, id, coupon.claimed < 10n ? 1 : 0);
          }),
        ),
      );
      assert.equal((await backend.it.coupons.find(id))?.claimed, 10n);
      assert.equal(await run((tx) => backend.it.coupons.lock(tx, freshId())), undefined);
    });

    it('knows what users were given, by user, by claims and by request id', async () => {
      const coupon = await insert();
      const userId = freshUser();
      const first = await give(coupon, { userId, requestId: 'one' });
      await give(coupon, { userId });
      const granted = await give(coupon, { userId, granted: true, requestId: 'one' });
      await give(coupon);
      const { items, total } = await backend.it.userCoupons.list(userId, undefined, PAGE);
      assert.equal(total, 3n);
      assert.deepEqual(
        items.map((c) => [c.granted, c.state, c.coupon.id, c.userId]),
        [true, false, false].map((isGranted) => [isGranted, 'UNUSED', coupon.id, userId]),
      );
      await run(async (tx) => {
        const claimed = await backend.it.userCoupons.countClaimed(tx, coupon.id, [userId, freshUser()]);
        assert.deepEqual([...claimed], [[userId, 2]]);
        const requests = ['one', 'two', ''].map((requestId) => ({ userId, requestId }));
        for (const { id, granted: isGranted } of [first, granted]) {
          const about = { couponId: coupon.id, granted: isGranted };
          const found = await backend.it.userCoupons.findByRequests(tx, about, requests);
          assert.deepEqual([...found], [[couponRequestKey(requests[0]!), id]]);
        }
      });
      await assert.rejects(give(coupon, { userId, requestId: 'one' }));
      await assert.rejects(give({ ...coupon, id: freshId() }));
    });

    it('shows an unused coupon as EXPIRED once its coupon has ended, and finds it by that', async () => {
      const coupon = await insert({ endsAt: new Date(Date.now() - 1_000) });
      const { id, userId } = await give(coupon);
      const running = await give(await insert(), { userId });
      assert.deepEqual(await stateOf(id), ['EXPIRED', undefined]);
      const listed = async (state: 'UNUSED' | 'EXPIRED' | 'HELD') => {
        const { items, total } = await backend.it.userCoupons.list(userId, state, PAGE);
        return [total, ...items.map((c) => c.id)];
      };
      assert.deepEqual(await listed('EXPIRED'), [1n, id]);
      assert.deepEqual(await listed('UNUSED'), [1n, running.id]);
      assert.deepEqual(await listed('HELD'), [0n]);
    });

    it('is held by an order, then used by it and given back, or free again', async () => {
      const { id } = await give(await insert());
      const [orderId, other] = [await order(), await order()];
      const { userCoupons } = backend.it;
      await run((tx) => userCoupons.hold(tx, [{ id, orderId }]));
      assert.deepEqual(await stateOf(id), ['HELD', orderId]);
      await assert.rejects(run((tx) => userCoupons.hold(tx, [{ id, orderId: other }])));
      await run((tx) => userCoupons.release(tx, [other]));
      await run((tx) => userCoupons.restore(tx, orderId));
      assert.deepEqual(await stateOf(id), ['HELD', orderId]);
      await run((tx) => userCoupons.release(tx, [orderId, other]));
      assert.deepEqual(await stateOf(id), ['UNUSED', undefined]);
      await run((tx) => userCoupons.hold(tx, [{ id, orderId: other }]));
      await run((tx) => userCoupons.use(tx, [other]));
      await run((tx) => userCoupons.release(tx, [other]));
      assert.deepEqual(await stateOf(id), ['USED', other]);
      await run((tx) => userCoupons.restore(tx, other));
      assert.deepEqual(await stateOf(id), ['UNUSED', undefined]);
    });

    it('is not given back once its coupon has ended, but freed', async () => {
      const ended = await insert({ endsAt: new Date(Date.now() - 1_000) });
      const [used, held] = [await give(ended), await give(ended)];
      const [first, second] = [await order(), await order()];
      const { userCoupons } = backend.it;
      await run(async (tx) => {
        await userCoupons.hold(tx, [
          { id: used.id, orderId: first },
          { id: held.id, orderId: second },
        ]);
        await userCoupons.use(tx, [first]);
      });
      await run(async (tx) => {
        await userCoupons.restore(tx, first);
        await userCoupons.release(tx, [second]);
      });
      assert.deepEqual(await stateOf(used.id), ['USED', first]);
      assert.deepEqual(await stateOf(held.id), ['EXPIRED', undefined]);
    });

    it('is seen as it is when the lock on it is granted', async () => {
      const { id } = await give(await insert());
      const orderId = await order();
      const { userCoupons } = backend.it;
      const [locked, goOn] = [latch(), latch()];
      const first = run(async (tx) => {
        await userCoupons.lockAll(tx, [id]);
        locked.open();
        await goOn.opened;
        await userCoupons.hold(tx, [{ id, orderId }]);
      });
      await locked.opened;
      const second = run((tx) => userCoupons.lockAll(tx, [id, freshId()]));
      goOn.open();
      await first;
      assert.deepEqual(
        (await second).map((c) => [c.id, c.state]),
        [[id, 'HELD']],
      );
    });
  });
}
