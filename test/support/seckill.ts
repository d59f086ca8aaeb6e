import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { Registry } from 'prom-client';
import { isSaleUnavailable } from '../../gen/seckill/v1/errors.js';
import { CartUsecase } from '../../internal/biz/cart/cart.js';
import { CartCheckoutUsecase } from '../../internal/biz/cart/cart-checkout.js';
import { CartSaveUsecase } from '../../internal/biz/cart/cart-save.js';
import { CartStore, SavedCarts } from '../../internal/biz/cart/cart-store.js';
import { GuestTokens } from '../../internal/biz/cart/guest-token.js';
import { CatalogUsecase, type Sku } from '../../internal/biz/catalog/catalog.js';
import { ContentUsecase } from '../../internal/biz/catalog/content.js';
import { type Product, ProductUsecase } from '../../internal/biz/catalog/product.js';
import { StockGate } from '../../internal/biz/catalog/stock-gate.js';
import { ContentOrderUsecase } from '../../internal/biz/entitlement/content-order.js';
import { EntitlementUsecase } from '../../internal/biz/entitlement/entitlement.js';
import { EntitlementRepo } from '../../internal/biz/entitlement/entitlement-state.js';
import { IdGenerator } from '../../internal/biz/id-generator.js';
import { formatUserId } from '../../internal/biz/identity.js';
import { InstanceUsecase } from '../../internal/biz/instance/instance.js';
import { QueuePublisher } from '../../internal/biz/message-queue.js';
import { GoodsOrderUsecase } from '../../internal/biz/order/goods-order.js';
import { OrderUsecase } from '../../internal/biz/order/order.js';
import { type Order, OrderRepo } from '../../internal/biz/order/order-state.js';
import { PaymentSessionUsecase } from '../../internal/biz/order/payment-session.js';
import { ReceiverUsecase } from '../../internal/biz/order/receiver.js';
import { RefundUsecase } from '../../internal/biz/order/refund.js';
import { RefundRequestUsecase } from '../../internal/biz/order/refund-request.js';
import { ShipmentUsecase } from '../../internal/biz/order/shipment.js';
import { OutboxUsecase } from '../../internal/biz/outbox.js';
import {
  CART_SAVE_POLICY,
  CART_TIMES,
  CONTENT_PUBLISHER,
  ENTITLEMENT_POLICY,
  GUEST_TOKEN_POLICY,
  ORDER_POLICY,
  OUTBOX_OPTIONS,
  PAYMENT_PROVIDERS,
  PAYMENT_SESSION_POLICY,
  PURCHASE_TOKEN_POLICY,
  REFUND_POLICY,
  REFUND_PUBLISHER,
  SALE_POLICY,
  SETTLEMENT_POLICY,
  SHIPMENT_POLICY,
  WAITING_ROOM_POLICY,
} from '../../internal/biz/policy.js';
import { CouponUsecase } from '../../internal/biz/pricing/coupon.js';
import { PriceRuleUsecase } from '../../internal/biz/pricing/price-rule.js';
import { QuoteUsecase } from '../../internal/biz/pricing/quote.js';
import { UserCouponUsecase } from '../../internal/biz/pricing/user-coupon.js';
import { productBizModule } from '../../internal/biz/product-module.js';
import { Admission } from '../../internal/biz/seckill/admission.js';
import type { Delivery, PurchaseConsumer } from '../../internal/biz/seckill/purchase-stream.js';
import { PurchaseTokens } from '../../internal/biz/seckill/purchase-token.js';
import { type CreateSale, SaleUsecase } from '../../internal/biz/seckill/sale.js';
import { SaleCache } from '../../internal/biz/seckill/sale-cache.js';
import { SaleLoader } from '../../internal/biz/seckill/sale-load.js';
import { SaleSchedule } from '../../internal/biz/seckill/sale-schedule.js';
import { SaleRepo } from '../../internal/biz/seckill/sale-state.js';
import { SaleWatch } from '../../internal/biz/seckill/sale-watch.js';
import { SeckillUsecase } from '../../internal/biz/seckill/seckill.js';
import { TOPIC_SECKILL_RETURN } from '../../internal/biz/seckill/seckill-return.js';
import { SettlementUsecase } from '../../internal/biz/seckill/settlement.js';
import type { Settlement } from '../../internal/biz/seckill/settlement-state.js';
import { WaitingRoom, WaitingRoomUsecase } from '../../internal/biz/seckill/waiting-room.js';
import { AdvisoryLocks } from '../../internal/data/postgres/advisory-locks.js';
import { PgEntitlementRepo } from '../../internal/data/postgres/entitlement.js';
import { LeasedIdGenerator } from '../../internal/data/postgres/id-generator.js';
import { Postgres } from '../../internal/data/postgres/postgres.js';
import { PrimaryReads, Reads } from '../../internal/data/postgres/reads.js';
import { SOLD_QUANTITY } from '../../internal/data/postgres/status.js';
import { productDataModule } from '../../internal/data/product-module.js';
import { RedisPurchaseConsumer } from '../../internal/data/redis/purchase-consumer.js';
import { RedisServer } from '../../internal/data/redis/redis.js';
import type { RedisPlace } from '../../internal/data/redis/redis-connection.js';
import { sharedDataModule } from '../../internal/data/shared-module.js';
import { providers } from '../../internal/kratos/app/wiring.js';
import { SilentLogger } from '../../internal/kratos/log/logger.js';
import { Metrics } from '../../internal/kratos/metrics/metrics.js';
import { NoTrace, Trace } from '../../internal/kratos/tracing/trace.js';
import { SeckillConsumer, type SeckillConsumerOptions } from '../../internal/server/seckill-consumer.js';
import { SeckillOrderService } from '../../internal/service/seckill.js';
import { MemoryPaymentProvider } from './memory/payment-provider.js';
import { MemoryQueue } from './memory/queue.js';
import type { SuiteServers } from './servers.js';
import { containerOf, replaced } from './wiring.js';

