/** The hot RPCs besides Purchase, by ghz: one worker, each with its scenario in bench/ghz. */
import type { Bench } from './bench.js';
import { interleave, type Measure } from './figures.js';
import { ID } from './goals.js';
import { hotSku, RECEIVER } from './hot-sku.js';
import { ghz, requireNoFailures } from './load.js';
import { NO_BACKLOG_LIMIT, type Sale } from './stage.js';

const UNITS = 100_000_000;
const BATCH = 32;
/** Orders of the user who lists them, and whose purchase is looked up; ghz's scenarios name the same user. */
const ORDERS = 30;
const USER = '42';

interface Call {
  readonly id: string;
  readonly scenario: string;
  readonly data: object;
}

export async function measureCalls(bench: Bench): Promise<void> {
  const { stage, plan, generators, figures, onLine } = bench;
  const program = generators.ghz;
  if (program === undefined) {
    for (const id of CALL_IDS) figures.skip(id, 'ghz cannot be had here');
    return;
  }
  const space = await stage.space();
  const product = await stage.service('product', space, { server: { roles: ['api'] }, ...NO_BACKLOG_LIMIT });
  try {
    const sale = await stage.openSale(product, UNITS);
    const skuId = await hotSku(bench, space);
    const bought = await post<{ data: { seckillId: string } }>(product.http, '/v1/seckill', {
      itemId: String(sale.itemId),
    });
    const line = { skuId: String(skuId), quantity: 1 };
    let orderId = '';
    for (let i = 0; i < ORDERS; i++) {
      ({ id: orderId } = await post<{ id: string }>(product.http, '/v1/orders', { lines: [line], receiver: RECEIVER }));
    }
    const calls = callsOf(sale, String(skuId), bought.data.seckillId, orderId);
    const measures = calls.map(
      ({ id, scenario, data }): Measure => ({
        id,
        run: async () => {
          const options = { scenario, data, target: product.grpc, seconds: plan.seconds };
          const load = await ghz(program, options);
          requireNoFailures(load);
          return load.perSecond;
        },
      }),
    );
    await interleave(measures, plan.rounds, figures, onLine);
  } finally {
    await product.stop();
  }
}

const CALL_IDS = [ID.batchGhz, ID.saleGhz, ID.findGhz, ID.quoteGhz, ID.orderGhz, ID.listOrdersGhz];

function callsOf({ itemId }: Sale, skuId: string, seckillId: string, orderId: string): readonly Call[] {
  const item = { item_id: String(itemId) };
  const purchases = Array.from({ length: BATCH }, (_, i) => ({ user_id: String(1_000 + i) }));
  const lines = [{ sku_id: skuId, quantity: 1 }];
  return [
    { id: ID.batchGhz, scenario: 'purchase-batch', data: { ...item, purchases } },
    { id: ID.saleGhz, scenario: 'get-sale', data: item },
    { id: ID.findGhz, scenario: 'get-purchase', data: { seckill_id: seckillId } },
    { id: ID.quoteGhz, scenario: 'quote', data: { lines, region: '310115' } },
    { id: ID.orderGhz, scenario: 'get-order', data: { id: orderId } },
    { id: ID.listOrdersGhz, scenario: 'list-orders', data: { limit: 20 } },
  ];
}

async function post<T>(http: string, path: string, body: object): Promise<T> {
  const reply = await fetch(`http://${http}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-user-id': USER },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(10_000),
  });
  const text = await reply.text();
  if (!reply.ok) throw new Error(`POST ${path}: HTTP ${reply.status} ${text}`);
  return JSON.parse(text) as T;
}
