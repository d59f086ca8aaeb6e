import { CartServiceService } from '../../gen/cart/v1/cart.js';
import { CatalogServiceService } from '../../gen/catalog/v1/catalog.js';
import { ContentServiceService } from '../../gen/content/v1/content.js';
import { InstanceServiceService } from '../../gen/instance/v1/instance.js';
import { OrderServiceService } from '../../gen/order/v1/order.js';
import { RefundServiceService } from '../../gen/order/v1/refund.js';
import { PricingServiceService } from '../../gen/pricing/v1/pricing.js';
import { ProductServiceService } from '../../gen/product/v1/product.js';
import { SeckillServiceService } from '../../gen/seckill/v1/seckill.js';
import { UserServiceService } from '../../gen/user/v1/user.js';
import { CartCheckoutUsecase } from '../biz/cart/cart-checkout.js';
import { CartSaveUsecase } from '../biz/cart/cart-save.js';
import type { GuestTokenPolicy } from '../biz/cart/guest-token.js';
import { EntitlementUsecase } from '../biz/entitlement/entitlement.js';
import { InstanceResendUsecase } from '../biz/instance/instance-resend.js';
import { OrderUsecase } from '../biz/order/order.js';
import { PaymentSessionUsecase } from '../biz/order/payment-session.js';
import { PaymentSimulator } from '../biz/order/payment-simulator.js';
import { RefundUsecase } from '../biz/order/refund.js';
import { ShipmentUsecase } from '../biz/order/shipment.js';
import { OutboxUsecase } from '../biz/outbox.js';
import {
  CART_SAVE_POLICY,
  CART_TIMES,
  CONTENT_QUEUE,
  ENTITLEMENT_POLICY,
  GUEST_TOKEN_POLICY,
  INSTANCE_RESEND_POLICY,
  ORDER_POLICY,
  OUTBOX_OPTIONS,
  PAYMENT_SESSION_POLICY,
  PAYMENT_SIGNATURE_POLICY,
  PURCHASE_STREAM_POLICY,
  PURCHASE_TOKEN_POLICY,
  REFUND_POLICY,
  RETENTION_POLICY,
  SALE_POLICY,
  SETTLEMENT_POLICY,
  SHIPMENT_POLICY,
  TOKEN_REVOCATION_POLICY,
  WAITING_ROOM_POLICY,
} from '../biz/policy.js';
import { RetentionUsecase } from '../biz/retention/retention.js';
import { Admission } from '../biz/seckill/admission.js';
import { PurchaseConsumer } from '../biz/seckill/purchase-stream.js';
import type { PurchaseTokenPolicy } from '../biz/seckill/purchase-token.js';
import { SaleSchedule } from '../biz/seckill/sale-schedule.js';
import { StateCounts } from '../biz/state-counts.js';
import { TokenRevocations } from '../biz/user/token-revocation.js';
import { CONFIG, type Config } from '../conf/config.js';
import { DEVELOPMENT_GUEST_SECRET, DEVELOPMENT_TOKEN_SECRET } from '../conf/defaults.js';
import { LiveConfig } from '../conf/live.js';
import { METRICS } from '../kratos/app/metrics.js';
import { type Identifier, type ProviderSet, type Providing, providers } from '../kratos/app/wiring.js';
import { Background } from '../kratos/background/background.js';
import { ConfigError } from '../kratos/config/config-error.js';
import { Logger } from '../kratos/log/logger.js';
import { Metrics } from '../kratos/metrics/metrics.js';
import type { ServiceDefinition, ServiceOf } from '../kratos/transport/call-context.js';
import { bindService, ServiceBinding } from '../kratos/transport/dispatcher.js';
import { CartService } from '../service/cart.js';
import { CatalogService } from '../service/catalog.js';
import { ContentService } from '../service/content.js';
import { ContentEventService } from '../service/content-event.js';
import { InstanceService } from '../service/instance.js';
import { OrderService } from '../service/order.js';
import { PricingService } from '../service/pricing.js';
import { ProductService } from '../service/product.js';
import { RefundService } from '../service/refund.js';
import { SeckillOrderService, SeckillService } from '../service/seckill.js';
import { UserService } from '../service/user.js';
import { cartCheckoutCloser } from './cart-checkout-closer.js';
import { cartSaver } from './cart-saver.js';
import { contentConsumer } from './content-consumer.js';
import { entitlementExpirer } from './entitlement-expirer.js';
import { instanceResender } from './instance-resender.js';
import { orderConfirmer } from './order-confirmer.js';
import { orderSweeper } from './order-sweeper.js';
import { OutboxRelay } from './outbox-relay.js';
import { payPageRoute } from './pay-page.js';
import { paymentChecker } from './payment-checker.js';
import { PLAIN_ROUTE } from './plain-route.js';
import { refundWorker } from './refund-worker.js';
import { retention, retentionPolicy } from './retention.js';
import { saleKeeper } from './sale-keeper.js';
import { SeckillConsumer } from './seckill-consumer.js';
import { stateWatch } from './state-watch.js';
import { tokenRevocationPolicy, tokenRevocationReader } from './token-revocation-reader.js';

