import { all, type ProviderSet, providers } from '../kratos/app/wiring.js';
import { CartUsecase } from './cart/cart.js';
import { CartCheckoutUsecase } from './cart/cart-checkout.js';
import { CartLoader } from './cart/cart-load.js';
import { CartSaveUsecase } from './cart/cart-save.js';
import { CartStore, SavedCarts } from './cart/cart-store.js';
import { GuestTokens } from './cart/guest-token.js';
import { CatalogRepo, CatalogUsecase } from './catalog/catalog.js';
import { ContentRepo, ContentUsecase } from './catalog/content.js';
import { ItemDirectory } from './catalog/item.js';
import { ProductRepo, ProductUsecase } from './catalog/product.js';
import { StockRepo } from './catalog/stock.js';
import { StockGate } from './catalog/stock-gate.js';
import { ContentFulfilment, GoodsFulfilment } from './entitlement/content-fulfilment.js';
import { ContentOrderUsecase } from './entitlement/content-order.js';
import { EntitlementUsecase } from './entitlement/entitlement.js';
import { EntitlementRepo } from './entitlement/entitlement-state.js';
import { OrderAccess } from './entitlement/order-access.js';
import { IdGenerator } from './id-generator.js';
import { InstanceRepo, InstanceUsecase } from './instance/instance.js';
import { InstanceResendUsecase } from './instance/instance-resend.js';
import { CartCheckoutRepo } from './order/cart-checkout.js';
import { OrderFulfilment } from './order/fulfilment.js';
import { GoodsOrderUsecase } from './order/goods-order.js';
import { OpenedContents } from './order/opened-contents.js';
import { OrderUsecase } from './order/order.js';
import { OrderCoupons } from './order/order-coupons.js';
import { OrderSearchRepo, OrderSearchUsecase } from './order/order-search.js';
import { OrderRepo } from './order/order-state.js';
import { PaidOrders } from './order/paid-orders.js';
import { PaymentRepo } from './order/payment.js';
import { PaymentSessionUsecase } from './order/payment-session.js';
import { PaymentSessionRepo } from './order/payment-session-state.js';
import { PaymentSignatures } from './order/payment-signature.js';
import { ReceiverUsecase } from './order/receiver.js';
import { RefundUsecase } from './order/refund.js';
import { RefundRequestUsecase } from './order/refund-request.js';
import { RefundRepo } from './order/refund-state.js';
import { ReservedUnits } from './order/reserved-units.js';
import { ShipmentRepo, ShipmentUsecase } from './order/shipment.js';
import { Outbox, OutboxHandler, OutboxRepo, OutboxUsecase } from './outbox.js';
import {
  CART_SAVE_POLICY,
  ENTITLEMENT_POLICY,
  GUEST_TOKEN_POLICY,
  INSTANCE_RESEND_POLICY,
  ORDER_POLICY,
  OUTBOX_OPTIONS,
  PAYMENT_PROVIDERS,
  PAYMENT_SESSION_POLICY,
  PAYMENT_SIGNATURE_POLICY,
  PURCHASE_TOKEN_POLICY,
  REFUND_POLICY,
  RETENTION_POLICY,
  SALE_POLICY,
  SETTLEMENT_POLICY,
  SHIPMENT_POLICY,
  TOKEN_REVOCATION_POLICY,
  WAITING_ROOM_POLICY,
} from './policy.js';
import { CouponRepo, CouponUsecase } from './pricing/coupon.js';
import { PriceRuleRepo, PriceRuleUsecase } from './pricing/price-rule.js';
import { Pricing } from './pricing/pricing.js';
import { QuoteUsecase } from './pricing/quote.js';
import { UserCouponRepo, UserCouponUsecase } from './pricing/user-coupon.js';
import { RetentionLease, RetentionStore, RetentionUsecase } from './retention/retention.js';
import { Admission } from './seckill/admission.js';
import { PurchaseCollector } from './seckill/purchase-collector.js';
import { PurchaseStream } from './seckill/purchase-stream.js';
import { PurchaseTokens } from './seckill/purchase-token.js';
import { SaleReservedUnits, SaleUnitsRepo } from './seckill/reserved-units.js';
import { SaleUsecase } from './seckill/sale.js';
import { SaleAccounts } from './seckill/sale-account.js';
import { SaleCache } from './seckill/sale-cache.js';
import { SaleUnitsComparison } from './seckill/sale-drift.js';
import { SaleLoader } from './seckill/sale-load.js';
import { SaleSchedule } from './seckill/sale-schedule.js';
import { SaleRepo } from './seckill/sale-state.js';
import { SaleStock } from './seckill/sale-stock.js';
import { SaleWatch } from './seckill/sale-watch.js';
import { SeckillUsecase } from './seckill/seckill.js';
import { SeckillReturnHandler } from './seckill/seckill-return.js';
import { SettlementUsecase } from './seckill/settlement.js';
import { SettlementRepo } from './seckill/settlement-state.js';
import { VipLimitRepo } from './seckill/vip-limit.js';
import { WaitingRoom, WaitingRoomUsecase } from './seckill/waiting-room.js';
import { TransactionRunner } from './transaction.js';
import { TokenRevocations } from './user/token-revocation.js';
import { LoginAttempts, PasswordHasher, TokenSigner, UserRepo, UserUsecase } from './user/user.js';

