import { randomUUID } from 'node:crypto';
import type { DemoClient } from './client.js';
import type { DemoState } from './run.js';

interface GoodsOrderReply {
  readonly id: string;
  readonly orderNo: string;
  readonly status: string;
  readonly amountFen: string;
  readonly items: readonly { readonly skuName: string; readonly quantity: number }[];
}

interface SkuReply {
  readonly id: string;
  readonly stock: string;
  readonly lockStock: string;
}

const UNITS = 20;
const RECEIVER = { name: '张三', phone: '13800000000', region: '310115', address: 'Century Avenue 1' };
const COLORS = ['black', 'white', 'red'];

/** Buys goods of three SKUs: click, payment, shipment, confirmed receipt. */
export async function buyGoods(client: DemoClient, state: DemoState): Promise<void> {
  const skus = await createGoods(client, state);
  const buyer = randomUUID();
  const lines = skus.map((skuId, i) => ({ skuId, quantity: i + 1 }));
  const order = await client.user<GoodsOrderReply>(buyer, 'POST', '/v1/orders', {
    ...{ lines, receiver: RECEIVER, requestId: randomUUID() },
  });
  const items = order.items.map((i) => `${i.quantity} × ${i.skuName}`).join(', ');
  state.steps.push({ step: 'goods ordered', result: `${order.status}; ${items}`, ids: `order ${order.orderNo}` });
  await client.pay(order.id, { provider: 'demo', eventId: randomUUID(), paidAmountFen: order.amountFen });
  const sold = await Promise.all(skus.map((id) => client.user<SkuReply>(buyer, 'GET', `/v1/skus/${id}`)));
  for (const [i, { id, stock, lockStock }] of sold.entries()) {
    if (stock === String(UNITS - i - 1) && lockStock === '0') continue;
    throw new Error(`sku ${id} has ${stock} units and ${lockStock} reserved ones after ${i + 1} were sold`);
  }
  const trackingNumbers = [`SF${order.id}`];
  await client.admin('POST', `/v1/orders/${order.id}/ship`, { carrier: 'SF Express', trackingNumbers });
  const done = await client.user<GoodsOrderReply>(buyer, 'POST', `/v1/orders/${order.id}/confirm`, {});
  if (done.status !== 'COMPLETED')
    throw new Error(`order ${order.id} is ${done.status} after its receipt was confirmed`);
  state.steps.push({
    step: 'goods delivered',
    result: `paid, shipped by SF Express, receipt confirmed: ${done.status}`,
    ids: `parcel ${trackingNumbers[0]}`,
  });
}

async function createGoods(client: DemoClient, state: DemoState): Promise<string[]> {
  const no = randomUUID();
  const spu = await client.admin<{ id: string }>('POST', '/v1/spus', {
    ...{ spuNo: no, title: 'Demo phone', publishStatus: 'PUBLISHED', sellerId: '42' },
  });
  const skus: string[] = [];
  for (const color of COLORS) {
    const sku = await client.admin<SkuReply>('POST', '/v1/skus', {
      ...{ spuId: spu.id, skuNo: `${no}-${color}`, skuName: `Demo phone, ${color}`, priceFen: '99900' },
      ...{ stock: String(UNITS), specs: { color } },
    });
    skus.push(sku.id);
  }
  state.steps.push({
    step: 'goods on sale',
    result: `${COLORS.length} SKUs at ¥999.00, ${UNITS} units each`,
    ids: `spu ${spu.id}, skus ${skus.join(', ')}`,
  });
  return skus;
}
