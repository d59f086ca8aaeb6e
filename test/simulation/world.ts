import type { Container } from 'inversify';
import { CatalogUsecase } from '../../internal/biz/catalog/catalog.js';
import { type Product, ProductUsecase } from '../../internal/biz/catalog/product.js';
import { StockGate } from '../../internal/biz/catalog/stock-gate.js';
import { IdGenerator } from '../../internal/biz/id-generator.js';
import { formatUserId } from '../../internal/biz/identity.js';
import { type InstanceEvent, InstanceUsecase } from '../../internal/biz/instance/instance.js';
import { GoodsOrderUsecase } from '../../internal/biz/order/goods-order.js';
import { OrderUsecase } from '../../internal/biz/order/order.js';
import { ReceiverUsecase } from '../../internal/biz/order/receiver.js';
import { RefundUsecase } from '../../internal/biz/order/refund.js';
import { RefundRequestUsecase } from '../../internal/biz/order/refund-request.js';
import { ShipmentUsecase } from '../../internal/biz/order/shipment.js';
import {
  ORDER_POLICY,
  PAYMENT_PROVIDERS,
  PURCHASE_TOKEN_POLICY,
  REFUND_POLICY,
  SALE_POLICY,
  SETTLEMENT_POLICY,
  SHIPMENT_POLICY,
} from '../../internal/biz/policy.js';
import { CouponUsecase } from '../../internal/biz/pricing/coupon.js';
import { UserCouponUsecase } from '../../internal/biz/pricing/user-coupon.js';
import { productBizModule, SETTLEMENT_NEEDS } from '../../internal/biz/product-module.js';
import type { PurchaseRequest } from '../../internal/biz/seckill/admission.js';
import type { StreamEntry } from '../../internal/biz/seckill/purchase-stream.js';
import { SaleUsecase } from '../../internal/biz/seckill/sale.js';
import { SaleCache } from '../../internal/biz/seckill/sale-cache.js';
import type { Sale } from '../../internal/biz/seckill/sale-state.js';
import { SettlementUsecase } from '../../internal/biz/seckill/settlement.js';
import type { Pace } from '../../internal/data/redis/pace.js';
import { inOrder } from '../../internal/data/redis/purchase-stream.js';
import { type ProviderSet, providers } from '../../internal/kratos/app/wiring.js';
import { MemoryAdmission, MemoryPurchaseStream } from '../support/memory/admission.js';
import { MemoryCatalogRepo } from '../support/memory/catalog.js';
import { MemoryCouponRepo } from '../support/memory/coupon.js';
import { MemoryInstanceRepo } from '../support/memory/instance.js';
import { memoryDataModule } from '../support/memory/module.js';
import { MemoryOrderRepo } from '../support/memory/order.js';
import { MemoryOutbox } from '../support/memory/outbox.js';
import { MemoryPaymentRepo } from '../support/memory/payment.js';
import { MemoryPaymentProvider } from '../support/memory/payment-provider.js';
import { MemoryPriceRuleRepo } from '../support/memory/price-rule.js';
import { MemoryRedis } from '../support/memory/redis.js';
import { MemoryRefundRepo } from '../support/memory/refund.js';
import { MemorySaleRepo } from '../support/memory/sale.js';
import { MemorySaleUnitsRepo } from '../support/memory/sale-units.js';
import { MemorySettlementRepo } from '../support/memory/settlement.js';
import { MemoryStockRepo } from '../support/memory/stock.js';
import { MemoryStore } from '../support/memory/store.js';
import { MemoryUserCouponRepo } from '../support/memory/user-coupon.js';
import { MemoryVipLimitRepo } from '../support/memory/vip-limit.js';
import { containerOf, replaced } from '../support/wiring.js';
import { Faults } from './faults.js';
import { Random } from './random.js';
import { Scheduler } from './scheduler.js';
import { UnitsWatch } from './units-watch.js';

/** Bugs planted to see that a run finds them. Empty: the product as it is. */
export interface Bugs {
  /** Providers that take the place of the modules' own. */
  readonly replacements?: ProviderSet;
  readonly redis?: typeof MemoryRedis;
  readonly provider?: typeof MemoryPaymentProvider;
  readonly relayMarksFirst?: boolean;
  readonly consumerAcksFirst?: boolean;
  readonly entriesLeaveFirst?: boolean;
}

/** A payment as its provider knows it, with every answer the provider got. */
export interface KnownPayment {
  readonly orderId: bigint;
  readonly provider: string;
  readonly eventId: string;
  readonly amountFen: bigint;
  /** PAID, or the error's reason. */
  readonly answers: string[];
}

