import { randomUUID } from 'node:crypto';
import { Registry } from 'prom-client';
import { isSaleUnavailable } from '../../gen/seckill/v1/errors.js';
import { CatalogUsecase, type Sku } from '../../internal/biz/catalog/catalog.js';
import { ItemDirectory } from '../../internal/biz/catalog/item.js';
import { type Product, ProductUsecase } from '../../internal/biz/catalog/product.js';
import { formatUserId } from '../../internal/biz/identity.js';
import { InstanceUsecase } from '../../internal/biz/instance/instance.js';
import { OrderUsecase } from '../../internal/biz/order/order.js';
import { OutboxUsecase } from '../../internal/biz/outbox.js';
import type { Delivery } from '../../internal/biz/seckill/purchase-stream.js';
import { PurchaseTokens } from '../../internal/biz/seckill/purchase-token.js';
import { SaleReservedUnits } from '../../internal/biz/seckill/reserved-units.js';
import { type CreateSale, SaleUsecase } from '../../internal/biz/seckill/sale.js';
import { SaleCache } from '../../internal/biz/seckill/sale-cache.js';
import { SaleStock } from '../../internal/biz/seckill/sale-stock.js';
import { SaleWatch } from '../../internal/biz/seckill/sale-watch.js';
import { SeckillUsecase } from '../../internal/biz/seckill/seckill.js';
import { SeckillReturnHandler, TOPIC_SECKILL_RETURN } from '../../internal/biz/seckill/seckill-return.js';
import { SettlementUsecase } from '../../internal/biz/seckill/settlement.js';
import type { Settlement } from '../../internal/biz/seckill/settlement-state.js';
import { WaitingRoomUsecase } from '../../internal/biz/seckill/waiting-room.js';
import { PgCatalogRepo } from '../../internal/data/postgres/catalog.js';
import { LeasedIdGenerator } from '../../internal/data/postgres/id-generator.js';
import { PgInstanceRepo } from '../../internal/data/postgres/instance.js';
import { PgOrderRepo } from '../../internal/data/postgres/order.js';
import { PgOutbox, PgOutboxRepo } from '../../internal/data/postgres/outbox.js';
import { PgPaymentRepo } from '../../internal/data/postgres/payment.js';
import { Postgres } from '../../internal/data/postgres/postgres.js';
import { PgProductRepo } from '../../internal/data/postgres/product.js';
import { PgSaleRepo } from '../../internal/data/postgres/sale.js';
import { PgSaleUnitsRepo } from '../../internal/data/postgres/sale-units.js';
import { PgSettlementRepo } from '../../internal/data/postgres/settlement.js';
import { PgStockRepo } from '../../internal/data/postgres/stock.js';
import { RedisAdmission } from '../../internal/data/redis/admission.js';
import { RedisPurchaseConsumer, RedisPurchaseStream } from '../../internal/data/redis/purchase-stream.js';
import { RedisServer } from '../../internal/data/redis/redis.js';
import { saleKeys } from '../../internal/data/redis/seckill-keys.js';
import { RedisWaitingRoom } from '../../internal/data/redis/waiting-room.js';
import { SilentLogger } from '../../internal/kratos/log/logger.js';
import { SeckillConsumer, type SeckillConsumerOptions } from '../../internal/server/seckill-consumer.js';
import { SeckillOrderService } from '../../internal/service/seckill.js';
import type { SuiteServers } from './servers.js';

export const MAX_DELIVERIES = 3;
export const TOKEN_TTL_MS = 60_000;

/** The flash sale on real servers, as one replica of product has it, without its listeners. */
export class SeckillReplica {
  readonly db: Postgres;
  readonly redis: RedisServer;
  readonly ids: LeasedIdGenerator;
  readonly products: ProductUsecase;
  readonly catalog: CatalogUsecase;
  readonly instances: InstanceUsecase;
  readonly orders: OrderUsecase;
  readonly admission: RedisAdmission;
  readonly sales: SaleUsecase;
  readonly saleCache: SaleCache;
  readonly watches: SaleWatch;
  readonly tokens: PurchaseTokens;
  readonly room: RedisWaitingRoom;
  readonly waitingRoom: WaitingRoomUsecase;
  readonly seckill: SeckillUsecase;
  readonly settlements: SettlementUsecase;
  readonly outbox: OutboxUsecase;
  readonly saleRepo: PgSaleRepo;