/**
 * Checks that apply to the product process alone: the resource process needs no token secret. Call it before anything
 * is opened.
 * @throws ConfigError
 */
export function checkProductConfig({ server, seckill, cart, content }: Config): void {
  if (server.environment !== 'production') return;
  const secrets = {
    'seckill.token_secret': [DEVELOPMENT_TOKEN_SECRET, seckill.tokenSecret, seckill.previousTokenSecret],
    'cart.guest_token_secret': [DEVELOPMENT_GUEST_SECRET, cart.guestTokenSecret, cart.previousGuestTokenSecret],
  };
  const violations = Object.entries(secrets)
    .filter(([, [development, ...used]]) => used.includes(development ?? ''))
    .map(([path]) => ({ path, description: 'the development secret is refused in production' }));
  if (content.clockOffsetMs !== 0) {
    violations.push({ path: 'content.clock_offset', description: 'a moved clock is refused in production' });
  }
  if (violations.length > 0) throw new ConfigError('configuration', violations);
}

/** The product process's policies, RPC services and background servers. */
export const productServerModule: ProviderSet = providers(({ create }) => {
  bindPolicies(create);

  const serve = <D extends ServiceDefinition>(definition: D, service: Identifier<ServiceOf<D>>) =>
    create(ServiceBinding, [service], (implementation) => bindService(definition, implementation));
  serve(ProductServiceService, ProductService);
  serve(CatalogServiceService, CatalogService);
  serve(ContentServiceService, ContentService);
  serve(OrderServiceService, OrderService);
  serve(RefundServiceService, RefundService);
  serve(PricingServiceService, PricingService);
  serve(CartServiceService, CartService);
  serve(InstanceServiceService, InstanceService);
  serve(SeckillServiceService, SeckillService);
  serve(UserServiceService, UserService);

  create(Background, [OrderUsecase, CONFIG, Logger], (orders, config, logger) => {
    const { sweepIntervalMs, sweepBatch } = config.order;
    const sweeper = orderSweeper(orders, { intervalMs: sweepIntervalMs, batch: sweepBatch }, logger);
    return new Background('order_sweeper', sweeper, false);
  });
  create(Background, [ShipmentUsecase, CONFIG, Logger], (shipments, config, logger) => {
    const { confirmIntervalMs, confirmBatch } = config.order;
    const confirmer = orderConfirmer(shipments, { intervalMs: confirmIntervalMs, batch: confirmBatch }, logger);
    return new Background('order_confirmer', confirmer, false);
  });
  create(Background, [CartSaveUsecase, CONFIG, Logger], (carts, { cart }, logger) => {
    return new Background('cart_saver', cartSaver(carts, { saveAfterMs: cart.saveAfterMs }, logger), false);
  });
  // With the role of the saver, because it looks at the same carts.
  create(
    Background,
    [CartCheckoutUsecase, Logger],
    (checkouts, logger) => new Background('cart_saver', cartCheckoutCloser(checkouts, logger), false),
  );
  // With the role of the relay, because it completes what the relay has begun.
  create(
    Background,
    [InstanceResendUsecase, Logger],
    (requests, logger) => new Background('outbox_relay', instanceResender(requests, logger), false),
  );
  create(
    Background,
    [SaleSchedule, Logger, METRICS],
    (schedule, logger, registry) => new Background('sale_keeper', saleKeeper(schedule, logger, registry), false),
  );
  // With the role of the sale keeper, because it looks at the same sales.
  create(
    Background,
    [StateCounts, Admission, Metrics, Logger],
    (counts, admission, metrics, logger) =>
      new Background('sale_keeper', stateWatch(counts, admission, metrics, logger), false),
  );
  create(
    Background,
    [PurchaseConsumer, SeckillOrderService, OutboxRelay, CONFIG, Logger, METRICS],
    (purchases, service, relay, { seckill }, logger, registry) => {
      const wakeRelay = () => relay.wake();
      const consumer = new SeckillConsumer(purchases, service, seckill, logger, registry, wakeRelay);
      return new Background('seckill_consumer', consumer, true);
    },
  );
  create(Background, [RefundUsecase, CONFIG, Logger, METRICS], (refunds, { refund }, logger, registry) => {
    const { pollIntervalMs } = refund;
    return new Background('refund_worker', refundWorker(refunds, { pollIntervalMs }, logger, registry), false);
  });
  create(
    Background,
    [RetentionUsecase, Logger, METRICS],
    (usecase, logger, registry) => new Background('retention', retention(usecase, logger, registry), false),
  );
  create(
    Background,
    [PaymentSessionUsecase, Logger, METRICS],
    (sessions, logger, registry) =>
      new Background('payment_checker', paymentChecker(sessions, logger, registry), false),
  );
  create(PLAIN_ROUTE, [PaymentSimulator, CONFIG, Logger], (simulator, { payment }, logger) =>
    // Production has no simulated providers.
    payment.simulatedProviders.length === 0 ? () => false : payPageRoute(simulator, logger),
  );
  create(Background, [EntitlementUsecase, CONFIG, Logger], (entitlements, { content }, logger) => {
    const expirer = entitlementExpirer(entitlements, { intervalMs: content.expireIntervalMs }, logger);
    return new Background('entitlement_expirer', expirer, false);
  });
  create(
    Background,
    [CONTENT_QUEUE, ContentEventService, Logger, METRICS],
    (queue, events, logger, registry) =>
      new Background('content_consumer', contentConsumer(queue, events, logger, registry), false),
  );
  create(OutboxRelay, [OutboxUsecase, CONFIG, Logger, METRICS], (outbox, config, logger, registry) => {
    const { pollIntervalMs } = config.outbox;
    return new OutboxRelay(outbox, { pollIntervalMs }, logger, registry);
  });
  create(Background, [OutboxRelay], (relay) => new Background('outbox_relay', relay, false));
  create(
    Background,
    [TokenRevocations, CONFIG, Logger],
    (revocations, { auth }, logger) =>
      new Background('api', tokenRevocationReader(revocations, auth.mode === 'jwt', logger), true),
  );
});