export const MAX_DELIVERIES = 3;
export const TOKEN_TTL_MS = 60_000;

/** Where goods of the tests are sent to. */
export const RECEIVER = { name: '张三', phone: '13800000000', region: '310115', address: 'Century Avenue 1' };

const WATCH_INTERVAL_MS = 20;

const testPolicies = providers(({ value, create }) => {
  create(Metrics, [], () => new Metrics());
  create(Trace, [], () => new NoTrace());
  value(CART_SAVE_POLICY, { saveBatch: 50 });
  value(CART_TIMES, { saveAfterMs: 20, ttlMs: 60_000 });
  value(GUEST_TOKEN_POLICY, { secrets: ['a secret of the tests'], ttlMs: 60_000 });
  value(ENTITLEMENT_POLICY, { batchSize: 100 });
  value(ORDER_POLICY, { payTimeoutMs: 60_000 });
  value(OUTBOX_OPTIONS, { batchSize: 100, leaseMs: 10_000 });
  value(PAYMENT_SESSION_POLICY, { lookUpAfterMs: 1_000 });
  value(PURCHASE_TOKEN_POLICY, { secrets: ['a secret of the tests'], ttlMs: TOKEN_TTL_MS });
  value(REFUND_POLICY, { maxAttempts: 3, retryBackoffMs: 10, leaseMs: 10_000, afterSaleWindowMs: 60_000 });
  value(SALE_POLICY, { payTimeoutMs: 60_000, backlogLimit: 100_000 });
  value(SETTLEMENT_POLICY, { maxDeliveries: MAX_DELIVERIES });
  value(SHIPMENT_POLICY, { confirmAfterMs: 60_000 });
  value(WAITING_ROOM_POLICY, { capacity: 1_000 });
});

/**
 * One replica of the product process without its listeners, on real servers: its modules with connections of the test.
 */