/** An entry that a foreign client added. */
export interface ForeignEntry extends StreamEntry {
  readonly itemId: bigint;
}

/** A purchase that was told QUEUED. */
export interface QueuedPurchase extends PurchaseRequest {
  readonly itemId: bigint;
  readonly seckillId: string;
}

/** What exists before the first buyer arrives. */
export interface Shop {
  readonly plan: Product;
  /** Of products and of SKUs. */
  readonly sales: readonly Sale[];
  readonly coupons: CouponShop;
}

/** Goods that are ordered with a coupon, and the coupon. Orders of different baskets share no SKU, but may share a coupon. */
export interface CouponShop {
  readonly baskets: readonly (readonly bigint[])[];
  readonly couponId: bigint;
}

/** A gate that knows nothing: PostgreSQL alone decides. */
class NoGate extends StockGate {
  override async read(): Promise<ReadonlyMap<bigint, bigint>> {
    return new Map();
  }

  override publish(): void {}
}

/** The answers that callers got. */
export class History {
  /** User and request id → ids of the orders in the answers. */
  readonly created = new Map<string, Set<bigint>>();
  readonly payments: KnownPayment[] = [];
  readonly cancelled = new Set<bigint>();
  /** Refunds that buyers were promised. */
  readonly refunds = new Set<bigint>();
  /** Source and source id → ids of the instances in the answers. */
  readonly granted = new Map<string, Set<bigint>>();
  readonly queued: QueuedPurchase[] = [];
  /** Purchases that were told SOLD_OUT while their sale had units for them all the time. */
  readonly falselySoldOut: string[] = [];
  /** Item and user of each limit that an operator changed, which may refuse purchases that were admitted before. */
  readonly limited = new Set<string>();
}

const MAX_TURNS = 60_000;
const USERS = 3;
/** From this one on, users that follow each other have different homes in sales of 2 and of 3 segments. */
const FIRST_USER = 3;
const SEGMENTS = [1, 2, 3];
/** How far the clock of admission goes between two looks: so far that each SOLD_OUT is a fresh one. */
const LOOK_MS = 1_000;
const TIME_ZERO_MS = Date.UTC(2026, 0, 1);
export const PAY_TIMEOUT_MS = 60_000;

const policies = providers(({ value }) => {
  value(ORDER_POLICY, { payTimeoutMs: PAY_TIMEOUT_MS });
  value(REFUND_POLICY, { maxAttempts: 1_000, retryBackoffMs: 1, leaseMs: 10_000, afterSaleWindowMs: 60_000 });
  value(SETTLEMENT_POLICY, { maxDeliveries: 10 });
  value(SHIPMENT_POLICY, { confirmAfterMs: 90_000 });
  value(SALE_POLICY, { payTimeoutMs: PAY_TIMEOUT_MS, backlogLimit: 1_000 });
  value(PURCHASE_TOKEN_POLICY, { secrets: ['a secret of the simulation'], ttlMs: 60_000 });
});

/** The product domain on ports in memory, and everything around it. */
export class World {
  readonly random: Random;
  readonly scheduler: Scheduler;
  readonly faults: Faults;
  readonly store: MemoryStore;
  readonly outbox: MemoryOutbox;
  readonly orderRepo: MemoryOrderRepo;
  readonly provider: MemoryPaymentProvider;
  readonly redis: MemoryRedis;
  readonly units: UnitsWatch;
  readonly stream: MemoryPurchaseStream;
  readonly saleRepo: MemorySaleRepo;
  readonly vipLimits: MemoryVipLimitRepo;
  readonly paymentRepo: MemoryPaymentRepo;
  readonly refundRepo: MemoryRefundRepo;
  readonly instanceRepo: MemoryInstanceRepo;
  readonly catalogRepo: MemoryCatalogRepo;
  readonly stockRepo: MemoryStockRepo;
  readonly saleUnits: MemorySaleUnitsRepo;
  readonly settlementRepo: MemorySettlementRepo;
  readonly instances: InstanceUsecase;
  readonly orders: OrderUsecase;
  readonly refunds: RefundUsecase;
  readonly refundRequests: RefundRequestUsecase;
  readonly shipments: ShipmentUsecase;
  readonly receivers: ReceiverUsecase;
  readonly goodsOrders: GoodsOrderUsecase;
  readonly userCoupons: UserCouponUsecase;
  readonly couponRepo: MemoryCouponRepo;
  readonly userCouponRepo: MemoryUserCouponRepo;
  readonly priceRuleRepo: MemoryPriceRuleRepo;
  readonly history = new History();
  /** Messages that the resource domain has not acknowledged. */
  readonly queue: InstanceEvent[] = [];
  /** All messages published so far. */
  readonly published: InstanceEvent[] = [];
  /** All entries that foreign clients added. */
  readonly entries: ForeignEntry[] = [];
  /** What was lost in this run: data of Redis; what a consumer had in memory. */
  readonly losses = { redis: false, memory: false };
  /** Differences between admission and PostgreSQL that the keeper had to mend although nothing explains them. */
  readonly drifts: string[] = [];
  private readonly saleUsecase: SaleUsecase;
  private readonly products: ProductUsecase;
  private readonly catalog: CatalogUsecase;
  private readonly coupons: CouponUsecase;
  private readonly ids: IdGenerator;
  /** Holds what the replicas share: the ports, which stand for the servers. */
  private readonly data: Container;
  private readonly biz: ProviderSet;
  private ageMs = 0;
  private looks = 0;
  /** A pause ends at some turn; whatever does not answer has died with its caller. */
  private readonly pace: Pace = {
    now: () => LOOK_MS * ++this.looks,
    pause: () => this.scheduler.turn(),
    waitFor: async (work) => {
      await work;
    },
  };