/** A policy has getters for the settings that change while the process runs, so that each use reads the current one. */
function bindPolicies(create: Providing['create']): void {
  create(CART_TIMES, [CONFIG], ({ cart: { saveAfterMs, ttlMs } }) => ({ saveAfterMs, ttlMs }));
  create(CART_SAVE_POLICY, [CONFIG], ({ cart: { saveBatch } }) => ({ saveBatch }));
  create(GUEST_TOKEN_POLICY, [CONFIG], ({ cart }): GuestTokenPolicy => {
    const { guestTokenSecret: secret, previousGuestTokenSecret: previous, guestTtlMs: ttlMs } = cart;
    return { secrets: previous === '' ? [secret] : [secret, previous], ttlMs };
  });
  create(OUTBOX_OPTIONS, [CONFIG], ({ outbox: { batchSize, leaseMs } }) => ({ batchSize, leaseMs }));
  create(INSTANCE_RESEND_POLICY, [CONFIG], ({ outbox: { resendAfterMs } }) => ({ afterMs: resendAfterMs }));
  create(ORDER_POLICY, [CONFIG], ({ order: { payTimeoutMs } }) => ({ payTimeoutMs }));
  create(SHIPMENT_POLICY, [CONFIG], ({ order: { confirmAfterMs } }) => ({ confirmAfterMs }));
  create(REFUND_POLICY, [CONFIG], ({ refund: { maxAttempts, retryBackoffMs, leaseMs }, order }) => {
    return { maxAttempts, retryBackoffMs, leaseMs, afterSaleWindowMs: order.afterSaleWindowMs };
  });
  create(ENTITLEMENT_POLICY, [CONFIG], ({ content: { batchSize } }) => ({ batchSize }));
  create(RETENTION_POLICY, [CONFIG], retentionPolicy);
  create(PAYMENT_SESSION_POLICY, [CONFIG], ({ payment: { lookUpAfterMs } }) => ({ lookUpAfterMs }));
  create(PAYMENT_SIGNATURE_POLICY, [CONFIG], ({ payment: { secret, previousSecret }, server }) => ({
    secrets: [secret, previousSecret].filter((s) => s !== ''),
    acceptUnsigned: server.environment !== 'production',
    requireAmount: server.environment === 'production',
  }));
  create(TOKEN_REVOCATION_POLICY, [CONFIG], tokenRevocationPolicy);
  create(PURCHASE_STREAM_POLICY, [CONFIG], ({ seckill: { streamWindow } }) => ({ window: streamWindow }));
  create(PURCHASE_TOKEN_POLICY, [CONFIG], ({ seckill }): PurchaseTokenPolicy => {
    const { tokenSecret, previousTokenSecret, tokenTtlMs } = seckill;
    return {
      secrets: previousTokenSecret === '' ? [tokenSecret] : [tokenSecret, previousTokenSecret],
      ttlMs: Math.ceil(tokenTtlMs),
    };
  });
  create(SALE_POLICY, [LiveConfig], (live) => ({
    payTimeoutMs: live.current.order.payTimeoutMs,
    get backlogLimit() {
      return live.current.seckill.backlogLimit;
    },
  }));
  create(SETTLEMENT_POLICY, [LiveConfig], (live) => ({
    get maxDeliveries() {
      return live.current.seckill.maxDeliveries;
    },
  }));
  create(WAITING_ROOM_POLICY, [LiveConfig], (live) => ({
    get capacity() {
      return live.current.seckill.waitingRoomLimit;
    },
  }));
}