export class SeckillReplica {
  readonly db: Postgres;
  readonly redis: RedisServer;
  readonly locks: AdvisoryLocks;
  readonly ids: LeasedIdGenerator;
  readonly products: ProductUsecase;
  readonly catalog: CatalogUsecase;
  readonly stockGate: StockGate;
  readonly carts: CartUsecase;
  readonly cartStore: CartStore;
  readonly savedCarts: SavedCarts;
  readonly cartSaves: CartSaveUsecase;
  readonly cartCheckouts: CartCheckoutUsecase;
  readonly guestTokens: GuestTokens;
  readonly goodsOrders: GoodsOrderUsecase;
  readonly priceRules: PriceRuleUsecase;
  readonly quotes: QuoteUsecase;
  readonly coupons: CouponUsecase;
  readonly userCoupons: UserCouponUsecase;
  readonly instances: InstanceUsecase;
  readonly orders: OrderUsecase;
  readonly refunds: RefundUsecase;
  readonly paymentSessions: PaymentSessionUsecase;
  readonly refundRequests: RefundRequestUsecase;
  readonly shipments: ShipmentUsecase;
  readonly receivers: ReceiverUsecase;
  readonly contents: ContentUsecase;
  readonly contentOrders: ContentOrderUsecase;
  readonly entitlements: EntitlementUsecase;
  /** Moves the time by which access begins and ends. */
  readonly entitlementClock = { offsetMs: 0 };
  readonly contentQueue = new MemoryQueue();
  readonly refundQueue = new MemoryQueue();
  readonly admission: Admission;
  readonly sales: SaleUsecase;
  readonly schedule: SaleSchedule;
  readonly loader: SaleLoader;
  readonly saleCache: SaleCache;
  readonly watches: SaleWatch;
  readonly tokens: PurchaseTokens;
  readonly room: WaitingRoom;
  readonly waitingRoom: WaitingRoomUsecase;
  readonly seckill: SeckillUsecase;
  readonly settlements: SettlementUsecase;
  readonly outbox: OutboxUsecase;
  readonly saleRepo: SaleRepo;
  readonly orderRepo: OrderRepo;
  private running: SeckillConsumer | undefined;