  constructor(
    readonly seed: number,
    readonly bugs: Bugs = {},
  ) {
    this.random = new Random(seed);
    this.scheduler = new Scheduler(this.random, MAX_TURNS);
    this.faults = new Faults(this.random, this.scheduler, this.random.pick([0, 0.02, 0.05, 0.1]));
    this.store = new MemoryStore({
      around: (operation, work) => this.faults.around(operation, work),
      pause: (wait) => this.faults.pause(wait),
      now: () => new Date(this.nowMs),
      process: () => this.scheduler.context,
    });
    this.faults.onDeath = (process) => this.store.rollBackOf(process);
    this.redis = new (bugs.redis ?? MemoryRedis)(
      () => this.nowMs,
      (operation, work) =>
        this.faults.around(operation, async () => {
          const result = await work();
          this.units.look();
          return result;
        }),
    );
    this.units = new UnitsWatch(this.redis);
    this.provider = new (bugs.provider ?? MemoryPaymentProvider)('testpay');
    const faulty = providers(({ value, create }) => {
      value(MemoryStore, this.store);
      value(PAYMENT_PROVIDERS, [this.provider]);
      create(StockGate, [], () => new NoGate());
    });
    const ofThisWorld = providers(({ value, create }) => {
      value(MemoryRedis, this.redis);
      value(MemoryAdmission, new MemoryAdmission(this.redis, this.pace));
      create(SaleCache, [MemorySaleRepo], (sales) => {
        const findCurrent = (itemId: bigint) => this.faults.shared(() => sales.findCurrent(itemId));
        return new SaleCache({ findCurrent }, () => this.nowMs);
      });
      // Its next turn is one of the simulation.
      create(
        SettlementUsecase,
        SETTLEMENT_NEEDS,
        (...needs) => new SettlementUsecase(...needs, Date.now, () => this.scheduler.turn()),
      );
    });
    const modules = replaced([memoryDataModule, productBizModule], ofThisWorld);
    const [data, biz] = bugs.replacements ? replaced(modules, bugs.replacements) : modules;
    this.biz = biz!;
    this.data = containerOf([data!, faulty, policies]);
    this.outbox = this.data.get(MemoryOutbox);
    this.orderRepo = this.data.get(MemoryOrderRepo);
    this.paymentRepo = this.data.get(MemoryPaymentRepo);
    this.refundRepo = this.data.get(MemoryRefundRepo);
    this.instanceRepo = this.data.get(MemoryInstanceRepo);
    this.catalogRepo = this.data.get(MemoryCatalogRepo);
    this.stockRepo = this.data.get(MemoryStockRepo);
    this.couponRepo = this.data.get(MemoryCouponRepo);
    this.userCouponRepo = this.data.get(MemoryUserCouponRepo);
    this.priceRuleRepo = this.data.get(MemoryPriceRuleRepo);
    this.saleUnits = this.data.get(MemorySaleUnitsRepo);
    this.settlementRepo = this.data.get(MemorySettlementRepo);
    this.saleRepo = this.data.get(MemorySaleRepo);
    this.vipLimits = this.data.get(MemoryVipLimitRepo);
    this.stream = this.data.get(MemoryPurchaseStream);
    this.ids = this.data.get(IdGenerator);
    const replica = this.newReplica();
    this.products = replica.get(ProductUsecase);
    this.catalog = replica.get(CatalogUsecase);
    this.instances = replica.get(InstanceUsecase);
    this.orders = replica.get(OrderUsecase);
    this.refunds = replica.get(RefundUsecase);
    this.refundRequests = replica.get(RefundRequestUsecase);
    this.shipments = replica.get(ShipmentUsecase);
    this.receivers = replica.get(ReceiverUsecase);
    this.goodsOrders = replica.get(GoodsOrderUsecase);
    this.coupons = replica.get(CouponUsecase);
    this.userCoupons = replica.get(UserCouponUsecase);
    this.saleUsecase = replica.get(SaleUsecase);
  }

