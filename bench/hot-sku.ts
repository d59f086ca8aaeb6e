/** Ordinary orders of one SKU by a hundred buyers at a time, against one transaction with a row lock for each. */

import pg from 'pg';
import { IdGenerator } from '../internal/biz/id-generator.js';
import { formatUserId } from '../internal/biz/identity.js';
import { GoodsOrderUsecase } from '../internal/biz/order/goods-order.js';
import { OrderCoupons } from '../internal/biz/order/order-coupons.js';
import { PaidOrders } from '../internal/biz/order/paid-orders.js';
import { Pricing } from '../internal/biz/pricing/pricing.js';
import { SaleReservedUnits } from '../internal/biz/seckill/reserved-units.js';
import { PgCartCheckoutRepo } from '../internal/data/postgres/cart-checkout.js';
import { PgCatalogRepo } from '../internal/data/postgres/catalog.js';
import { PgOrderRepo } from '../internal/data/postgres/order.js';
import { PgOutbox } from '../internal/data/postgres/outbox.js';
import { Postgres } from '../internal/data/postgres/postgres.js';
import { PgPriceRuleRepo } from '../internal/data/postgres/price-rule.js';
import { PgSaleUnitsRepo } from '../internal/data/postgres/sale-units.js';
import { PgStockRepo } from '../internal/data/postgres/stock.js';
import { PgUserCouponRepo } from '../internal/data/postgres/user-coupon.js';
import { RedisServer } from '../internal/data/redis/redis.js';
import { RedisStockGate } from '../internal/data/redis/stock-gate.js';
import type { Bench } from './bench.js';
import { interleave, type Measure } from './figures.js';
import { ID } from './goals.js';
import { ghz, requireNoFailures } from './load.js';
import type { Space } from './stage.js';

const BUYERS = 100;
/** Connections of each way: the default of a worker process. */
const CONNECTIONS = 8;
const STOCK = 1_000_000_000;
export const RECEIVER = { name: 'Zhang San', phone: '13800000000', region: '310115', address: 'Century Avenue 1' };

export async function measureHotSku(bench: Bench): Promise<void> {
  const { plan, figures, onLine } = bench;
  const space = await bench.stage.space();
  const endings: (() => Promise<void> | void)[] = [];
  try {
    const measures = [ours(bench, space, endings), naive(bench, space, endings), ...overRpc(bench, space)];
    await interleave(measures, plan.rounds, figures, onLine);
  } finally {
    for (const end of endings.reverse()) await end();
  }
}

/** CreateOrder's usecase with its real adapters, without the RPC around it, which is the same for both. */
function ours(bench: Bench, space: Space, endings: (() => Promise<void> | void)[]): Measure {
  const db = new Postgres({
    ...{ source: space.postgresUrl, poolSize: CONNECTIONS, role: '', statementTimeoutMs: 60_000 },
    ...{ connectTimeoutMs: 10_000, applicationName: 'kaimai-bench' },
  });
  const redis = new RedisServer({ addr: space.redisUrl, readTimeoutMs: 5_000, connectTimeoutMs: 5_000, keyPrefix: '' });
  endings.push(
    () => db.close(),
    () => redis.close(),
  );
  const gate = new RedisStockGate(redis);
  const ids = new Ids();
  const catalog = new PgCatalogRepo(db);
  const stock = new PgStockRepo(db, gate);
  const rules = new PgPriceRuleRepo(db);
  const userCoupons = new PgUserCouponRepo(db);
  const [repo, pricing] = [new PgOrderRepo(db), new Pricing(rules, userCoupons)];
  const checkouts = new PgCartCheckoutRepo(db);
  const units = new SaleReservedUnits(new PgSaleUnitsRepo(db), stock, new PgOutbox(db));
  const paid = new PaidOrders(repo, [], units, new OrderCoupons(userCoupons));
  const orders = new GoodsOrderUsecase(db, ids, catalog, stock, gate, repo, pricing, checkouts, paid, {
    payTimeoutMs: 900_000,
  });
  return {
    id: ID.hotSku,
    run: async () => {
      await redis.ready(5_000);
      const skuId = await hotSku(bench, space);
      return rate(bench, space, skuId, async () => {
        await orders.create({
          ...{ userId: formatUserId(String(ids.nextId())), lines: [{ skuId, quantity: 1 }], receiver: RECEIVER },
          ...{ remark: '', requestId: '', expectedAmountFen: undefined },
        });
      });
    },
  };
}

/** The same rows by a transaction of its own for each order, which locks the SKU until it has committed. */
function naive(bench: Bench, space: Space, endings: (() => Promise<void> | void)[]): Measure {
  const pool = new pg.Pool({ connectionString: space.postgresUrl, max: CONNECTIONS });
  endings.push(() => pool.end());
  const ids = new Ids();
  return {
    id: ID.hotSkuNaive,
    run: async () => {
      const skuId = await hotSku(bench, space);
      return rate(bench, space, skuId, async () => {
        const client = await pool.connect();
        try {
          await placeAlone(client, ids, skuId);
        } finally {
          client.release();
        }
      });
    },
  };
}

