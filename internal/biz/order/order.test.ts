import assert from 'node:assert/strict';
import {
  isOrderAlreadyPaid,
  isOrderCancelled,
  isOrderNotFound,
  isPaymentAmountMismatch,
  isRequestIdReused,
} from '../../../gen/order/v1/errors.js';
import { freshUser, insertProduct, newOrder, times } from '../../../test/contract/backend.js';
import { MemoryCatalogRepo } from '../../../test/support/memory/catalog.js';
import { MemoryContentRepo } from '../../../test/support/memory/content.js';
import { MemoryCouponRepo } from '../../../test/support/memory/coupon.js';
import { MemoryEntitlementRepo } from '../../../test/support/memory/entitlement.js';
import { CountingIds } from '../../../test/support/memory/id-generator.js';
import { MemoryInstanceRepo } from '../../../test/support/memory/instance.js';
import { MemoryOrderRepo } from '../../../test/support/memory/order.js';
import { MemoryOutbox } from '../../../test/support/memory/outbox.js';
import { MemoryPaymentRepo } from '../../../test/support/memory/payment.js';
import { MemoryPaymentSessionRepo } from '../../../test/support/memory/payment-session.js';
import { MemoryProductRepo } from '../../../test/support/memory/product.js';
import { MemoryRefundRepo } from '../../../test/support/memory/refund.js';
import { MemorySaleUnitsRepo } from '../../../test/support/memory/sale-units.js';
import { openSale } from '../../../test/support/memory/settlement.js';
import { MemoryStockRepo } from '../../../test/support/memory/stock.js';
import { MemoryStore } from '../../../test/support/memory/store.js';
import { MemoryUserCouponRepo } from '../../../test/support/memory/user-coupon.js';
import { type Product, ProductUsecase } from '../catalog/product.js';
import { OrderAccess } from '../entitlement/order-access.js';
import { InstanceUsecase } from '../instance/instance.js';
import { SaleReservedUnits } from '../seckill/reserved-units.js';
import { OrderUsecase } from './order.js';
import { OrderCoupons } from './order-coupons.js';
import { PaidOrders } from './paid-orders.js';
import { RefundUsecase } from './refund.js';

