/** Carts: put and get over gRPC against a bare HSET and HGETALL in the same process, and carts saved behind the replies. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { GetCartRequest, PutCartItemRequest } from '../gen/cart/v1/cart.js';
import { userCart } from '../internal/biz/cart/cart-owner.js';
import { type CartLine, QUANTITY_MAX } from '../internal/biz/cart/cart-store.js';
import { formatUserId } from '../internal/biz/identity.js';
import { RedisCartStore } from '../internal/data/redis/cart.js';
import { RedisServer } from '../internal/data/redis/redis.js';
import { projectRoot } from '../internal/local/project.js';
import { freePort } from '../internal/local/servers/ports.js';
import type { Bench } from './bench.js';
import { interleave, type Measure } from './figures.js';
import { cpuOf, ID } from './goals.js';
import { ghz, type Load, requireNoFailures, variedLoad } from './load.js';
import { COUNTS, cpuSecondsOf } from './processes.js';
import type { Listening, Space } from './stage.js';

/** Users that the load is spread over, each with a cart of `LINES` lines. */
const USERS = 200;
const LINES = 5;
const PUT = '/cart.v1.CartService/PutCartItem';
const GET = '/cart.v1.CartService/GetCart';

export async function measureCarts(bench: Bench): Promise<void> {
  const { stage, plan, figures, onLine } = bench;
  const space = await stage.space();
  const product = await stage.service('product', space, { server: { roles: ['api'] } });
  const ours = { addr: product.grpc, pid: product.pid };
  const bare = await startCartLimit(bench, space);
  const skuIds = await insertSkus(bench, space);
  const redis = new RedisServer({ addr: space.redisUrl, readTimeoutMs: 5_000, connectTimeoutMs: 5_000, keyPrefix: '' });
  try {
    await redis.ready(5_000);
    // Each put changes the quantity, so that it is a write here as well.
    const puts = skuIds.flatMap((skuId) =>
      [1, 2, 3].map((quantity) => PutCartItemRequest.encode({ skuId, quantity, selected: undefined }).finish()),
    );
    const gets = [GetCartRequest.encode({ region: '', couponId: 0n }).finish()];
    const measure = (id: string, target: Listening, path: string, bodies: readonly Uint8Array[]): Measure => ({
      id,
      run: async () => {
        const load = () => variedLoad({ path, bodies, users: USERS, target: target.addr, seconds: plan.seconds });
        return counted(bench, id, target.pid, load);
      },
    });
    // Fills the carts of both.
    for (const target of [ours, bare]) await measure(ID.cartPut, target, PUT, puts).run();
    figures.forget(cpuOf(ID.cartPut));
    const measures = [
      measure(ID.barePut, bare, PUT, puts),
      measure(ID.cartPut, ours, PUT, puts),
      measure(ID.bareGet, bare, GET, gets),
      measure(ID.cartGet, ours, GET, gets),
      whileSaving(bench, space, redis, skuIds, measure(ID.cartPutSaving, ours, PUT, puts)),
      ...overGhz(bench, ours, skuIds),
    ];
    await interleave(measures, plan.rounds, figures, onLine);
  } finally {
    redis.close();
    await product.stop();
  }
}

/** Puts while another process saves `plan.carts` carts, and how many it saves each second. */
function whileSaving(bench: Bench, space: Space, redis: RedisServer, skuIds: readonly bigint[], put: Measure): Measure {
  return {
    id: put.id,
    run: async () => {
      const { plan, stage, figures } = bench;
      const carts = new RedisCartStore(redis, { saveAfterMs: 1, ttlMs: 3_600_000 });
      await fill(carts, plan.carts, skuIds);
      const saver = await stage.service('product', space, { server: { roles: ['cart_saver'] } });
      try {
        const startedAt = performance.now();
        const perSecond = await put.run();
        // The users of the load change their carts all the time, so theirs are never the last.
        while ((await carts.backlog()).units > USERS) await new Promise((resolve) => setTimeout(resolve, 20));
        figures.add(ID.cartsSaved, plan.carts / ((performance.now() - startedAt) / 1_000));
        return perSecond;
      } finally {
        await saver.stop();
      }
    },
  };
}

