import { CatalogRepo } from '../../../internal/biz/catalog/catalog.js';
import { ContentRepo } from '../../../internal/biz/catalog/content.js';
import { ProductRepo } from '../../../internal/biz/catalog/product.js';
import { StockRepo } from '../../../internal/biz/catalog/stock.js';
import { EntitlementRepo } from '../../../internal/biz/entitlement/entitlement-state.js';
import { IdGenerator } from '../../../internal/biz/id-generator.js';
import { InstanceRepo } from '../../../internal/biz/instance/instance.js';
import { CartCheckoutRepo } from '../../../internal/biz/order/cart-checkout.js';
import { OrderRepo } from '../../../internal/biz/order/order-state.js';
import { PaymentRepo } from '../../../internal/biz/order/payment.js';
import { PaymentSessionRepo } from '../../../internal/biz/order/payment-session-state.js';
import { RefundRepo } from '../../../internal/biz/order/refund-state.js';
import { ShipmentRepo } from '../../../internal/biz/order/shipment.js';
import { Outbox } from '../../../internal/biz/outbox.js';
import { CouponRepo } from '../../../internal/biz/pricing/coupon.js';
import { PriceRuleRepo } from '../../../internal/biz/pricing/price-rule.js';
import { UserCouponRepo } from '../../../internal/biz/pricing/user-coupon.js';
import { Admission } from '../../../internal/biz/seckill/admission.js';
import { PurchaseStream } from '../../../internal/biz/seckill/purchase-stream.js';
import { SaleUnitsRepo } from '../../../internal/biz/seckill/reserved-units.js';
import { SaleAccounts } from '../../../internal/biz/seckill/sale-account.js';
import { SaleRepo } from '../../../internal/biz/seckill/sale-state.js';
import { SettlementRepo } from '../../../internal/biz/seckill/settlement-state.js';
import { VipLimitRepo } from '../../../internal/biz/seckill/vip-limit.js';
import { TransactionRunner } from '../../../internal/biz/transaction.js';
import { UserRepo } from '../../../internal/biz/user/user.js';
import { type ProviderSet, providers } from '../../../internal/kratos/app/wiring.js';
import { MemoryAdmission, MemoryPurchaseStream } from './admission.js';
import { MemoryCatalogRepo } from './catalog.js';
import { MemoryContentRepo } from './content.js';
import { MemoryCouponRepo } from './coupon.js';
import { MemoryEntitlementRepo } from './entitlement.js';
import { CountingIds } from './id-generator.js';
import { MemoryInstanceRepo } from './instance.js';
import { MemoryOrderRepo } from './order.js';
import { MemoryOutbox } from './outbox.js';
import { MemoryPaymentRepo } from './payment.js';
import { MemoryPaymentSessionRepo } from './payment-session.js';
import { MemoryPriceRuleRepo } from './price-rule.js';
import { MemoryProductRepo } from './product.js';
import { MemoryRedis } from './redis.js';
import { MemoryRefundRepo } from './refund.js';
import { MemorySaleAccounts, MemorySaleRepo } from './sale.js';
import { MemorySaleUnitsRepo } from './sale-units.js';
import { MemoryCartCheckoutRepo } from './saved-carts.js';
import { MemorySettlementRepo } from './settlement.js';
import { MemoryShipmentRepo } from './shipment.js';
import { MemoryStockRepo } from './stock.js';
import { MemoryStore } from './store.js';
import { MemoryUserRepo } from './user.js';
import { MemoryUserCouponRepo } from './user-coupon.js';
import { MemoryVipLimitRepo } from './vip-limit.js';

