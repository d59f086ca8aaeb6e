import assert from 'node:assert/strict';
import { isInstanceSourceReused } from '../../../gen/instance/v1/errors.js';
import { freshUser, insertProduct, newOrder } from '../../../test/contract/backend.js';
import { CountingIds } from '../../../test/support/memory/id-generator.js';
import { MemoryInstanceRepo } from '../../../test/support/memory/instance.js';
import { MemoryOrderRepo } from '../../../test/support/memory/order.js';
import { MemoryOutbox } from '../../../test/support/memory/outbox.js';
import { MemoryPaymentRepo } from '../../../test/support/memory/payment.js';
import { MemoryProductRepo } from '../../../test/support/memory/product.js';
import { MemoryStore } from '../../../test/support/memory/store.js';
import type { Product } from '../catalog/product.js';
import { InstanceUsecase } from './instance.js';

describe('InstanceUsecase', () => {
  const store = new MemoryStore();
  const products = new MemoryProductRepo(store);
  const orders = new MemoryOrderRepo(store);
  const requests = new MemoryInstanceRepo(store, new MemoryOutbox(store));
  const payments = new MemoryPaymentRepo(store);
  const instances = new InstanceUsecase(store, new CountingIds(), products, requests, orders, payments);
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
});