/** What a settlement needs. A simulation makes one of its own with these. */
export const SETTLEMENT_NEEDS = [
  TransactionRunner,
  IdGenerator,
  ItemDirectory,
  OrderRepo,
  InstanceUsecase,
  SettlementRepo,
  StockRepo,
  EntitlementRepo,
  OrderAccess,
  SETTLEMENT_POLICY,
] as const;

/** The product domain's usecases. They need its ports, which the data layer binds, and the policies of policy.ts. */
export const productBizModule: ProviderSet = providers(({ provide, implement, alias }) => {
  provide(RetentionUsecase, [TransactionRunner, RetentionLease, all(RetentionStore), RETENTION_POLICY]);
  provide(ItemDirectory, [ProductRepo, CatalogRepo, ContentRepo]);
  provide(ProductUsecase, [ProductRepo]);
  provide(CatalogUsecase, [TransactionRunner, CatalogRepo, StockRepo]);
  provide(ContentUsecase, [TransactionRunner, ContentRepo, Outbox]);
  provide(TokenRevocations, [UserRepo, TOKEN_REVOCATION_POLICY]);
  provide(UserUsecase, [UserRepo, PasswordHasher, TokenSigner, LoginAttempts]);

  provide(PaymentSignatures, [PAYMENT_SIGNATURE_POLICY]);
  provide(InstanceUsecase, [TransactionRunner, IdGenerator, ProductRepo, InstanceRepo, OrderRepo, RefundUsecase]);
  provide(InstanceResendUsecase, [InstanceRepo, INSTANCE_RESEND_POLICY]);
  provide(RefundUsecase, [
    TransactionRunner,
    IdGenerator,
    OrderRepo,
    PaymentRepo,
    RefundRepo,
    ReservedUnits,
    OrderCoupons,
    OpenedContents,
    Outbox,
    PAYMENT_PROVIDERS,
    REFUND_POLICY,
  ]);
  provide(RefundRequestUsecase, [TransactionRunner, IdGenerator, OrderRepo, RefundRepo, RefundUsecase, REFUND_POLICY]);
  provide(PaidOrders, [OrderRepo, all(OrderFulfilment), ReservedUnits, OrderCoupons]);
  provide(OrderUsecase, [
    TransactionRunner,
    IdGenerator,
    ProductUsecase,
    OrderRepo,
    PaymentRepo,
    RefundUsecase,
    PaidOrders,
    ReservedUnits,
    OrderCoupons,
    PaymentSessionRepo,
    ORDER_POLICY,
  ]);
  provide(PaymentSessionUsecase, [
    TransactionRunner,
    IdGenerator,
    OrderRepo,
    PaymentSessionRepo,
    OrderUsecase,
    PAYMENT_PROVIDERS,
    PAYMENT_SESSION_POLICY,
  ]);
  provide(GoodsOrderUsecase, [
    TransactionRunner,
    IdGenerator,
    CatalogRepo,
    StockRepo,
    StockGate,
    OrderRepo,
    Pricing,
    CartCheckoutRepo,
    PaidOrders,
    ORDER_POLICY,
  ]);
  provide(OrderCoupons, [UserCouponRepo]);

  provide(GuestTokens, [GUEST_TOKEN_POLICY]);
  provide(CartLoader, [CartStore, SavedCarts]);
  provide(CartUsecase, [CartStore, CartLoader, CatalogRepo, Pricing]);
  provide(CartSaveUsecase, [CartStore, SavedCarts, CART_SAVE_POLICY]);
  provide(CartCheckoutUsecase, [CartStore, SavedCarts, CartLoader, CatalogRepo, GoodsOrderUsecase, CartCheckoutRepo]);

  provide(Pricing, [PriceRuleRepo, UserCouponRepo]);
  provide(PriceRuleUsecase, [PriceRuleRepo, CatalogRepo]);
  provide(CouponUsecase, [CouponRepo]);
  provide(UserCouponUsecase, [TransactionRunner, IdGenerator, CouponRepo, UserCouponRepo]);
  provide(QuoteUsecase, [CatalogRepo, Pricing, UserCouponUsecase]);

  provide(OrderSearchUsecase, [OrderSearchRepo]);
  provide(ReceiverUsecase, [TransactionRunner, OrderRepo, Pricing, PaymentSessionRepo, PaidOrders]);
  provide(ShipmentUsecase, [TransactionRunner, OrderRepo, ShipmentRepo, SHIPMENT_POLICY]);

  provide(OrderAccess, [EntitlementRepo]);
  alias(OpenedContents, OrderAccess);
  provide(EntitlementUsecase, [TransactionRunner, EntitlementRepo, ENTITLEMENT_POLICY]);
  provide(ContentOrderUsecase, [
    TransactionRunner,
    IdGenerator,
    ContentUsecase,
    EntitlementRepo,
    OrderRepo,
    PaidOrders,
    ORDER_POLICY,
  ]);

  alias(OrderFulfilment, InstanceUsecase);
  implement(OrderFulfilment, GoodsFulfilment, [OrderAccess]);
  implement(OrderFulfilment, ContentFulfilment, [OrderRepo, EntitlementRepo, OrderAccess, RefundUsecase]);
  implement(ReservedUnits, SaleReservedUnits, [SaleUnitsRepo, StockRepo, Outbox]);

  provide(SaleStock, [TransactionRunner, SaleRepo, StockRepo, Admission, PurchaseStream]);
  provide(SaleLoader, [TransactionRunner, SaleRepo, VipLimitRepo, Admission, PurchaseStream, SALE_POLICY]);
  provide(SaleUsecase, [
    TransactionRunner,
    IdGenerator,
    ItemDirectory,
    SaleRepo,
    VipLimitRepo,
    SaleStock,
    Admission,
    SaleLoader,
    SALE_POLICY,
  ]);
  provide(SaleUnitsComparison, [Admission, PurchaseStream, SaleAccounts]);
  provide(SaleSchedule, [SaleUsecase, SaleRepo, SaleStock, Admission, SaleLoader, SaleUnitsComparison]);
  provide(SaleCache, [SaleRepo]);
  provide(SaleWatch, [SaleUsecase]);
  provide(PurchaseTokens, [PURCHASE_TOKEN_POLICY]);
  provide(WaitingRoomUsecase, [SaleCache, WaitingRoom, PurchaseTokens, WAITING_ROOM_POLICY]);
  provide(SeckillUsecase, [SaleCache, Admission, PurchaseStream, SettlementRepo, PurchaseTokens]);
  provide(PurchaseCollector, [SeckillUsecase]);
  provide(SettlementUsecase, SETTLEMENT_NEEDS);

  implement(OutboxHandler, SeckillReturnHandler, [Admission, SaleRepo]);
  provide(OutboxUsecase, [OutboxRepo, all(OutboxHandler), OUTBOX_OPTIONS]);
});