/** The product domain's ports in memory, each also under its own class. It needs MemoryStore and PAYMENT_PROVIDERS. */
export const memoryDataModule: ProviderSet = providers(({ provide, create, alias }) => {
  create(IdGenerator, [], () => new CountingIds());
  alias(TransactionRunner, MemoryStore);
  provide(MemoryProductRepo, [MemoryStore]);
  alias(ProductRepo, MemoryProductRepo);
  provide(MemoryCatalogRepo, [MemoryStore]);
  alias(CatalogRepo, MemoryCatalogRepo);
  create(
    MemoryContentRepo,
    [MemoryStore, MemoryCatalogRepo],
    (store, catalog) => new MemoryContentRepo(store, catalog.skus),
  );
  alias(ContentRepo, MemoryContentRepo);
  provide(MemoryEntitlementRepo, [MemoryStore, MemoryContentRepo]);
  alias(EntitlementRepo, MemoryEntitlementRepo);
  create(
    MemoryStockRepo,
    [MemoryStore, MemoryCatalogRepo],
    (store, catalog) => new MemoryStockRepo(store, catalog.skus),
  );
  alias(StockRepo, MemoryStockRepo);
  provide(MemoryOrderRepo, [MemoryStore]);
  alias(OrderRepo, MemoryOrderRepo);
  provide(MemoryCartCheckoutRepo, [MemoryStore]);
  alias(CartCheckoutRepo, MemoryCartCheckoutRepo);
  provide(MemoryPriceRuleRepo, [MemoryStore, MemoryCatalogRepo, MemoryOrderRepo]);
  alias(PriceRuleRepo, MemoryPriceRuleRepo);
  provide(MemoryCouponRepo, [MemoryStore]);
  alias(CouponRepo, MemoryCouponRepo);
  provide(MemoryUserCouponRepo, [MemoryStore, MemoryCouponRepo]);
  alias(UserCouponRepo, MemoryUserCouponRepo);
  provide(MemoryPaymentRepo, [MemoryStore]);
  alias(PaymentRepo, MemoryPaymentRepo);
  provide(MemoryShipmentRepo, [MemoryStore]);
  alias(ShipmentRepo, MemoryShipmentRepo);
  provide(MemoryPaymentSessionRepo, [MemoryStore, MemoryOrderRepo]);
  alias(PaymentSessionRepo, MemoryPaymentSessionRepo);
  provide(MemoryRefundRepo, [MemoryStore, MemoryPaymentRepo, MemoryOrderRepo]);
  alias(RefundRepo, MemoryRefundRepo);
  provide(MemoryOutbox, [MemoryStore]);
  alias(Outbox, MemoryOutbox);
  provide(MemoryInstanceRepo, [MemoryStore, MemoryOutbox]);
  alias(InstanceRepo, MemoryInstanceRepo);
  provide(MemorySaleUnitsRepo, [MemoryStore]);
  alias(SaleUnitsRepo, MemorySaleUnitsRepo);
  provide(MemoryVipLimitRepo, [MemoryStore, MemorySaleUnitsRepo, MemoryOrderRepo]);
  alias(VipLimitRepo, MemoryVipLimitRepo);
  provide(MemorySaleRepo, [MemoryStore, MemorySaleUnitsRepo, MemoryOrderRepo, MemoryVipLimitRepo]);
  alias(SaleRepo, MemorySaleRepo);
  provide(MemorySaleAccounts, [MemoryStore, MemorySaleUnitsRepo, MemoryOrderRepo, MemorySaleRepo, MemoryOutbox]);
  alias(SaleAccounts, MemorySaleAccounts);
  create(MemoryRedis, [MemoryStore], (store) => new MemoryRedis(() => store.now().getTime()));
  provide(MemoryAdmission, [MemoryRedis]);
  alias(Admission, MemoryAdmission);
  provide(MemoryPurchaseStream, [MemoryRedis]);
  alias(PurchaseStream, MemoryPurchaseStream);
  provide(MemorySettlementRepo, [MemoryStore, MemoryOrderRepo, MemorySaleUnitsRepo, MemoryVipLimitRepo]);
  alias(SettlementRepo, MemorySettlementRepo);
  provide(MemoryUserRepo, [MemoryStore]);
  alias(UserRepo, MemoryUserRepo);
});