  constructor(servers: SuiteServers, connectTimeoutMs = 5_000) {
    this.db = new Postgres({
      source: servers.postgresUrl,
      poolSize: 8,
      role: 'kaimai_product',
      statementTimeoutMs: 10_000,
      connectTimeoutMs,
      applicationName: 'seckill-test',
    });
    this.redis = new RedisServer({ addr: servers.redisUrl, readTimeoutMs: 5_000, connectTimeoutMs, keyPrefix: '' });
    this.ids = new LeasedIdGenerator(servers.postgresUrl, connectTimeoutMs);
    const products = new PgProductRepo(this.db);
    const orders = new PgOrderRepo(this.db);
    const payments = new PgPaymentRepo(this.db);
    const settlements = new PgSettlementRepo(this.db);
    const stream = new RedisPurchaseStream(this.redis);
    const catalog = new PgCatalogRepo(this.db);
    const stock = new PgStockRepo(this.db);
    const items = new ItemDirectory(products, catalog);
    this.catalog = new CatalogUsecase(this.db, catalog, stock);
    this.saleRepo = new PgSaleRepo(this.db);
    this.admission = new RedisAdmission(this.redis);
    this.products = new ProductUsecase(products);
    this.instances = new InstanceUsecase(this.db, this.ids, products, new PgInstanceRepo(this.db), orders, payments);
    this.orders = new OrderUsecase(
      this.db,
      this.ids,
      this.products,
      orders,
      payments,
      [this.instances],
      new SaleReservedUnits(new PgSaleUnitsRepo(this.db), stock, new PgOutbox(this.db)),
      { payTimeoutMs: 60_000 },
    );
    const saleStock = new SaleStock(this.db, this.saleRepo, stock, this.admission, stream);
    this.sales = new SaleUsecase(this.db, this.ids, items, this.saleRepo, saleStock, this.admission, stream, {
      payTimeoutMs: 60_000,
      backlogLimit: 100_000,
    });
    this.watches = new SaleWatch(this.sales, 20);
    this.saleCache = new SaleCache(this.saleRepo);
    this.tokens = new PurchaseTokens({ secrets: ['a secret of the tests'], ttlMs: TOKEN_TTL_MS });
    this.room = new RedisWaitingRoom(this.redis);
    this.waitingRoom = new WaitingRoomUsecase(this.saleCache, this.room, this.tokens, { capacity: 1_000 });
    this.seckill = new SeckillUsecase(this.saleCache, this.admission, stream, settlements, this.tokens);
    this.settlements = new SettlementUsecase(this.db, this.ids, items, orders, this.instances, settlements, stock, {
      maxDeliveries: MAX_DELIVERIES,
    });
    const returns = new SeckillReturnHandler(this.admission, this.saleRepo);
    this.outbox = new OutboxUsecase(new PgOutboxRepo(this.db), [returns], { batchSize: 100, leaseMs: 10_000 });
  }

  async start(): Promise<void> {
    await this.ids.start();
    await this.redis.ready(5_000);
  }

  async close(): Promise<void> {
    this.redis.close();
    await this.ids.close();
    await this.db.close();
  }

  /** Settles deliveries as a consumer does, without removing them from the stream. */
  async settle(itemId: bigint, deliveries: readonly Delivery[]): Promise<Settlement> {
    return this.settlements.commit(await this.settlements.prepare(itemId, deliveries));
  }

  /** A consumer of the group, as a process would run it. Stop it before the replica is closed. */
  consumer(
    name: string,
    options: Partial<SeckillConsumerOptions> = {},
    service?: SeckillOrderService,
  ): SeckillConsumer {
    return new SeckillConsumer(
      this.streamConsumer(name),
      service ?? new SeckillOrderService(this.settlements),
      { batchSize: 100, blockMs: 200, claimIdleMs: 60_000, ...options },
      new SilentLogger(),
      new Registry(),
    );
  }

  streamConsumer(name: string): RedisPurchaseConsumer {
    return new RedisPurchaseConsumer(this.redis, name);
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

  /** A running sale of a new plan. */
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
  async relayReturns(): Promise<number> {
    return (await this.outbox.dispatchRound(TOPIC_SECKILL_RETURN, () => {})).published;
  }

  async rows<T extends object>(sql: string, ...values: unknown[]): Promise<T[]> {
    return (await this.db.pool.query<T>(sql, values)).rows;
  }

  async idle(itemId: bigint): Promise<boolean> {
    return (await this.redis.commands.xlen(saleKeys('', itemId).stream)) === 0;
  }

  /** What reliability.md asks of an item at rest; undefined where all of it holds. */
  async faultsOf(itemId: bigint): Promise<readonly string[]> {
    const faults: string[] = [];
    const keys = saleKeys('', itemId);
    const expect = (what: string, actual: unknown, wanted: unknown) => {
      if (String(actual) !== String(wanted)) faults.push(`${what}: ${actual}, not ${wanted}`);
    };
    const [sale] = await this.rows<{ id: bigint; total: bigint; sold: bigint; epoch: bigint; status: number }>(
      'SELECT id, total, sold, epoch, status FROM sales WHERE item_id = $1 ORDER BY id DESC LIMIT 1',
      itemId,
    );
    const [live] = await this.rows<{ units: bigint; instances: bigint }>(
      `SELECT coalesce(sum(quantity), 0)::bigint AS units,
         count(*) FILTER (WHERE status IN (1, 3) AND instance_id IS NULL) AS instances
       FROM orders WHERE status <> 2 AND ($1::bigint IS NULL OR sale_id = $1) AND product_id = $2`,
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
        expect('epoch in Redis', state?.epoch, sale.epoch);
        expect('units left in Redis', state?.remaining, sale.total - sale.sold);
        const buyers = await this.rows<{ user_id: string; units: bigint }>(
          `SELECT user_id, sum(quantity) AS units FROM orders WHERE sale_id = $1 AND status <> 2 GROUP BY user_id`,
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
       LEFT JOIN orders o ON o.id = i.order_id AND o.product_id = i.item_id
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
