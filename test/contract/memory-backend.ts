import { MemoryCatalogRepo } from '../support/memory/catalog.js';
import { MemoryContentRepo } from '../support/memory/content.js';
import { MemoryCouponRepo } from '../support/memory/coupon.js';
import { MemoryEntitlementRepo } from '../support/memory/entitlement.js';
import { MemoryInstanceRepo } from '../support/memory/instance.js';
import { MemoryOrderRepo } from '../support/memory/order.js';
import { MemoryOutbox } from '../support/memory/outbox.js';
import { MemoryPaymentRepo } from '../support/memory/payment.js';
import { MemoryPaymentSessionRepo } from '../support/memory/payment-session.js';
import { MemoryPriceRuleRepo } from '../support/memory/price-rule.js';
import { MemoryProductRepo } from '../support/memory/product.js';
import { MemoryRefundRepo } from '../support/memory/refund.js';
import { MemorySaleAccounts, MemorySaleRepo } from '../support/memory/sale.js';
import { MemorySaleUnitsRepo } from '../support/memory/sale-units.js';
import { MemoryCartCheckoutRepo, MemorySavedCarts } from '../support/memory/saved-carts.js';
import { openSale } from '../support/memory/settlement.js';
import { MemoryShipmentRepo } from '../support/memory/shipment.js';
import { MemoryStockRepo } from '../support/memory/stock.js';
import { MemoryStore } from '../support/memory/store.js';
import { MemoryUserRepo } from '../support/memory/user.js';
import { MemoryUserCouponRepo } from '../support/memory/user-coupon.js';
import { MemoryVipLimitRepo } from '../support/memory/vip-limit.js';
import type { Backend } from './backend.js';

/** The doubles of test/support/memory, on a store of their own. */
export async function openMemoryBackend(): Promise<Backend> {
  const store = new MemoryStore();
  const outbox = new MemoryOutbox(store);
  const catalog = new MemoryCatalogRepo(store);
  const contents = new MemoryContentRepo(store, catalog.skus);
  const entitlements = new MemoryEntitlementRepo(store, contents);
  const orders = new MemoryOrderRepo(store);
  const stock = new MemoryStockRepo(store, catalog.skus);
  const saleUnits = new MemorySaleUnitsRepo(store);
  const vipLimits = new MemoryVipLimitRepo(store, saleUnits, orders);
  const sales = new MemorySaleRepo(store, saleUnits, orders, vipLimits);
  const instances = new MemoryInstanceRepo(store, outbox);
  const coupons = new MemoryCouponRepo(store);
  const cartCheckouts = new MemoryCartCheckoutRepo(store);
  const payments = new MemoryPaymentRepo(store);
  return {
    transactions: store,
    products: new MemoryProductRepo(store),
    catalog,
    contents,
    entitlements,
    stock,
    orders,
    cartCheckouts,
    savedCarts: new MemorySavedCarts(store, cartCheckouts),
    shipments: new MemoryShipmentRepo(store),
    payments,
    paymentSessions: new MemoryPaymentSessionRepo(store, orders),
    priceRules: new MemoryPriceRuleRepo(store, catalog, orders),
    coupons,
    userCoupons: new MemoryUserCouponRepo(store, coupons),
    refunds: new MemoryRefundRepo(store, payments, orders),
    instances,
    saleUnits,
    sales,
    vipLimits,
    accounts: new MemorySaleAccounts(store, saleUnits, orders, sales, outbox),
    outbox,
    users: new MemoryUserRepo(store),
    topics: async (refId) => outbox.table.rows().flatMap((row) => (row.refId === refId ? [row.topic] : [])),
    insertSale: (sale) => saleUnits.insertSale(undefined, openSale(sale)),
    sell: async (tx, saleId) => {
      await saleUnits.sales.update(tx, String(saleId), (s) => ({ ...s, sold: s.sold + 1n }));
    },
    releaseSale: async (saleId) => {
      await store.run(async (tx) => {
        await saleUnits.close(tx, saleId);
        await saleUnits.release(tx, saleId);
      });
    },
    returned: async (saleId) => saleUnits.sales.find(String(saleId))?.returned ?? -1n,
    sold: async (saleId) => saleUnits.sales.find(String(saleId))?.sold ?? -1n,
    items: async (id) =>
      orders.items
        .rows()
        .flatMap(({ orderId, goodsType: _, contents: _contents, ...item }) => (orderId === id ? [item] : [])),
    publish: (instanceId, agoMs) =>
      store.run(async (tx) => {
        const at = new Date(Date.now() - agoMs);
        const row = outbox.table.rows(tx).find((r) => r.refId === instanceId)!;
        await outbox.table.update(tx, String(row.id), (r) => ({ ...r, publishedAt: at }));
        await instances.requests.update(tx, String(instanceId), (r) => ({ ...r, createdAt: at }));
      }),
    ageEntitlements: (accesses, byMs) =>
      store.run(async (tx) => {
        const earlier = (at: Date) => new Date(at.getTime() - byMs);
        for (const { id, userId, contentId } of entitlements.entitlements.rows(tx)) {
          if (!accesses.some((a) => a.userId === userId && a.contentId === contentId)) continue;
          await entitlements.entitlements.update(tx, String(id), (e) => ({
            ...{ ...e, startsAt: earlier(e.startsAt), endsAt: e.endsAt && earlier(e.endsAt) },
          }));
        }
      }),
    insertInboxRow: ({ id: orderId, productId: itemId = 0n, userId, quantity }, streamId) =>
      store.run(async (tx) => {
        const none = { reason: '', saleId: undefined, epoch: undefined };
        await orders.inbox.insert(tx, { itemId, streamId, kind: 'ORDER', userId, quantity, orderId, ...none });
      }),
    breakConnection: async (tx) => store.breakConnection(tx),
    loseCommitReply: (tx) => store.loseCommitReply(tx),
    close: async () => {},
  };
}
