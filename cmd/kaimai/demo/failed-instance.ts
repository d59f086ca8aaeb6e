import { randomUUID } from 'node:crypto';
import type { DemoClient } from './client.js';
import { type DemoOptions, type DemoState, openNow, type PurchaseReply, type RecordReply, until } from './run.js';

interface PaidOrderReply {
  readonly status: string;
  readonly closeReason: string;
  readonly amountFen: string;
  readonly refundedAmountFen: string;
}

/** Sells an instance that cannot be created: its buyer is paid back, and another buyer gets the unit. */
export async function failedInstance(client: DemoClient, state: DemoState, options: DemoOptions): Promise<void> {
  const deadlineAtMs = Date.now() + options.timeoutMs;
  const itemId = await sellBrokenPlan(client, deadlineAtMs);
  const { userId, orderId } = await purchase(client, itemId, deadlineAtMs);
  const read = () => client.user<PaidOrderReply>(userId, 'GET', `/v1/orders/${orderId}`);
  const started = await client.user<{ payUrl: string }>(userId, 'POST', `/v1/orders/${orderId}/pay`, {
    provider: 'demo',
  });
  state.steps.push({ step: 'payment started', result: started.payUrl, ids: `order ORD${orderId}` });
  const { amountFen } = await read();
  await client.pay(orderId, { provider: 'demo', eventId: randomUUID(), paidAmountFen: amountFen });
  const isOver = ({ status }: PaidOrderReply) => status === 'CANCELLED';
  const refunded = await until(read, isOver, deadlineAtMs, `order ${orderId} of a failed instance is not refunded yet`);
  if (refunded.closeReason !== 'REFUNDED' || refunded.refundedAmountFen !== amountFen) {
    throw new Error(
      `order ${orderId} is ${refunded.closeReason}; ${refunded.refundedAmountFen} of ${amountFen} fen went back`,
    );
  }
  state.steps.push({
    step: 'failed instance',
    result: `${refunded.refundedAmountFen} fen paid back: ${refunded.status}, ${refunded.closeReason}`,
    ids: `order ORD${orderId}`,
  });
  const next = await purchase(client, itemId, deadlineAtMs);
  await client.user(next.userId, 'POST', `/v1/orders/${next.orderId}/cancel`, {});
  state.steps.push({ step: 'its unit sold again', result: 'AWAIT_PAY; cancelled', ids: `order ORD${next.orderId}` });
}

/** The only unit, as soon as it is on sale. */
async function purchase(client: DemoClient, itemId: string, deadlineAtMs: number) {
  const userId = randomUUID();
  const bought = await until(
    () => client.user<PurchaseReply>(userId, 'POST', '/v1/seckill', { itemId }),
    ({ code }) => code === 'QUEUED',
    deadlineAtMs,
    `the unit of item ${itemId} is not on sale`,
  );
  const { orderId } = await until(
    () => client.user<RecordReply>(userId, 'GET', `/v1/seckill/${bought.data?.seckillId}`),
    ({ status }) => status === 'AWAIT_PAY',
    deadlineAtMs,
    `purchase ${bought.data?.seckillId} has no order yet`,
  );
  return { userId, orderId };
}

/** The simulated provisioner creates no instance of this image. */
async function sellBrokenPlan(client: DemoClient, deadlineAtMs: number): Promise<string> {
  const spec = await client.admin<{ id: string }>('POST', '/v1/product-specs', { cpu: 1, memory: 1, image: 'broken' });
  const { id } = await client.admin<{ id: string }>('POST', '/v1/products', {
    ...{ name: 'Demo plan that fails', priceFen: '9900', specId: spec.id, status: 'ENABLED' },
  });
  await client.admin('POST', '/v1/sales', {
    ...{
      itemId: id,
      name: 'Demo sale that fails',
      total: '1',
      priceFen: '4900',
      payMode: 'PAY_LATER',
      defaultLimit: 1,
    },
  });
  await openNow(client, id, deadlineAtMs);
  return id;
}