/** Unsaved carts of users without a load. */
async function fill(carts: RedisCartStore, count: number, skuIds: readonly bigint[]): Promise<void> {
  const addedAt = new Date();
  const lines = skuIds.map((skuId): CartLine => ({ skuId, quantity: 2, selected: true, addedAt, priceFen: 9_900n }));
  const copy = { version: BigInt(Date.now()) * 1_000n, taken: 0n, merged: false, changed: true, lines };
  for (let i = 0; i < count; i += 1_000) {
    const users = Array.from({ length: Math.min(1_000, count - i) }, (_, n) => 1_000_000 + i + n);
    await Promise.all(
      users.map(async (user) => {
        const owner = userCart(formatUserId(String(user)));
        await carts.load(owner, copy);
        // One that an earlier round has left in Redis is changed.
        await carts.remove(owner, [skuIds[0] ?? 0n]);
        const terms = { selected: true, priceFen: 9_900n, mayAdd: true };
        await carts.put(owner, { skuId: skuIds[0] ?? 0n, quantity: 1 + (user % QUANTITY_MAX), ...terms });
      }),
    );
  }
}

function overGhz({ plan, generators, figures }: Bench, { addr }: Listening, skuIds: readonly bigint[]): Measure[] {
  const program = generators.ghz;
  return (
    [
      [ID.cartPutGhz, 'put-cart-item', { sku_id: String(skuIds[0]), quantity: 2 }],
      [ID.cartGetGhz, 'get-cart', {}],
    ] as const
  ).flatMap(([id, scenario, data]) => {
    if (program === undefined) {
      figures.skip(id, 'ghz cannot be had here');
      return [];
    }
    return [
      { id, run: async () => (await ghz(program, { scenario, data, target: addr, seconds: plan.seconds })).perSecond },
    ];
  });
}

async function startCartLimit({ stage }: Bench, space: Space): Promise<Listening> {
  const program = fileURLToPath(new URL('./cart-limit.js', import.meta.url));
  const [http, metrics] = [await freePort(), await freePort()];
  return stage.server('cart-limit', 'env', (addr) => [
    ...[`KAIMAI_POSTGRES_URL=${space.postgresUrl}`, `KAIMAI_REDIS_URL=${space.redisUrl}`],
    ...[`KAIMAI_RABBITMQ_URL=${stage.url('rabbitmq')}`, `KAIMAI_DATA_RABBITMQ_QUEUE=${space.queue}`],
    ...[`KAIMAI_SERVER_GRPC_ADDR=${addr}`, `KAIMAI_SERVER_HTTP_ADDR=127.0.0.1:${http}`],
    ...[`KAIMAI_SERVER_METRICS_ADDR=127.0.0.1:${metrics}`, 'KAIMAI_SERVER_ROLES=api', 'KAIMAI_LOG_LEVEL=warn'],
    ...[process.execPath, program, '-conf', join(projectRoot, 'configs/product.yaml')],
  ]);
}

async function insertSkus({ stage }: Bench, space: Space): Promise<readonly bigint[]> {
  const rows = await stage.sql<{ id: string }>(
    space.postgresUrl,
    `WITH p AS (
        INSERT INTO spu (spu_no, title, category_id, brand_id, publish_status) VALUES ('cart', 'Phone', 1, 1, 1) RETURNING id)
      INSERT INTO sku (spu_id, sku_no, sku_name, price, specs, stock)
      SELECT p.id, 'cart-' || n, 'Phone, black', 9900, '{"color": "black"}', 1000000 FROM p, generate_series(1, ${LINES}) AS n
      RETURNING id`,
  );
  return rows.map(({ id }) => BigInt(id));
}

/** The rate of a load, and the CPU time of the server and of Redis for each reply. */
async function counted({ stage, figures }: Bench, id: string, pid: number, run: () => Promise<Load>): Promise<number> {
  const { redisPid } = stage;
  const seconds = () => cpuSecondsOf(pid) + (redisPid === undefined ? 0 : cpuSecondsOf(redisPid));
  const before = COUNTS ? seconds() : 0;
  const load = await run();
  requireNoFailures(load);
  if (COUNTS && load.answered > 0) figures.add(cpuOf(id), ((seconds() - before) * 1e6) / load.answered);
  return load.perSecond;
}
