import assert from 'node:assert/strict';
import { isInstanceSourceReused } from '../../../gen/instance/v1/errors.js';
import { freshUser, insertProduct, newOrder } from '../../../test/contract/backend.js';
import { memoryDataModule } from '../../../test/support/memory/module.js';
import { MemoryStore } from '../../../test/support/memory/store.js';
import { containerOf } from '../../../test/support/wiring.js';
import { providers } from '../../kratos/app/wiring.js';
import { type Product, ProductRepo } from '../catalog/product.js';
import { moveOrder, OrderRepo } from '../order/order-state.js';
import { PAYMENT_PROVIDERS, REFUND_POLICY } from '../policy.js';
import { productBizModule } from '../product-module.js';
import { InstanceUsecase } from './instance.js';

describe('InstanceUsecase', () => {
  const store = new MemoryStore();
  const container = containerOf([
    memoryDataModule,
    productBizModule,
    providers(({ value }) => {
      value(MemoryStore, store);
      value(PAYMENT_PROVIDERS, []);
      value(REFUND_POLICY, { maxAttempts: 1, retryBackoffMs: 1, leaseMs: 1, afterSaleWindowMs: 60_000 });
    }),
  ]);
  const products = container.get(ProductRepo);
  const orders = container.get(OrderRepo);
  const instances = container.get(InstanceUsecase);
  let plan: Product;
  before(async () => {
    plan = await insertProduct(products);
  });
  const paidOrder = async (userId: string) => {
    const order = newOrder(plan, { userId, status: 'PAID' });
    await store.run((tx) => orders.insert(tx, [order], 'seckill'));
    return order.id;
  };
  const request = (userId: string, sourceId: string, orderId?: bigint) =>
    instances.createInstance({ productId: plan.id, userId, source: 'ORDER', sourceId, orderId });

  it('gives the same instance to the same source, user and order', async () => {
    const userId = freshUser();
    const orderId = await paidOrder(userId);
    const { instanceId } = await request(userId, 'same', orderId);
    assert.equal((await request(userId, 'same', orderId)).instanceId, instanceId);
  });

  it('refuses the source of one order for another order of the same user', async () => {
    const userId = freshUser();
    const [first, second] = [await paidOrder(userId), await paidOrder(userId)];
    const { instanceId } = await request(userId, 'of the first', first);
    await assert.rejects(request(userId, 'of the first', second), isInstanceSourceReused);
    assert.equal((await orders.find(first, userId))?.instanceId, instanceId);
    assert.equal((await orders.find(second, userId))?.instanceId, undefined);
  });

  it('refuses the source of one user for another user', async () => {
    await request(freshUser(), 'taken');
    await assert.rejects(request(freshUser(), 'taken'), isInstanceSourceReused);
  });

  it('records the report of an instance whose order is refunded already, and leaves the order as it is', async () => {
    for (const status of ['SUCCESS', 'FAILED'] as const) {
      const userId = freshUser();
      const orderId = await paidOrder(userId);
      const { instanceId } = await request(userId, `refunded before ${status}`, orderId);
      await store.run(async (tx) => {
        const order = await orders.lock(tx, orderId, userId);
        await moveOrder(orders, tx, order!, { to: 'REFUNDING', actor: 'user', reason: 'r' });
      });
      const refunding = await orders.find(orderId, userId);
      assert.equal((await instances.reportInstance({ instanceId, status, reason: '' })).status, status);
      assert.deepEqual(await orders.find(orderId, userId), refunding);
    }
  });
});
