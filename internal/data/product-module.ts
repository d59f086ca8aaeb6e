import { CartStore, SavedCarts } from '../biz/cart/cart-store.js';
import { CatalogRepo } from '../biz/catalog/catalog.js';
import { ContentRepo } from '../biz/catalog/content.js';
import { ProductRepo } from '../biz/catalog/product.js';
import { StockRepo } from '../biz/catalog/stock.js';
import { StockGate } from '../biz/catalog/stock-gate.js';
import { TOPIC_CONTENT_CHANGED } from '../biz/catalog/title-change.js';
import { EntitlementRepo } from '../biz/entitlement/entitlement-state.js';
import { IdGenerator } from '../biz/id-generator.js';
import { InstanceRepo } from '../biz/instance/instance.js';
import { QueuePublisher } from '../biz/message-queue.js';
import { CartCheckoutRepo } from '../biz/order/cart-checkout.js';
import { TOPIC_INSTANCE_REMOVED } from '../biz/order/instance-removal.js';
import { OrderSearchRepo } from '../biz/order/order-search.js';
import { OrderRepo } from '../biz/order/order-state.js';
import { PaymentRepo } from '../biz/order/payment.js';
import { PaymentSessionRepo } from '../biz/order/payment-session-state.js';
import { PaymentSimulator } from '../biz/order/payment-simulator.js';
import { TOPIC_REFUND_REQUESTED } from '../biz/order/refund.js';
import { RefundRepo } from '../biz/order/refund-state.js';
import { ShipmentRepo } from '../biz/order/shipment.js';
import { Outbox, OutboxHandler, OutboxRepo, PublishingHandler } from '../biz/outbox.js';
import { CART_TIMES, CONTENT_PUBLISHER, CONTENT_QUEUE, PAYMENT_PROVIDERS, REFUND_PUBLISHER } from '../biz/policy.js';
import { CouponRepo } from '../biz/pricing/coupon.js';
import { PriceRuleRepo } from '../biz/pricing/price-rule.js';
import { UserCouponRepo } from '../biz/pricing/user-coupon.js';
import { ReadPositions } from '../biz/read-positions.js';
import { RetentionLease, RetentionStore } from '../biz/retention/retention.js';
import { Admission } from '../biz/seckill/admission.js';
import { PurchaseConsumer, PurchaseStream } from '../biz/seckill/purchase-stream.js';
import { SaleUnitsRepo } from '../biz/seckill/reserved-units.js';
import { SaleAccounts } from '../biz/seckill/sale-account.js';
import { SaleRepo } from '../biz/seckill/sale-state.js';
import { SettlementRepo } from '../biz/seckill/settlement-state.js';
import { VipLimitRepo } from '../biz/seckill/vip-limit.js';
import { WaitingRoom } from '../biz/seckill/waiting-room.js';
import { StateCounts } from '../biz/state-counts.js';
import { TransactionRunner } from '../biz/transaction.js';
import { LoginAttempts, PasswordHasher, TokenSigner, UserRepo } from '../biz/user/user.js';
import { CONFIG, type Config } from '../conf/config.js';
import { HealthProbe } from '../kratos/app/health-probe.js';
import { type ProviderSet, providers } from '../kratos/app/wiring.js';
import { Worker } from '../kratos/app/worker.js';
import { BacklogProbe } from '../kratos/background/background-meter.js';
import { LineLimit } from '../kratos/log/line-limit.js';
import { Logger } from '../kratos/log/logger.js';
import { Metrics } from '../kratos/metrics/metrics.js';
import { Trace } from '../kratos/tracing/trace.js';
import { Argon2PasswordHasher } from './crypto/password-hasher.js';
import { JwtTokenSigner } from './crypto/token-signer.js';
import { SimulatedPayPage } from './payment/pay-page.js';
import { SimulatedPaymentProvider, type SimulatorOptions } from './payment/simulator.js';
import { AdvisoryLocks } from './postgres/advisory-locks.js';
import {
  checkoutBacklog,
  entitlementBacklog,
  lookUpBacklog,
  outboxBacklog,
  overdueBacklog,
  refundBacklog,
  requestBacklog,
  unconfirmedBacklog,
} from './postgres/backlog.js';
import { PgSavedCarts } from './postgres/cart.js';
import { PgCartCheckoutRepo } from './postgres/cart-checkout.js';
import { PgCatalogRepo } from './postgres/catalog.js';
import { PgContentRepo } from './postgres/content.js';
import { PgCouponRepo } from './postgres/coupon.js';
import { PgEntitlementRepo } from './postgres/entitlement.js';
import { LeasedIdGenerator } from './postgres/id-generator.js';
import { PgInstanceRepo, TOPIC_INSTANCE_CREATED } from './postgres/instance.js';
import { LeasedName } from './postgres/leased-name.js';
import { PgOrderRepo } from './postgres/order.js';
import { PgOrderSearchRepo } from './postgres/order-search.js';
import { PgOutbox, PgOutboxRepo } from './postgres/outbox.js';
import { PgPaymentRepo } from './postgres/payment.js';
import { PgPaymentSessionRepo } from './postgres/payment-session.js';
import { Postgres } from './postgres/postgres.js';
import { PgPriceRuleRepo } from './postgres/price-rule.js';
import { PgProductRepo } from './postgres/product.js';
import { Reads, rememberMs } from './postgres/reads.js';
import { PgRefundRepo } from './postgres/refund.js';
import { PgGuestCartRetention } from './postgres/retention/guest-carts.js';
import { PgDeadLetterRetention, PgInboxRetention } from './postgres/retention/inbox.js';
import { PgRetentionLease } from './postgres/retention/lease.js';
import { PgOrderEventRetention } from './postgres/retention/order-events.js';
import { PgOrderArchive } from './postgres/retention/orders.js';
import { PgOutboxRetention } from './postgres/retention/outbox.js';
import { PgSaleRepo } from './postgres/sale.js';
import { PgSaleAccounts } from './postgres/sale-account.js';
import { PgSaleUnitsRepo } from './postgres/sale-units.js';
import type { Pooler } from './postgres/session.js';
import { PgSettlementRepo } from './postgres/settlement.js';
import { PgShipmentRepo } from './postgres/shipment.js';
import { PgStateCounts } from './postgres/state-counts.js';
import { PgStockRepo } from './postgres/stock.js';
import { PgUserRepo } from './postgres/user.js';
import { PgUserCouponRepo } from './postgres/user-coupon.js';
import { PgVipLimitRepo } from './postgres/vip-limit.js';
import { RabbitConsumer } from './rabbitmq/consumer.js';
import { contentChangedMessage } from './rabbitmq/content-changed.js';
import { instanceRemovalMessage } from './rabbitmq/instance-removal.js';
import { RabbitPublisher } from './rabbitmq/publisher.js';
import { rabbitOptions, rabbitProbe } from './rabbitmq/rabbitmq.js';
import { refundRequestMessage } from './rabbitmq/refund-request.js';
import { RedisAdmission } from './redis/admission.js';
import { RedisCartStore } from './redis/cart.js';
import { RedisLoginAttempts } from './redis/login-attempts.js';
import { RedisPurchaseConsumer } from './redis/purchase-consumer.js';
import { RedisPurchaseStream } from './redis/purchase-stream.js';
import { RedisReadPositions } from './redis/read-positions.js';
import { RedisServer } from './redis/redis.js';
import { RedisStockGate } from './redis/stock-gate.js';
import { RedisWaitingRoom } from './redis/waiting-room.js';