  get nowMs(): number {
    return TIME_ZERO_MS + this.ageMs;
  }

  /** The entries of an item in the streams of all its segments. */
  waiting(itemId: bigint): readonly StreamEntry[] {
    return inOrder(this.redis.servers.flatMap((server) => server.entries(itemId)));
  }

  pass(ms: number): void {
    this.ageMs += ms;
  }

  user(i: number): string {
    return formatUserId(String(FIRST_USER + i));
  }

  randomUser(): string {
    return this.user(this.random.int(USERS));
  }

  /** Makes the products, SKUs and sales. */
  async open(): Promise<Shop> {
    let made: Shop | undefined;
    await this.calmly(async () => {
      const product = async (name: string) => {
        const spec = await this.products.createSpec({ cpu: 1, memoryGb: 1, gpu: 0, image: 'i', config: undefined });
        return this.products.create({
          ...{ name, description: '', status: 'ENABLED', priceFen: 9_900n, specId: spec.id },
          ...{ imageUrl: '', sellerId: undefined },
        });
      };
      const sale = async (payMode: Sale['payMode'], goods?: { skuId: bigint; stock: bigint }) => {
        const itemId = goods?.skuId ?? (await product(payMode)).id;
        const total = goods ? goods.stock - BigInt(this.random.int(3)) : BigInt(1 + this.random.int(7));
        const endsAt = this.random.chance(0.2) ? new Date(this.nowMs + 1.5 * PAY_TIMEOUT_MS) : undefined;
        await this.saleUsecase.create({
          ...{ itemId, name: '', startsAt: new Date(this.nowMs), endsAt, total, payMode, payTimeoutMs: PAY_TIMEOUT_MS },
          priceFen: payMode === 'PREPAID' ? 0n : 100n,
          segments: this.random.pick(SEGMENTS),
          defaultLimit: goods ? 2 + this.random.int(3) : 1 + this.random.int(2),
        });
        return (await this.saleUsecase.open(itemId)).sale;
      };
      const sales = [await sale('PREPAID'), await sale('PAY_LATER')];
      const goods = [await sale('PREPAID', await this.sku()), await sale('PAY_LATER', await this.sku())];
      made = { plan: await product('plan'), sales: [...sales, ...goods], coupons: await this.couponShop() };
    });
    if (!made) throw new Error('the sales were not opened');
    return made;
  }

  private async couponShop(): Promise<CouponShop> {
    const coupon = await this.coupons.create({
      ...{ name: 'coupon', value: { kind: 'AMOUNT', offFen: 30n }, scope: { kind: 'ALL' }, enabled: true },
      ...{ startsAt: new Date(0), endsAt: undefined, total: BigInt(2 + this.random.int(3)), limitPerUser: 1 },
    });
    const basket = async () => [(await this.sku()).skuId, (await this.sku()).skuId];
    return { couponId: coupon.id, baskets: [await basket(), await basket()] };
  }

  /** Each replica has caches of its own. */
  newReplica(): Container {
    return containerOf([this.biz], this.data);
  }

  private async sku(): Promise<{ skuId: bigint; stock: bigint }> {
    const no = String(this.ids.nextId());
    const spu = await this.catalog.createSpu({
      ...{ spuNo: no, title: 'goods', categoryId: 0n, brandId: 0n, mainImages: [], detailHtml: '' },
      publishStatus: 'PUBLISHED',
    });
    const stock = BigInt(5 + this.random.int(3));
    const sku = { spuId: spu.id, skuNo: no, skuName: 'goods', priceFen: 100n, marketPriceFen: 0n, specs: {} };
    const { id: skuId } = await this.catalog.createSku(sku, stock);
    return { skuId, stock };
  }

  /** Runs `work` with this world's clock as Date.now. */
  async clocked<T>(work: () => Promise<T>): Promise<T> {
    const real = Date.now;
    Date.now = () => this.nowMs;
    try {
      return await work();
    } finally {
      Date.now = real;
    }
  }

  /** Runs one actor without faults. */
  async calmly(work: () => Promise<void>): Promise<void> {
    const { active } = this.faults;
    this.faults.active = false;
    await this.scheduler.run([work]);
    this.faults.active = active;
  }
}
