import { CartUsecase } from '../biz/cart/cart.js';
import { CartCheckoutUsecase } from '../biz/cart/cart-checkout.js';
import { GuestTokens } from '../biz/cart/guest-token.js';
import { CatalogUsecase } from '../biz/catalog/catalog.js';
import { ContentUsecase } from '../biz/catalog/content.js';
import { ProductUsecase } from '../biz/catalog/product.js';
import { ContentOrderUsecase } from '../biz/entitlement/content-order.js';
import { EntitlementUsecase } from '../biz/entitlement/entitlement.js';
import { InstanceUsecase } from '../biz/instance/instance.js';
import { GoodsOrderUsecase } from '../biz/order/goods-order.js';
import { OrderUsecase } from '../biz/order/order.js';
import { OrderSearchUsecase } from '../biz/order/order-search.js';
import { PaymentSessionUsecase } from '../biz/order/payment-session.js';
import { PaymentSignatures } from '../biz/order/payment-signature.js';
import { ReceiverUsecase } from '../biz/order/receiver.js';
import { RefundUsecase } from '../biz/order/refund.js';
import { RefundRequestUsecase } from '../biz/order/refund-request.js';
import { ShipmentUsecase } from '../biz/order/shipment.js';
import { PURCHASE_STREAM_POLICY } from '../biz/policy.js';
import { CouponUsecase } from '../biz/pricing/coupon.js';
import { PriceRuleUsecase } from '../biz/pricing/price-rule.js';
import { QuoteUsecase } from '../biz/pricing/quote.js';
import { UserCouponUsecase } from '../biz/pricing/user-coupon.js';
import { PurchaseCollector } from '../biz/seckill/purchase-collector.js';
import { SaleUsecase } from '../biz/seckill/sale.js';
import { SaleWatch } from '../biz/seckill/sale-watch.js';
import { SeckillUsecase } from '../biz/seckill/seckill.js';
import { SettlementUsecase } from '../biz/seckill/settlement.js';
import { WaitingRoomUsecase } from '../biz/seckill/waiting-room.js';
import { UserUsecase } from '../biz/user/user.js';
import { type ProviderSet, providers } from '../kratos/app/wiring.js';
import { Logger } from '../kratos/log/logger.js';
import { Metrics } from '../kratos/metrics/metrics.js';
import { CartService } from './cart.js';
import { CatalogService } from './catalog.js';
import { ContentService } from './content.js';
import { ContentEventService } from './content-event.js';
import { InstanceService } from './instance.js';
import { OrderService } from './order.js';
import { PricingService } from './pricing.js';
import { ProductService } from './product.js';
import { RefundService } from './refund.js';
import { SeckillOrderService, SeckillService } from './seckill.js';
import { UserService } from './user.js';

/** The services of the product process. The server layer binds them to their RPC definitions. */
export const productServiceModule: ProviderSet = providers(({ provide }) => {
  provide(ProductService, [ProductUsecase]);
  provide(CatalogService, [CatalogUsecase]);
  provide(ContentService, [ContentUsecase, EntitlementUsecase]);
  provide(ContentEventService, [EntitlementUsecase]);
  provide(OrderService, [
    OrderUsecase,
    GoodsOrderUsecase,
    ContentOrderUsecase,
    ShipmentUsecase,
    ReceiverUsecase,
    OrderSearchUsecase,
    PaymentSessionUsecase,
    PaymentSignatures,
  ]);
  provide(PricingService, [QuoteUsecase, PriceRuleUsecase, CouponUsecase, UserCouponUsecase, CartUsecase]);
  provide(CartService, [CartUsecase, CartCheckoutUsecase, GuestTokens]);
  provide(RefundService, [RefundUsecase, RefundRequestUsecase]);
  provide(UserService, [UserUsecase, Metrics]);
  provide(InstanceService, [InstanceUsecase, Logger]);
  provide(SeckillService, [
    SaleUsecase,
    SaleWatch,
    SeckillUsecase,
    WaitingRoomUsecase,
    PurchaseCollector,
    PURCHASE_STREAM_POLICY,
    Metrics,
  ]);
  provide(SeckillOrderService, [SettlementUsecase]);
});
