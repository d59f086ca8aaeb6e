import { CatalogUsecase, type Sku } from '../../internal/biz/catalog/catalog.js';
import { ItemDirectory } from '../../internal/biz/catalog/item.js';
import { type Product, ProductUsecase } from '../../internal/biz/catalog/product.js';
import { type StockRepo, saleHeld } from '../../internal/biz/catalog/stock.js';
import { formatUserId } from '../../internal/biz/identity.js';
import { type InstanceEvent, InstanceUsecase } from '../../internal/biz/instance/instance.js';
import { OrderUsecase } from '../../internal/biz/order/order.js';
import type { ReservedUnits } from '../../internal/biz/order/reserved-units.js';
import type { Outbox } from '../../internal/biz/outbox.js';
import { SaleReservedUnits, type SaleUnitsRepo } from '../../internal/biz/seckill/reserved-units.js';
import type { Sale } from '../../internal/biz/seckill/sale-state.js';
import { SettlementUsecase } from '../../internal/biz/seckill/settlement.js';
import { MemoryCatalogRepo } from '../support/memory/catalog.js';
import { CountingIds } from '../support/memory/id-generator.js';
import { MemoryInstanceRepo } from '../support/memory/instance.js';
import { MemoryOrderRepo } from '../support/memory/order.js';
import { MemoryOutbox } from '../support/memory/outbox.js';
import { MemoryPaymentRepo } from '../support/memory/payment.js';
import { MemoryProductRepo } from '../support/memory/product.js';
import { MemorySaleUnitsRepo } from '../support/memory/sale-units.js';
import { MemorySettlementRepo, openSale } from '../support/memory/settlement.js';
import { MemoryStockRepo } from '../support/memory/stock.js';
import { MemoryStore, type MemoryTable } from '../support/memory/store.js';
import { Faults } from './faults.js';
import { Random } from './random.js';
import { Scheduler } from './scheduler.js';

/** Bugs that can be planted, to see that they are found. Empty: the real thing. */
export interface Bugs {
  readonly outbox?: new (store: MemoryStore) => MemoryOutbox;
  readonly orders?: new (store: MemoryStore) => MemoryOrderRepo;
  readonly payments?: new (store: MemoryStore) => MemoryPaymentRepo;
  readonly saleUnits?: new (store: MemoryStore) => MemorySaleUnitsRepo;
  readonly reserved?: new (sales: SaleUnitsRepo, stock: StockRepo, outbox: Outbox) => ReservedUnits;
  readonly stock?: new (store: MemoryStore, skus: MemoryTable<Sku>) => MemoryStockRepo;
  readonly instances?: new (store: MemoryStore, outbox: MemoryOutbox) => MemoryInstanceRepo;
  readonly settlements?: new (
    store: MemoryStore,
    orders: MemoryOrderRepo,
    saleUnits: MemorySaleUnitsRepo,
  ) => MemorySettlementRepo;
  readonly relayMarksFirst?: boolean;
  readonly consumerAcksFirst?: boolean;
  readonly entriesLeaveFirst?: boolean;
}

/** A payment as its provider knows it, with every answer it got. */
export interface KnownPayment {
  readonly orderId: bigint;
  readonly provider: string;
  readonly eventId: string;
  readonly amountFen: bigint;
  /** PAID, or the reason of the error. */
  readonly answers: string[];
}

export interface Entry {
  readonly streamId: string;
  readonly fields: ReadonlyMap<string, string>;
  deliveries: number;
}

/** What the shop has before the first buyer comes. */
export interface Shop {
  readonly plan: Product;
  /** Of plans and of skus. */
  readonly sales: readonly Sale[];
}

/** What callers were told, whatever became of it inside. */
export class History {
  /** User and request id → orders it was answered with. */
  readonly created = new Map<string, Set<bigint>>();
  readonly payments: KnownPayment[] = [];
  readonly cancelled = new Set<bigint>();
  /** (source, source id) → instances it was answered with. */
  readonly granted = new Map<string, Set<bigint>>();
}

const MAX_TURNS = 60_000;
const TIME_ZERO_MS = Date.UTC(2026, 0, 1);
export const PAY_TIMEOUT_MS = 60_000;

/** The product domain on doubles, and all that surrounds it. */
export class World {
  readonly random: Random;
  readonly scheduler: Scheduler;
  readonly faults: Faults;
  readonly store: MemoryStore;
  readonly outbox: MemoryOutbox;
  readonly orderRepo: MemoryOrderRepo;
  readonly paymentRepo: MemoryPaymentRepo;
  readonly instanceRepo: MemoryInstanceRepo;
  readonly catalogRepo: MemoryCatalogRepo;
  readonly stockRepo: MemoryStockRepo;
  readonly saleUnits: MemorySaleUnitsRepo;
  readonly settlementRepo: MemorySettlementRepo;
  readonly instances: InstanceUsecase;
  readonly orders: OrderUsecase;
  readonly history = new History();
  /** Messages that are not acknowledged. */
  readonly queue: InstanceEvent[] = [];
  /** All messages that were ever published. */
  readonly published: InstanceEvent[] = [];
  /** Entries that have not left the stream. */
  readonly stream: Entry[] = [];
  /** All entries that were ever added. */
  readonly entries: Entry[] = [];
  private readonly products: ProductUsecase;
  private readonly productRepo: MemoryProductRepo;
  private readonly ids = new CountingIds();
  private ageMs = 0;