async function placeAlone(client: pg.PoolClient, ids: Ids, skuId: bigint): Promise<void> {
  const ask = (name: string, text: string, values: unknown[]) => client.query({ name, text, values });
  const id = ids.nextId();
  await client.query('BEGIN');
  const { rows } = await ask(
    'naive_lock',
    `SELECT k.price, k.stock - k.lock_stock AS free, k.spu_id, k.sku_name, k.specs, p.title FROM sku k
      JOIN spu p ON p.id = k.spu_id WHERE k.id = $1 FOR UPDATE OF k`,
    [skuId],
  );
  const [sku] = rows as {
    price: string;
    free: string;
    spu_id: string;
    sku_name: string;
    specs: object;
    title: string;
  }[];
  if (!sku || Number(sku.free) < 1) throw new Error('the sku is sold out');
  const item = { sku_id: String(skuId), spu_name: sku.title, sku_name: sku.sku_name, price: sku.price, quantity: 1 };
  await ask(
    'naive_order',
    `INSERT INTO orders (id, user_id, order_type, source, status, product_name, quantity, price, amount, req_id,
        receiver_json, items, pay_deadline)
      VALUES ($1, $2, 'GOODS', 'NORMAL', 0, $3, 1, $4, $4, $5, $6, $7, now() + interval '15 minutes')`,
    [id, formatUserId(String(id)), sku.sku_name, sku.price, ids.nextId(), RECEIVER, JSON.stringify([item])],
  );
  await ask(
    'naive_item',
    `INSERT INTO order_items (order_id, sku_id, spu_id, spu_name, sku_name, specs, price, quantity, total_price)
      VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $7)`,
    [id, skuId, sku.spu_id, sku.title, sku.sku_name, sku.specs, sku.price],
  );
  await ask('naive_event', `INSERT INTO order_events (order_id, version, to_status, actor) VALUES ($1, 1, 0, 'user')`, [
    id,
  ]);
  await ask('naive_hold', 'UPDATE sku SET lock_stock = lock_stock + 1, stock_seq = stock_seq + 1 WHERE id = $1', [
    skuId,
  ]);
  await ask(
    'naive_move',
    `INSERT INTO stock_moves (kind, sku_id, order_id, units, stock_delta, lock_delta) VALUES ('HOLD', $1, $2, 1, 0, 1)`,
    [skuId, id],
  );
  await client.query('COMMIT');
}

/** CreateOrder over gRPC, each call another buyer's, on one worker process. */
function overRpc({ stage, plan, generators, figures }: Bench, space: Space): Measure[] {
  const program = generators.ghz;
  if (program === undefined) {
    figures.skip(ID.hotSkuGhz, 'ghz cannot be had here');
    return [];
  }
  return [
    {
      id: ID.hotSkuGhz,
      run: async () => {
        const product = await stage.service('product', space, { server: { roles: ['api'] } });
        try {
          const skuId = await hotSku({ stage }, space);
          const data = { lines: [{ sku_id: String(skuId), quantity: 1 }], receiver: RECEIVER };
          const options = { scenario: 'create-order', data, target: product.grpc, seconds: plan.seconds };
          const load = await ghz(program, options);
          requireNoFailures(load);
          return load.perSecond;
        } finally {
          await product.stop();
        }
      },
    },
  ];
}

/** A new SKU on sale with more units than any load takes. */
export async function hotSku({ stage }: Pick<Bench, 'stage'>, space: Space): Promise<bigint> {
  const no = `hot-${new Ids().nextId()}`;
  const [sku] = await stage.sql<{ id: string }>(
    space.postgresUrl,
    `WITH p AS (
        INSERT INTO spu (spu_no, title, category_id, brand_id, publish_status) VALUES ($1, 'Phone', 1, 1, 1) RETURNING id),
      k AS (
        INSERT INTO sku (spu_id, sku_no, sku_name, price, specs, stock)
        SELECT id, $1, 'Phone, black', 99900, '{"color": "black"}', ${STOCK} FROM p RETURNING id),
      m AS (
        INSERT INTO stock_moves (kind, sku_id, units, stock_delta, lock_delta)
        SELECT 'ADJUST', id, ${STOCK}, ${STOCK}, 0 FROM k)
      SELECT id FROM k`,
    [no],
  );
  if (!sku) throw new Error('the sku was not stored');
  return BigInt(sku.id);
}

/** Orders per second of a hundred buyers, each of whom orders again as soon as the order is placed. */
async function rate({ stage, plan }: Bench, space: Space, skuId: bigint, order: () => Promise<void>): Promise<number> {
  const startedAt = performance.now();
  const endAt = startedAt + plan.seconds * 1_000;
  let placed = 0;
  await Promise.all(
    Array.from({ length: BUYERS }, async () => {
      while (performance.now() < endAt) {
        await order();
        placed += 1;
      }
    }),
  );
  const seconds = (performance.now() - startedAt) / 1_000;
  const [row] = await stage.sql<{ held: string }>(
    space.postgresUrl,
    'SELECT lock_stock AS held FROM sku WHERE id = $1',
    [skuId],
  );
  if (Number(row?.held) !== placed) throw new Error(`${placed} orders hold ${row?.held} units`);
  return placed / seconds;
}

/** Unique in the space, also among several of these. */
class Ids extends IdGenerator {
  private static last = BigInt(Date.now()) << 20n;

  override nextId(): bigint {
    return ++Ids.last;
  }
}