  constructor(
    servers: SuiteServers,
    connectTimeoutMs = 30_000,
    statementTimeoutMs = 10_000,
    /** Takes payments under the name "p". */
    readonly provider = new MemoryPaymentProvider('p'),
    redis: RedisPlace = { addr: servers.redisUrl },
  ) {
    this.db = new Postgres({
      source: servers.postgresUrl,
      poolSize: 8,
      role: 'kaimai_product',
      statementTimeoutMs,
      connectTimeoutMs,
      applicationName: 'seckill-test',
    });
    this.redis = new RedisServer({ ...redis, readTimeoutMs: 5_000, connectTimeoutMs, keyPrefix: '' });
    this.locks = new AdvisoryLocks(servers.postgresUrl, connectTimeoutMs);
    this.ids = new LeasedIdGenerator(this.locks);
    const container = containerOf([
      ...replaced(
        [sharedDataModule, productDataModule, productBizModule],
        providers(({ value, create }) => {
          value(Postgres, this.db);
          value(Reads, new PrimaryReads(this.db));
          value(RedisServer, this.redis);
          value(AdvisoryLocks, this.locks);
          value(IdGenerator, this.ids);
          // Only returned units are relayed here; instance events stay in the outbox.
          create(QueuePublisher, [], () => ({ publish: async () => assert.fail('no broker in this replica') }));
          value(REFUND_PUBLISHER, this.refundQueue);
          value(CONTENT_PUBLISHER, this.contentQueue);
          value(EntitlementRepo, new PgEntitlementRepo(this.db, this.entitlementClock));
          value(PAYMENT_PROVIDERS, [this.provider]);
          create(SaleWatch, [SaleUsecase], (sales) => new SaleWatch(sales, WATCH_INTERVAL_MS));
        }),
      ),
      testPolicies,
    ]);
    this.saleRepo = container.get(SaleRepo);
    this.orderRepo = container.get(OrderRepo);
    this.admission = container.get(Admission);
    this.room = container.get(WaitingRoom);
    this.products = container.get(ProductUsecase);
    this.catalog = container.get(CatalogUsecase);
    this.instances = container.get(InstanceUsecase);
    this.orders = container.get(OrderUsecase);
    this.refunds = container.get(RefundUsecase);
    this.paymentSessions = container.get(PaymentSessionUsecase);
    this.refundRequests = container.get(RefundRequestUsecase);
    this.shipments = container.get(ShipmentUsecase);
    this.receivers = container.get(ReceiverUsecase);
    this.contents = container.get(ContentUsecase);
    this.contentOrders = container.get(ContentOrderUsecase);
    this.entitlements = container.get(EntitlementUsecase);
    this.stockGate = container.get(StockGate);
    this.carts = container.get(CartUsecase);
    this.cartStore = container.get(CartStore);
    this.savedCarts = container.get(SavedCarts);
    this.cartSaves = container.get(CartSaveUsecase);
    this.cartCheckouts = container.get(CartCheckoutUsecase);
    this.guestTokens = container.get(GuestTokens);
    this.goodsOrders = container.get(GoodsOrderUsecase);
    this.priceRules = container.get(PriceRuleUsecase);
    this.quotes = container.get(QuoteUsecase);
    this.coupons = container.get(CouponUsecase);
    this.userCoupons = container.get(UserCouponUsecase);
    this.sales = container.get(SaleUsecase);
    this.schedule = container.get(SaleSchedule);
    this.loader = container.get(SaleLoader);
    this.watches = container.get(SaleWatch);
    this.saleCache = container.get(SaleCache);
    this.tokens = container.get(PurchaseTokens);
    this.waitingRoom = container.get(WaitingRoomUsecase);
    this.seckill = container.get(SeckillUsecase);
    this.settlements = container.get(SettlementUsecase);
    this.outbox = container.get(OutboxUsecase);
  }

  async start(): Promise<void> {
    await this.ids.open();
    await this.redis.ready(5_000);
  }

  /** Starts a consumer if none runs. It runs until `stopConsumer`, or until the replica is closed. */
  async startConsumer(): Promise<void> {
    if (this.running) return;
    this.running = this.consumer('a');
    await this.running.start();
  }

  async stopConsumer(): Promise<void> {
    const { running } = this;
    this.running = undefined;
    await running?.stop(AbortSignal.timeout(10_000));
  }

  async close(): Promise<void> {
    await this.stopConsumer();
    this.redis.close();
    await this.locks.close();
    await this.db.close();
  }

  /** Settles deliveries like a consumer, without removing them from the stream. */
  async settle(itemId: bigint, deliveries: readonly Delivery[]): Promise<Settlement> {
    return this.settlements.commit(await this.settlements.prepare(itemId, deliveries));
  }

  /** A consumer of the group, as in a process. Stop it before the replica is closed. */
  consumer(
    name: string,
    options: Partial<SeckillConsumerOptions> = {},
    service: SeckillOrderService = new SeckillOrderService(this.settlements),
    streams: PurchaseConsumer = this.streamConsumer(name),
  ): SeckillConsumer {
    return new SeckillConsumer(
      streams,
      service,
      { batchSize: 100, blockMs: 200, claimIdleMs: 60_000, ...options },
      new SilentLogger(),
      new Registry(),
    );
  }

  streamConsumer(name: string): RedisPurchaseConsumer {
    return new RedisPurchaseConsumer(this.redis, async () => name);
  }