describe('OrderUsecase', () => {
  /** The number of the next commit whose reply is lost. */
  let commitsToLoss = Number.POSITIVE_INFINITY;
  const store = new (class extends MemoryStore {
    override run: MemoryStore['run'] = (work, options) =>
      super.run((tx) => {
        if (--commitsToLoss === 0) this.loseCommitReply(tx);
        return work(tx);
      }, options);
  })();
  const ids = new CountingIds();
  const outbox = new MemoryOutbox(store);
  const [products, repo, payments] = [
    new MemoryProductRepo(store),
    new MemoryOrderRepo(store),
    new MemoryPaymentRepo(store),
  ];
  const requests = new MemoryInstanceRepo(store, outbox);
  const { skus } = new MemoryCatalogRepo(store);
  const stock = new MemoryStockRepo(store, skus);
  const access = new OrderAccess(new MemoryEntitlementRepo(store, new MemoryContentRepo(store, skus)));
  const sales = new MemorySaleUnitsRepo(store);
  const units = new SaleReservedUnits(sales, stock, outbox);
  const refundRepo = new MemoryRefundRepo(store, payments, repo);
  const coupons = new OrderCoupons(new MemoryUserCouponRepo(store, new MemoryCouponRepo(store)));
  const refunds = new RefundUsecase(store, ids, repo, payments, refundRepo, units, coupons, access, outbox, [], {
    ...{ maxAttempts: 3, retryBackoffMs: 1, leaseMs: 1_000, afterSaleWindowMs: 1_000 },
  });
  const instances = new InstanceUsecase(store, ids, products, requests, repo, refunds);
  const sessions = new MemoryPaymentSessionRepo(store, repo);
  const policy = { payTimeoutMs: 60_000 };
  const orders = new OrderUsecase(
    ...([
      store,
      ids,
      new ProductUsecase(products),
      repo,
      payments,
      refunds,
      new PaidOrders(repo, [instances], units, coupons),
      units,
      coupons,
      sessions,
      policy,
    ] as const),
  );
  let plan: Product;
  before(async () => {
    plan = await insertProduct(products);
  });
  afterEach(() => {
    commitsToLoss = Number.POSITIVE_INFINITY;
  });

  const open = (userId = freshUser(), requestId = '') =>
    orders.create({ userId, productId: plan.id, quantity: 1, requestId, remark: '' });
  const pay = (orderId: bigint, eventId: string, amountFen?: bigint) =>
    orders.markPaid({ orderId, userId: undefined, provider: 'testpay', eventId, amountFen });
  const payByHand = (orderId: bigint, amountFen?: bigint) =>
    orders.markPaid({ orderId, userId: undefined, provider: '', eventId: '', amountFen });
  const refundsOf = (orderId: bigint) => refundRepo.refunds.rows().filter((r) => r.orderId === orderId);

  it('returns the stored order when the reply to COMMIT was lost', async () => {
    commitsToLoss = 1;
    const order = await open(freshUser(), 'once');
    assert.equal((await orders.list(order.userId, {}, { offset: 0, limit: 0 })).total, 1n);
  });

  it('returns the paid order when the reply to COMMIT was lost', async () => {
    const order = await open();
    commitsToLoss = 1;
    assert.equal((await payByHand(order.id)).status, 'PAID');
    await assert.rejects(payByHand(order.id), isOrderAlreadyPaid);
  });

  it('creates an order that costs nothing as PAID, once, when the reply to COMMIT was lost', async () => {
    const gift = await insertProduct(products, { priceFen: 0n });
    const userId = freshUser();
    const wanted = { userId, productId: gift.id, quantity: 1, requestId: 'gift', remark: '' };
    commitsToLoss = 1;
    const order = await orders.create(wanted);
    assert.deepEqual([order.status, order.version, order.instanceId !== undefined], ['PAID', 2n, true]);
    assert.deepEqual(await orders.create(wanted), order);
    assert.deepEqual(
      (await orders.listEvents(order.id, userId)).map((e) => [e.to, e.actor, e.reason]),
      [
        ['PENDING', 'user', ''],
        ['PAID', 'system', 'NOTHING_TO_PAY'],
      ],
    );
    await assert.rejects(payByHand(order.id), isOrderAlreadyPaid);
  });

  it('names the order that a reused request id created', async () => {
    const order = await open(freshUser(), 'mine');
    const other = await insertProduct(products);
    await assert.rejects(
      orders.create({ userId: order.userId, productId: other.id, quantity: 1, requestId: 'mine', remark: '' }),
      (err) =>
        isRequestIdReused(err) && err.metadata.order_id === String(order.id) && err.metadata.request_id === 'mine',
    );
  });

  it('lets a provider event pay only one of twenty orders', async () => {
    const made = await Promise.all(times(20, () => open()));
    const results = await Promise.allSettled(made.map((o) => pay(o.id, 'for-all')));
    assert.equal(results.filter((r) => r.status === 'fulfilled').length, 1);
    for (const r of results) assert.ok(r.status === 'fulfilled' || isRequestIdReused(r.reason));
    const statuses = await Promise.all(made.map(async (o) => (await orders.get(o.id, undefined)).status));
    assert.deepEqual(statuses.filter((s) => s === 'PAID').length, 1);
  });

  it('rejects the event of one order for another, even if that payment would be refunded', async () => {
    const [a, b] = [await open(), await open()];
    await pay(a.id, 'of-a');
    await orders.cancel(b.id, undefined, '');
    await assert.rejects(pay(b.id, 'of-a'), (err) => isRequestIdReused(err) && err.metadata.event_id === 'of-a');
    assert.deepEqual(refundsOf(b.id), []);
  });

  it('accepts the right amount by hand after a wrong one, which is refunded once', async () => {
    const order = await open();
    for (let i = 0; i < 2; i++) {
      await assert.rejects(
        payByHand(order.id, 1n),
        (err) => isPaymentAmountMismatch(err) && err.metadata.amount_fen === String(plan.priceFen),
      );
    }
    assert.equal((await payByHand(order.id)).status, 'PAID');
    assert.deepEqual(
      refundsOf(order.id).map((r) => r.amountFen),
      [1n],
    );
  });

  it('names the same refund whenever a late payment is repeated', async () => {
    const order = await open();
    await orders.cancel(order.id, order.userId, 'no more');
    const refundIds = new Set<string | undefined>();
    for (let i = 0; i < 3; i++) {
      await assert.rejects(pay(order.id, 'late'), (err) => {
        refundIds.add(isOrderCancelled(err) ? err.metadata.refund_id : undefined);
        return isOrderCancelled(err) && err.metadata.status === 'CANCELLED' && /no more/.test(err.message);
      });
    }
    assert.deepEqual(
      [...refundIds],
      refundsOf(order.id).map((r) => String(r.id)),
    );
  });

  it('records who cancelled an order and why', async () => {
    const [mine, theirs] = [await open(), await open()];
    await orders.cancel(mine.id, mine.userId, '');
    await orders.cancel(theirs.id, undefined, 'fraud');
    const last = async (id: bigint) => (await orders.listEvents(id, undefined)).at(-1);
    assert.deepEqual([(await last(mine.id))?.actor, (await last(mine.id))?.reason], ['user', 'USER_CANCELLED']);
    assert.deepEqual(
      [(await last(theirs.id))?.actor, (await last(theirs.id))?.reason],
      ['admin', 'ADMIN_CANCELLED: fraud'],
    );
  });

  it('does not take the words of a buyer for a reason of its own', async () => {
    for (const text of ['PAY_TIMEOUT', 'REFUNDED', 'ADMIN_CANCELLED']) {
      const order = await open();
      const { closeReason } = await orders.cancel(order.id, order.userId, text);
      assert.equal(closeReason, `USER_CANCELLED: ${text}`);
    }
  });

  it('cancels the other overdue orders when one of them cannot be cancelled, and sets that one aside', async () => {
    const overdue = async (saleId: bigint | undefined) => {
      const id = ids.nextId();
      const order = newOrder(plan, { id, payTimeoutMs: -1_000, ...(saleId !== undefined && { saleId }) });
      await store.run((tx) => repo.insert(tx, [order], 'user'));
      return id;
    };
    // The sale has sold no unit, so none can be returned to it.
    const sale = openSale({ id: ids.nextId(), itemId: plan.id, total: 1n });
    await sales.insertSale(undefined, sale);
    const [before, faulty, after] = [await overdue(undefined), await overdue(sale.id), await overdue(undefined)];

    const { cancelled, failures } = await orders.sweepOverdue(10);
    assert.deepEqual([cancelled, failures.map((f) => [f.orderId, f.first])], [2, [[faulty, true]]]);
    for (const id of [before, after]) assert.equal((await orders.get(id, undefined)).status, 'CANCELLED');
    const last = await overdue(undefined);
    assert.deepEqual(await orders.sweepOverdue(1), { cancelled: 1, failures: [] });
    assert.equal((await orders.get(last, undefined)).status, 'CANCELLED');
    assert.equal((await orders.get(faulty, undefined)).status, 'PENDING');
  });

  it('hides the orders of other users', async () => {
    const order = await open();
    const stranger = freshUser();
    const notice = { orderId: order.id, userId: stranger, provider: '', eventId: '', amountFen: undefined };
    for (const asked of [
      orders.get(order.id, stranger),
      orders.cancel(order.id, stranger, ''),
      orders.markPaid(notice),
    ]) {
      await assert.rejects(asked, (err) => isOrderNotFound(err) && err.metadata.order_id === String(order.id));
    }
    assert.equal((await orders.get(order.id, order.userId)).status, 'PENDING');
  });
});
