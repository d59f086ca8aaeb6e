import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RedisServer } from '../../../internal/data/redis/redis.js';
import { ApiError, type DemoClient } from './client.js';

const OPEN_RETRY_MS = 200;

export interface DemoOptions {
  readonly stock: number;
  readonly buyers: number;
  /** Longest wait until the orders are completed. */
  readonly timeoutMs: number;
}

/** A row of the closing table. */
export interface DemoStep {
  readonly step: string;
  readonly result: string;
  /** Ids to look the result up by. */
  readonly ids: string;
}

/** What earlier steps leave for later ones. */
export interface DemoState {
  productId: string;
  /** Orders that must end as COMPLETED (or REFUNDING, where the simulator fails on purpose). */
  readonly orders: { readonly id: string; readonly userId: string; readonly source: string }[];
  readonly seckills: { readonly id: string; readonly userId: string }[];
  readonly steps: DemoStep[];
}

interface OrderReply {
  id: string;
  orderNo: string;
  status: string;
  amountFen: string;
  instanceId: string;
}

export interface PurchaseReply {
  code: string;
  data?: { seckillId: string } | null;
}

export interface RecordReply {
  status: string;
  orderId: string;
  reason: string;
}

const POLL_MS = 100;
/** Concurrent purchases: enough for contention, few enough for a laptop. */
const CONCURRENCY = 64;

export async function createProduct(client: DemoClient, state: DemoState): Promise<void> {
  const spec = await client.admin<{ id: string }>('POST', '/v1/product-specs', {
    cpu: 2,
    memory: 4,
    image: 'debian-12',
    configJson: { disk_gb: 40 },
  });
  const product = await client.admin<{ id: string; name: string }>('POST', '/v1/products', {
    name: 'Demo plan',
    description: 'created by kaimai demo',
    priceFen: '9900',
    specId: spec.id,
    status: 'ENABLED',
  });
  state.productId = product.id;
  state.steps.push({ step: 'product on sale', result: '2 cores, 4 GB, ¥99.00', ids: `product ${product.id}` });
}

export async function ordinaryPurchase(client: DemoClient, state: DemoState): Promise<void> {
  const userId = randomUUID();
  const requestId = randomUUID();
  const wanted = { productId: state.productId, requestId };
  const order = await client.user<OrderReply>(userId, 'POST', '/v1/orders', wanted);
  const again = await client.user<OrderReply>(userId, 'POST', '/v1/orders', wanted);
  if (again.id !== order.id) throw new Error(`one request id created two orders: ${order.id} and ${again.id}`);
  state.steps.push({
    step: 'ordinary order',
    result: `${order.status}; requested twice, created once`,
    ids: `order ${order.orderNo}`,
  });
  const notice = { provider: 'demo', eventId: requestId, paidAmountFen: order.amountFen };
  const paid = await client.pay<OrderReply>(order.id, notice);
  state.orders.push({ id: order.id, userId, source: 'ORDER' });
  state.steps.push({
    step: 'payment callback',
    result: `${paid.status}; instance requested`,
    ids: `instance ${paid.instanceId}`,
  });
}

export async function openSale(client: DemoClient, state: DemoState, options: DemoOptions): Promise<void> {
  await client.admin('POST', '/v1/sales', {
    itemId: state.productId,
    name: 'Demo sale',
    total: String(options.stock),
    priceFen: '4900',
    defaultLimit: 1,
  });
  await openNow(client, state.productId, Date.now() + options.timeoutMs);
  state.steps.push({
    step: 'sale opened',
    result: `${options.stock} units at ¥49.00, one per buyer`,
    ids: `sale of ${state.productId}`,
  });
}

/** Another replica may be loading the sale at this moment, because its time has come. */
export async function openNow(client: DemoClient, itemId: string, deadlineAtMs: number): Promise<void> {
  for (;;) {
    try {
      await client.admin('POST', `/v1/sales/${itemId}/open`, {});
      return;
    } catch (err) {
      if (!(err instanceof ApiError && err.reason === 'SALE_UNAVAILABLE') || Date.now() > deadlineAtMs) throw err;
      await sleep(OPEN_RETRY_MS);
    }
  }
}

export async function rush(
  client: DemoClient,
  state: DemoState,
  options: DemoOptions,
  progress: (text: string) => void,
): Promise<void> {
  const outcomes = new Map<string, number>();
  let done = 0;
  let example = '';
  const begun = performance.now();
  await inParallel(options.buyers, async () => {
    const userId = randomUUID();
    const reply = await client.user<PurchaseReply>(userId, 'POST', '/v1/seckill', { itemId: state.productId });
    outcomes.set(reply.code, (outcomes.get(reply.code) ?? 0) + 1);
    if (reply.code === 'QUEUED' && reply.data) {
      example = `e.g. seckill ${reply.data.seckillId}`;
      state.seckills.push({ id: reply.data.seckillId, userId });
    }
    progress(`${++done}/${options.buyers} buyers`);
  });
  const tookMs = Math.round(performance.now() - begun);
  const admitted = outcomes.get('QUEUED') ?? 0;
  if (admitted > options.stock) throw new Error(`oversold: ${admitted} admitted of ${options.stock}`);
  state.steps.push({
    step: 'competing buyers',
    result: `${options.buyers} in ${tookMs} ms: ${[...outcomes].map(([code, n]) => `${n} ${code}`).join(', ')}`,
    ids: example,
  });
}