/** Several connections are tried up to 20 times a second while Redis is away. */
const CONNECTION_ERRORS_MS = 5_000;

/** The product domain's ports. It needs the shared module, CONFIG, Logger, Worker, Trace and Resources. */
export const productDataModule: ProviderSet = providers(({ implement, resource, create, alias }) => {
  alias(TransactionRunner, Postgres);
  implement(ProductRepo, PgProductRepo, [Postgres]);
  implement(CatalogRepo, PgCatalogRepo, [Postgres]);
  implement(ContentRepo, PgContentRepo, [Postgres]);
  create(EntitlementRepo, [Postgres, CONFIG, Reads], (db, { content }, reads) => {
    return new PgEntitlementRepo(db, { offsetMs: content.clockOffsetMs }, reads);
  });
  create(BacklogProbe, [Postgres, CONFIG], (db, { content }) => entitlementBacklog(db, content.clockOffsetMs));
  implement(PriceRuleRepo, PgPriceRuleRepo, [Postgres]);
  implement(CouponRepo, PgCouponRepo, [Postgres]);
  implement(UserCouponRepo, PgUserCouponRepo, [Postgres, Reads]);
  implement(SavedCarts, PgSavedCarts, [Postgres]);
  implement(CartCheckoutRepo, PgCartCheckoutRepo, [Postgres]);
  implement(StockRepo, PgStockRepo, [Postgres, StockGate]);
  implement(OrderSearchRepo, PgOrderSearchRepo, [Postgres, Reads]);
  implement(ShipmentRepo, PgShipmentRepo, [Postgres]);
  implement(OrderRepo, PgOrderRepo, [Postgres, Metrics, Reads]);
  implement(PaymentRepo, PgPaymentRepo, [Postgres, Metrics]);
  implement(RefundRepo, PgRefundRepo, [Postgres, Metrics, Reads]);
  implement(PaymentSessionRepo, PgPaymentSessionRepo, [Postgres]);
  create(PAYMENT_PROVIDERS, [Postgres, CONFIG], (db, config) =>
    config.payment.simulatedProviders.map((name) => new SimulatedPaymentProvider(db, name, simulatorOptions(config))),
  );
  create(
    PaymentSimulator,
    [Postgres, CONFIG, Logger],
    (db, config, logger) => new SimulatedPayPage(db, simulatorOptions(config), logger),
  );
  implement(InstanceRepo, PgInstanceRepo, [Postgres, Trace, Metrics]);
  implement(SaleUnitsRepo, PgSaleUnitsRepo, [Postgres]);
  implement(SaleRepo, PgSaleRepo, [Postgres]);
  implement(VipLimitRepo, PgVipLimitRepo, [Postgres]);
  implement(SettlementRepo, PgSettlementRepo, [Postgres]);
  implement(SaleAccounts, PgSaleAccounts, [Postgres, SettlementRepo]);
  implement(UserRepo, PgUserRepo, [Postgres]);
  create(RetentionLease, [Postgres], (db) => new PgRetentionLease(db, 'product'));
  implement(RetentionStore, PgOutboxRetention, [Postgres]);
  implement(RetentionStore, PgInboxRetention, [Postgres, PurchaseStream]);
  implement(RetentionStore, PgDeadLetterRetention, [Postgres, PurchaseStream]);
  implement(RetentionStore, PgOrderEventRetention, [Postgres]);
  implement(RetentionStore, PgGuestCartRetention, [Postgres]);
  implement(RetentionStore, PgOrderArchive, [Postgres]);
  create(BacklogProbe, [Postgres], overdueBacklog);
  create(BacklogProbe, [Postgres], unconfirmedBacklog);
  resource(AdvisoryLocks, {
    name: 'advisory locks',
    needs: [CONFIG, Postgres, Logger],
    make: ({ data: { database } }, { hosts }, logger) =>
      new AdvisoryLocks(
        hosts,
        database.connectTimeoutMs,
        (err) => logger.warn('no advisory locks are held: no new ids, and no purchases are settled', { err }),
        database.pooler as Pooler,
      ),
    close: (locks) => locks.close(),
  });
  create(IdGenerator, [AdvisoryLocks], async (locks) => {
    const ids = new LeasedIdGenerator(locks);
    await ids.open();
    return ids;
  });
  create(LeasedName, [AdvisoryLocks, Worker], (locks, worker) => new LeasedName(locks, worker.name));

  create(PasswordHasher, [CONFIG, Worker], ({ auth }, worker) => new Argon2PasswordHasher(auth.password, worker.count));
  create(TokenSigner, [CONFIG], ({ auth }) => new JwtTokenSigner(auth));

  resource(RedisServer, {
    name: 'redis',
    needs: [CONFIG, Logger, Metrics],
    make: ({ data: { redis } }, logger, metrics) => {
      const settings = { ...redis, connectTimeoutMs: redis.writeTimeoutMs };
      const limit = new LineLimit({
        lines: 1,
        windowMs: CONNECTION_ERRORS_MS,
        report: (_, failures) => logger.warn('more connections to Redis failed', { failures }),
      });
      return new RedisServer(
        settings,
        (err) => {
          if (limit.admits('')) logger.warn('a connection to Redis failed', { err });
        },
        metrics,
      );
    },
    // It resolves without Redis too: the process still serves what needs none.
    open: (redis, { data }) => redis.ready(data.redis.writeTimeoutMs),
    close: (redis) => redis.close(),
  });
  create(HealthProbe, [RedisServer], (redis) => ({ name: 'redis', critical: false, check: () => redis.ping() }));
  create(
    ReadPositions,
    [RedisServer, CONFIG],
    (redis, { data }) => new RedisReadPositions(redis, rememberMs(data.database.replicaMaxLagMs)),
  );
  implement(Admission, RedisAdmission, [RedisServer]);
  implement(WaitingRoom, RedisWaitingRoom, [RedisServer]);
  implement(StockGate, RedisStockGate, [RedisServer]);
  implement(CartStore, RedisCartStore, [RedisServer, CART_TIMES]);
  create(BacklogProbe, [CartStore], (carts) => ({ server: 'cart_saver', read: () => carts.backlog() }));
  create(BacklogProbe, [Postgres], checkoutBacklog);
  create(LoginAttempts, [RedisServer, CONFIG], (redis, { auth }) => new RedisLoginAttempts(redis, auth.login));
  implement(PurchaseStream, RedisPurchaseStream, [RedisServer]);
  create(
    RedisPurchaseConsumer,
    [RedisServer, LeasedName],
    (redis, name) => new RedisPurchaseConsumer(redis, () => name.hold()),
  );
  alias(PurchaseConsumer, RedisPurchaseConsumer);
  create(BacklogProbe, [RedisPurchaseConsumer], (consumer) => ({
    server: 'seckill_consumer',
    read: () => consumer.backlog(),
  }));

  implement(Outbox, PgOutbox, [Postgres]);
  implement(OutboxRepo, PgOutboxRepo, [Postgres]);
  create(BacklogProbe, [Postgres], outboxBacklog);
  create(BacklogProbe, [Postgres], requestBacklog);
  create(BacklogProbe, [Postgres], refundBacklog);
  create(BacklogProbe, [Postgres], lookUpBacklog);
  implement(StateCounts, PgStateCounts, [Postgres]);
  resource(RabbitPublisher, {
    name: 'rabbitmq publisher',
    needs: [CONFIG, Logger, Worker, Trace, Metrics],
    make: (config, logger, worker, trace, metrics) => {
      const { confirmTimeoutMs } = config.data.rabbitmq;
      return new RabbitPublisher({ ...rabbitOptions(config, worker), confirmTimeoutMs }, logger, trace, metrics);
    },
    open: (publisher) => publisher.open(),
    close: (publisher) => publisher.close(),
  });
  alias(QueuePublisher, RabbitPublisher);
  resource(REFUND_PUBLISHER, {
    name: 'rabbitmq refund publisher',
    needs: [CONFIG, Logger, Worker, Trace, Metrics],
    make: (config, logger, worker, trace, metrics) => {
      const { confirmTimeoutMs, refundQueue: queue } = config.data.rabbitmq;
      const options = { ...rabbitOptions(config, worker), queue, confirmTimeoutMs };
      return new RabbitPublisher(options, logger, trace, metrics);
    },
    open: (publisher) => publisher.open(),
    close: (publisher) => publisher.close(),
  });
  create(
    OutboxHandler,
    [REFUND_PUBLISHER],
    (publisher) => new PublishingHandler(TOPIC_REFUND_REQUESTED, publisher, refundRequestMessage),
  );
  resource(CONTENT_PUBLISHER, {
    name: 'rabbitmq content publisher',
    needs: [CONFIG, Logger, Worker, Trace, Metrics],
    make: (config, logger, worker, trace, metrics) => {
      const { confirmTimeoutMs } = config.data.rabbitmq;
      const options = { ...rabbitOptions(config, worker), queue: config.data.rabbitmq.contentQueue, confirmTimeoutMs };
      return new RabbitPublisher(options, logger, trace, metrics);
    },
    open: (publisher) => publisher.open(),
    close: (publisher) => publisher.close(),
  });
  create(
    OutboxHandler,
    [CONTENT_PUBLISHER],
    (publisher) => new PublishingHandler(TOPIC_CONTENT_CHANGED, publisher, contentChangedMessage),
  );
  // The consumer's server opens and closes it.
  create(RabbitConsumer, [CONFIG, Logger, Worker, Metrics], (config, logger, worker, metrics) => {
    const { contentQueue: queue, prefetch } = config.data.rabbitmq;
    return new RabbitConsumer({ ...rabbitOptions(config, worker), queue, prefetch }, logger, metrics);
  });
  alias(CONTENT_QUEUE, RabbitConsumer);
  create(BacklogProbe, [RabbitConsumer], (consumer) => ({
    server: 'content_consumer',
    read: () => consumer.backlog(),
  }));
  create(HealthProbe, [RabbitPublisher], rabbitProbe);
  create(OutboxHandler, [QueuePublisher], (publisher) => new PublishingHandler(TOPIC_INSTANCE_CREATED, publisher));
  create(
    OutboxHandler,
    [QueuePublisher],
    (publisher) => new PublishingHandler(TOPIC_INSTANCE_REMOVED, publisher, instanceRemovalMessage),
  );
});

function simulatorOptions({ payment, server }: Config): SimulatorOptions {
  const { baseUrl, ...behaviour } = payment.simulator;
  // Listening on every address, it is reached by the loopback one.
  const own = `http://${server.http.addr.replace(/^[a-z]+:\/\//, '').replace(/^(?:0\.0\.0\.0|\[::\]):/, '127.0.0.1:')}`;
  return { ...behaviour, baseUrl: baseUrl === '' ? own : baseUrl, secret: payment.secret };
}
