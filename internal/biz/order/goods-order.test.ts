import assert from 'node:assert/strict';
import { insertSku } from '../../../test/contract/backend.js';
import { MemoryCatalogRepo } from '../../../test/support/memory/catalog.js';
import { MemoryCouponRepo } from '../../../test/support/memory/coupon.js';
import { CountingIds } from '../../../test/support/memory/id-generator.js';
import { MemoryOrderRepo } from '../../../test/support/memory/order.js';
import { MemoryOutbox } from '../../../test/support/memory/outbox.js';
import { MemoryPriceRuleRepo } from '../../../test/support/memory/price-rule.js';
import { MemorySaleUnitsRepo } from '../../../test/support/memory/sale-units.js';
import { MemoryCartCheckoutRepo } from '../../../test/support/memory/saved-carts.js';
import { MemoryStockRepo } from '../../../test/support/memory/stock.js';
import { MemoryStockGate } from '../../../test/support/memory/stock-gate.js';
import { MemoryStore } from '../../../test/support/memory/store.js';
import { MemoryUserCouponRepo } from '../../../test/support/memory/user-coupon.js';
import { formatUserId } from '../identity.js';
import { Pricing } from '../pricing/pricing.js';
import { SaleReservedUnits } from '../seckill/reserved-units.js';
import { GoodsOrderUsecase } from './goods-order.js';
import { OrderCoupons } from './order-coupons.js';
import { PaidOrders } from './paid-orders.js';

const RECEIVER = { name: 'a', phone: '13800000000', region: '310115', address: 'b' };

describe('GoodsOrderUsecase', () => {
  /** Statements of this name fail. */
  let failing = '';
  const store = new MemoryStore({
    around: async (operation, work) => {
      await Promise.resolve();
      if (operation === failing) throw new Error(`${operation} failed`);
      return work();
    },
  });
  const catalog = new MemoryCatalogRepo(store);
  const gate = new MemoryStockGate();
  const stock = new MemoryStockRepo(store, catalog.skus, gate);
  const orders = new MemoryOrderRepo(store);
  const rules = new MemoryPriceRuleRepo(store, catalog, orders);
  const coupons = new MemoryCouponRepo(store);
  const userCoupons = new MemoryUserCouponRepo(store, coupons);
  const units = new SaleReservedUnits(new MemorySaleUnitsRepo(store), stock, new MemoryOutbox(store));
  const paid = new PaidOrders(orders, [], units, new OrderCoupons(userCoupons));
  const goods = new GoodsOrderUsecase(
    ...([store, new CountingIds(), catalog, stock, gate, orders, new Pricing(rules, userCoupons)] as const),
    new MemoryCartCheckoutRepo(store),
    paid,
    { payTimeoutMs: 60_000 },
  );

  afterEach(() => {
    failing = '';
  });

  const create = (skuIds: readonly bigint[], user: number, couponId?: bigint) =>
    goods.create({
      ...{ userId: formatUserId(String(user)), lines: skuIds.map((skuId) => ({ skuId, quantity: 1 })) },
      ...{ receiver: RECEIVER, remark: '', requestId: '', expectedAmountFen: undefined, couponId },
    });

  it('places an order once when it cannot be read back, alone and in a batch', async () => {
    const backend = { transactions: store, catalog, stock };
    const [a, b] = [await insertSku(backend, 50n), await insertSku(backend, 50n)];
    failing = 'order.findAll';
    const outcomes = await Promise.allSettled([
      ...Array.from({ length: 5 }, (_, i) => create([a.id], i)),
      create([a.id, b.id], 9),
    ]);
    assert.ok(outcomes.every((o) => o.status === 'rejected'));
    assert.equal(orders.orders.rows().length, 6);
    assert.equal((await catalog.findSku(a.id))?.lockStock, 6n);
    failing = '';
    assert.equal((await create([a.id], 10)).status, 'PENDING');
  });

  it('fails alone where the coupon of one order in a batch cannot be held', async () => {
    const sku = await insertSku({ transactions: store, catalog, stock }, 50n);
    const coupon = await coupons.insert({
      ...{ name: 'c', value: { kind: 'AMOUNT', offFen: 1n }, scope: { kind: 'ALL' }, enabled: true },
      ...{ startsAt: new Date(0), endsAt: undefined, total: 1n, limitPerUser: 1 },
    });
    const mine = { id: 77n, couponId: coupon.id, userId: formatUserId('3'), granted: false, requestId: undefined };
    await store.run((tx) => userCoupons.insert(tx, [mine]));
    failing = 'user_coupon.hold';
    const before = orders.orders.rows().length;
    const users = Array.from({ length: 8 }, (_, i) => i);
    const outcomes = await Promise.allSettled(users.map((i) => create([sku.id], i, i === 3 ? mine.id : undefined)));
    assert.deepEqual(
      outcomes.flatMap((o, i) => (o.status === 'rejected' ? [i] : [])),
      [3],
    );
    assert.equal(orders.orders.rows().length - before, 7);
    assert.equal((await catalog.findSku(sku.id))?.lockStock, 7n);
    failing = '';
    assert.equal((await create([sku.id], 3, mine.id)).promotionFen, 1n);
  });
});