/** Adds a purchase as an operator would with redis-cli: past admission, straight to the stream. */
export async function directEntry(
  openRedis: (keyPrefix: string) => Promise<RedisServer>,
  state: DemoState,
): Promise<void> {
  const redis = await openRedis('');
  try {
    const { stream } = redis.keys.sale(BigInt(state.productId));
    const id = await redis.commands.xadd(stream, '*', 'uid', '123', 'ts', String(Math.floor(Date.now() / 1000)));
    if (id === null) throw new Error(`XADD ${stream} returned no id`);
    state.seckills.push({ id: `${state.productId}-${id}`, userId: '123' });
    state.steps.push({ step: 'XADD to the stream', result: 'uid 123', ids: `${stream} ${id}` });
  } finally {
    redis.close();
  }
}

export async function purchasesBecomeOrders(
  client: DemoClient,
  state: DemoState,
  options: DemoOptions,
  progress: (text: string) => void,
): Promise<void> {
  const deadlineAtMs = Date.now() + options.timeoutMs;
  const rejected: string[] = [];
  let done = 0;
  await inParallel(state.seckills.length, async (i) => {
    const { id, userId } = state.seckills[i]!;
    const record = await until(
      () => client.user<RecordReply>(userId, 'GET', `/v1/seckill/${id}`),
      (r) => r.status !== 'QUEUED',
      deadlineAtMs,
      `purchase ${id} has no order yet`,
    );
    if (record.status === 'REJECTED') rejected.push(record.reason);
    else state.orders.push({ id: record.orderId, userId, source: 'SECKILL' });
    progress(`${++done}/${state.seckills.length} purchases`);
  });
  const orders = state.orders.filter((o) => o.source === 'SECKILL');
  const rejections =
    rejected.length === 0 ? '' : `, ${rejected.length} rejected (${[...new Set(rejected)].join(', ')})`;
  state.steps.push({
    step: 'purchases settled',
    result: `${orders.length} orders${rejections}`,
    ids: orders[0] ? `e.g. order ORD${orders[0].id}` : '',
  });
}

export async function grant(client: DemoClient, state: DemoState): Promise<void> {
  const granted = await client.admin<{ instanceId: string; source: string; sourceId: string }>(
    'POST',
    '/v1/instances/grant',
    { productId: state.productId, userId: '123', sourceId: `ACT${randomUUID().slice(0, 8)}` },
  );
  state.steps.push({
    step: 'instance granted',
    result: `source ${granted.source}, ${granted.sourceId}`,
    ids: `instance ${granted.instanceId}`,
  });
}

export async function ordersComplete(
  client: DemoClient,
  state: DemoState,
  options: DemoOptions,
  progress: (text: string) => void,
): Promise<void> {
  const deadlineAtMs = Date.now() + options.timeoutMs;
  const statuses = new Map<string, number>();
  let done = 0;
  let example = '';
  await inParallel(state.orders.length, async (i) => {
    const { id, userId } = state.orders[i]!;
    const order = await until(
      () => client.user<OrderReply>(userId, 'GET', `/v1/orders/${id}`),
      (o) => o.status !== 'PAID',
      deadlineAtMs,
      `order ${id} has no instance yet`,
    );
    statuses.set(order.status, (statuses.get(order.status) ?? 0) + 1);
    example = `e.g. instance ${order.instanceId}`;
    progress(`${++done}/${state.orders.length} orders`);
  });
  state.steps.push({
    step: 'instances running',
    result: [...statuses].map(([status, n]) => `${n} ${status}`).join(', '),
    ids: example,
  });
}

/** Runs `work` for 0 … count-1, a bounded number at a time. */
async function inParallel(count: number, work: (i: number) => Promise<void>): Promise<void> {
  let next = 0;
  const lane = async () => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: Math.min(CONCURRENCY, count) }, lane));
}

/** Reads until the value is good. @throws Error with the complaint at the deadline */
export async function until<T>(
  read: () => Promise<T>,
  good: (value: T) => boolean,
  deadlineAtMs: number,
  complaint: string,
): Promise<T> {
  for (;;) {
    const value = await read();
    if (good(value)) return value;
    if (Date.now() > deadlineAtMs) throw new Error(complaint);
    await sleep(POLL_MS);
  }
}