  constructor(
    readonly seed: number,
    readonly bugs: Bugs = {},
  ) {
    this.random = new Random(seed);
    this.scheduler = new Scheduler(this.random, MAX_TURNS);
    this.faults = new Faults(this.random, this.scheduler, this.random.pick([0, 0.02, 0.05, 0.1]));
    this.store = new MemoryStore({
      around: (operation, work) => this.faults.around(operation, work),
      pause: (wait) => this.scheduler.after(wait),
      now: () => new Date(this.nowMs),
    });
    this.outbox = new (bugs.outbox ?? MemoryOutbox)(this.store);
    this.orderRepo = new (bugs.orders ?? MemoryOrderRepo)(this.store);
    this.paymentRepo = new (bugs.payments ?? MemoryPaymentRepo)(this.store);
    this.instanceRepo = new (bugs.instances ?? MemoryInstanceRepo)(this.store, this.outbox);
    this.catalogRepo = new MemoryCatalogRepo(this.store);
    this.stockRepo = new (bugs.stock ?? MemoryStockRepo)(this.store, this.catalogRepo.skus);
    this.saleUnits = new (bugs.saleUnits ?? MemorySaleUnitsRepo)(this.store);
    this.settlementRepo = new (bugs.settlements ?? MemorySettlementRepo)(this.store, this.orderRepo, this.saleUnits);
    this.productRepo = new MemoryProductRepo(this.store);
    this.products = new ProductUsecase(this.productRepo);
    const { store, ids, productRepo, orderRepo, paymentRepo, instanceRepo } = this;
    this.instances = new InstanceUsecase(store, ids, productRepo, instanceRepo, orderRepo, paymentRepo);
    const reserved = new (bugs.reserved ?? SaleReservedUnits)(this.saleUnits, this.stockRepo, this.outbox);
    const policy = { payTimeoutMs: PAY_TIMEOUT_MS };
    this.orders = new OrderUsecase(
      store,
      ids,
      this.products,
      orderRepo,
      paymentRepo,
      [this.instances],
      reserved,
      policy,
    );
  }

  get nowMs(): number {
    return TIME_ZERO_MS + this.ageMs;
  }

  pass(ms: number): void {
    this.ageMs += ms;
  }

  user(i: number): string {
    return formatUserId(String(i + 1));
  }

  /** A process of the consumer of purchases. Each knows by itself what it has read. */
  newConsumer(): SettlementUsecase {
    const { store, ids, productRepo, catalogRepo, orderRepo, instances, settlementRepo, stockRepo } = this;
    const items = new ItemDirectory(productRepo, catalogRepo);
    const policy = { maxDeliveries: 10 };
    return new SettlementUsecase(store, ids, items, orderRepo, instances, settlementRepo, stockRepo, policy);
  }

  /** What the shop has before the first buyer comes. */
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
        const total = BigInt(1 + this.random.int(4));
        const priceFen = payMode === 'PREPAID' ? 0n : 100n;
        const ofGoods = { orderType: 'GOODS', defaultLimit: 3 } as const;
        const opened = openSale({
          ...(goods && ofGoods),
          id: this.ids.nextId(),
          itemId,
          total,
          payMode,
          payTimeoutMs: PAY_TIMEOUT_MS,
          priceFen,
        });
        await this.store.run(async (tx) => {
          await this.saleUnits.insertSale(tx, opened);
          if (goods) await this.stockRepo.move(tx, [saleHeld(opened, total)]);
        });
        return opened;
      };
      const sales = [await sale('PREPAID'), await sale('PAY_LATER')];
      const goods = [await sale('PREPAID', await this.sku()), await sale('PAY_LATER', await this.sku())];
      made = { plan: await product('plan'), sales: [...sales, ...goods] };
    });
    if (!made) throw new Error('the shop did not open');
    return made;
  }

  private async sku(): Promise<{ skuId: bigint; stock: bigint }> {
    const catalog = new CatalogUsecase(this.store, this.catalogRepo, this.stockRepo);
    const no = String(this.ids.nextId());
    const spu = await catalog.createSpu({
      ...{ spuNo: no, title: 'goods', categoryId: 0n, brandId: 0n, mainImages: [], detailHtml: '' },
      publishStatus: 'PUBLISHED',
    });
    const stock = BigInt(5 + this.random.int(3));
    const sku = { spuId: spu.id, skuNo: no, skuName: 'goods', priceFen: 100n, marketPriceFen: 0n, specs: {} };
    const { id: skuId } = await catalog.createSku(sku, stock);
    return { skuId, stock };
  }

  /** Runs `work` by this world's clock. */
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