  async plan(name = 'plan', priceFen = 9_900n): Promise<Product> {
    const spec = await this.products.createSpec({ cpu: 2, memoryGb: 4, gpu: 0, image: 'debian-12', config: undefined });
    return this.products.create({
      name,
      description: '',
      status: 'ENABLED',
      priceFen,
      specId: spec.id,
      imageUrl: '',
      sellerId: undefined,
    });
  }

  async sku(stock: bigint, skuName = 'phone, black'): Promise<Sku> {
    const no = randomUUID();
    const spu = await this.catalog.createSpu({
      ...{ spuNo: no, title: 'phone', categoryId: 1n, brandId: 1n, mainImages: ['https://img.test/1'], detailHtml: '' },
      publishStatus: 'PUBLISHED',
    });
    const sku = { spuId: spu.id, skuNo: no, skuName, priceFen: 9_900n, marketPriceFen: 0n };
    return this.catalog.createSku({ ...sku, specs: { color: 'black' } }, stock);
  }

  /** Units of a sku: in stock, and held of these. */
  async levelOf(skuId: bigint): Promise<readonly [stock: bigint, lockStock: bigint]> {
    const { stock, lockStock } = await this.catalog.getSku(skuId);
    return [stock, lockStock];
  }

  /** Reports that provider "p" took the whole amount of an order. */
  pay(orderId: bigint, eventId = `pay-${orderId}`): Promise<Order> {
    return this.orders.markPaid({ orderId, userId: undefined, provider: 'p', eventId, amountFen: undefined });
  }

  /** An open sale of a new plan. */
  async openSale(change: Partial<CreateSale> = {}): Promise<{ itemId: bigint; plan: Product }> {
    const plan = await this.plan();
    await this.openSaleOf(plan.id, change);
    return { itemId: plan.id, plan };
  }

  async openSaleOf(itemId: bigint, change: Partial<CreateSale> = {}): Promise<void> {
    await this.sales.create({
      itemId,
      name: '',
      startsAt: new Date(Date.now() - 1_000),
      endsAt: undefined,
      total: 10n,
      priceFen: 100n,
      payMode: 'PREPAID',
      payTimeoutMs: undefined,
      defaultLimit: 1,
      ...change,
    });
    await this.sales.open(itemId);
  }

  buy(itemId: bigint, user: number | string, requestId = '', token = '', quantity = 1) {
    const userId = formatUserId(String(user));
    return this.seckill.purchase({ itemId, userId, quantity, requestId, traceparent: '', token });
  }

  /** Carries out the returns that wait in the outbox. */
  relayReturns(): Promise<number> {
    return this.relay(TOPIC_SECKILL_RETURN);
  }

  /** Adds an entry to the item's stream, as a foreign client does. @returns its stream id */
  add(itemId: bigint, ...fields: string[]): Promise<string> {
    return this.redis.commands.xadd(this.redis.keys.sale(itemId).stream, '*', ...fields) as Promise<string>;
  }

  /** The entries of the item's stream, as if each had been delivered `count` times. */
  async deliveries(itemId: bigint, count = 1): Promise<Delivery[]> {
    const entries = await this.redis.commands.xrange(this.redis.keys.sale(itemId).stream, '-', '+');
    return entries.map(([streamId, raw]) => ({
      streamId,
      fields: new Map(Array.from({ length: raw.length / 2 }, (_, i) => [raw[2 * i]!, raw[2 * i + 1]!])),
      deliveries: count,
    }));
  }

  /** Publishes the rows of a topic that wait in the outbox. */
  async relay(topic: string): Promise<number> {
    const batch = await this.outbox.claim(topic);
    return batch ? (await this.outbox.dispatch(batch)).published : 0;
  }

  async rows<T extends object>(sql: string, ...values: unknown[]): Promise<T[]> {
    return (await this.db.pool.query<T>(sql, values)).rows;
  }

  async idle(itemId: bigint): Promise<boolean> {
    return (await this.redis.commands.xlen(this.redis.keys.sale(itemId).stream)) === 0;
  }

  /** Violated invariants of an item at rest: its orders, its sale in PostgreSQL and Redis, and its stream agree. */
  async faultsOf(itemId: bigint): Promise<readonly string[]> {
    const faults: string[] = [];
    const keys = this.redis.keys.sale(itemId);
    const expect = (what: string, actual: unknown, wanted: unknown) => {
      if (String(actual) !== String(wanted)) faults.push(`${what}: ${actual}, not ${wanted}`);
    };
    const [sale] = await this.rows<{ id: bigint; total: bigint; sold: bigint; epoch: bigint; status: number }>(
      'SELECT id, total, sold, epoch, status FROM sales WHERE item_id = $1 ORDER BY id DESC LIMIT 1',
      itemId,
    );
    const [live] = await this.rows<{ units: bigint; instances: bigint }>(
      `SELECT coalesce(sum(${SOLD_QUANTITY}), 0)::bigint AS units,
         count(*) FILTER (WHERE status IN (1, 3) AND instance_id IS NULL) AS instances
       FROM orders WHERE ($1::bigint IS NULL OR sale_id = $1) AND coalesce(product_id, content_id) = $2`,
      sale?.id ?? null,
      itemId,
    );
    expect('paid orders without an instance', live?.instances, 0);
    if (sale) {
      expect('sold', sale.sold, live?.units);
      if (sale.status === 1) {
        const state = await this.admission.state(itemId).catch((err: unknown) => {
          if (isSaleUnavailable(err)) return undefined;
          throw err;
        });
        expect('epoch in Redis', state?.loaded?.epoch, sale.epoch);
        expect('units left in Redis', state?.loaded?.stock, sale.total - sale.sold);
        const buyers = await this.rows<{ user_id: string; units: bigint }>(
          `SELECT user_id, sum(${SOLD_QUANTITY}) AS units FROM orders WHERE sale_id = $1 AND ${SOLD_QUANTITY} > 0
           GROUP BY user_id`,
          sale.id,
        );
        const inRedis = await this.redis.commands.hgetall(keys.buyers);
        expect(
          'buyers',
          JSON.stringify(Object.entries(inRedis).sort()),
          JSON.stringify(buyers.map((b) => [b.user_id, String(b.units)]).sort()),
        );
      }
    }
    expect('entries in the stream', await this.redis.commands.xlen(keys.stream), 0);
    const [ledger] = await this.rows<Record<string, bigint>>(
      `SELECT count(*) FILTER (WHERE i.outcome = 'ORDER') AS inbox,
         count(o.id) AS orders,
         count(r.instance_id) AS requests,
         count(*) FILTER (WHERE o.status IN (1, 3, 5)) AS paid,
         count(b.id) AS events
       FROM stream_inbox i
       LEFT JOIN orders o ON o.id = i.order_id AND coalesce(o.product_id, o.content_id) = i.item_id
       LEFT JOIN instance_requests r ON r.order_id = o.id AND r.source = 'SECKILL' AND r.source_id = i.stream_id
         AND r.instance_id = o.instance_id
       LEFT JOIN outbox b ON b.topic = 'instance.created' AND b.ref_id = r.instance_id
       WHERE i.item_id = $1`,
      itemId,
    );
    expect('orders of inbox rows', ledger?.orders, ledger?.inbox);
    expect('instance requests of paid orders', ledger?.requests, ledger?.paid);
    expect('events of instance requests', ledger?.events, ledger?.requests);
    return faults;
  }
}

/** A replica on the servers of a suite. Call it in a hook, and close it after the suite. */
/** A replica on another Redis than the suite's. */
export function replicaOn(servers: SuiteServers, redis: RedisPlace): SeckillReplica {
  return new SeckillReplica(servers, undefined, undefined, undefined, redis);
}

export async function startReplica(servers: SuiteServers): Promise<SeckillReplica> {
  const replica = new SeckillReplica(servers);
  await replica.start();
  return replica;
}
