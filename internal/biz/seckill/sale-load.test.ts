import assert from 'node:assert/strict';
import { freshUser, insertProduct } from '../../../test/contract/backend.js';
import { MemoryPurchaseStream } from '../../../test/support/memory/admission.js';
import { memoryDataModule } from '../../../test/support/memory/module.js';
import { MemoryRedis } from '../../../test/support/memory/redis.js';
import { MemoryStore } from '../../../test/support/memory/store.js';
import { containerOf } from '../../../test/support/wiring.js';
import { providers } from '../../kratos/app/wiring.js';
import { ProductRepo } from '../catalog/product.js';
import { PAYMENT_PROVIDERS, REFUND_POLICY, SALE_POLICY, SETTLEMENT_POLICY } from '../policy.js';
import { productBizModule } from '../product-module.js';
import { SaleUsecase } from './sale.js';
import { SaleUnitsComparison } from './sale-drift.js';
import { SaleLoader } from './sale-load.js';
import { SaleRepo } from './sale-state.js';
import { SettlementUsecase } from './settlement.js';

describe('A load of a sale', () => {
  // A clock that stands still gives the same stream id again after a failover.
  const at = new Date();
  const container = containerOf([
    memoryDataModule,
    productBizModule,
    providers(({ value }) => {
      value(MemoryStore, new MemoryStore({ now: () => at }));
      value(PAYMENT_PROVIDERS, []);
      value(REFUND_POLICY, { maxAttempts: 1, retryBackoffMs: 1, leaseMs: 1, afterSaleWindowMs: 1 });
      value(SALE_POLICY, { payTimeoutMs: 60_000, backlogLimit: 100 });
      value(SETTLEMENT_POLICY, { maxDeliveries: 3 });
    }),
  ]);
  const redis = container.get(MemoryRedis);
  const stream = container.get(MemoryPurchaseStream);
  const settlements = container.get(SettlementUsecase);

  async function openSale(total: bigint): Promise<bigint> {
    const { id: itemId } = await insertProduct(container.get(ProductRepo));
    const sales = container.get(SaleUsecase);
    await sales.create({
      ...{ itemId, name: '', startsAt: new Date(0), endsAt: undefined, total, priceFen: undefined },
      ...{ payMode: 'PREPAID', payTimeoutMs: undefined, defaultLimit: 5 },
    });
    await sales.open(itemId);
    return itemId;
  }
  /** Commits the outcomes of all entries in the stream, as a consumer does that dies before it takes them off. */
  async function settle(itemId: bigint): Promise<void> {
    const deliveries = redis.entries(itemId).map((e) => ({ ...e, deliveries: 2 }));
    await settlements.commit(await settlements.prepare(itemId, deliveries));
  }

  it('does not count an entry as waiting that was settled under a reused stream id', async () => {
    const itemId = await openSale(5n);
    const before = redis.copy();
    const first = redis.add(itemId, new Map([['uid', freshUser()]]));
    await settle(itemId);
    redis.failOver(before, 1);
    const uid = freshUser();
    const second = redis.add(itemId, new Map([['uid', uid]]));
    assert.equal(second, first);
    await settle(itemId);
    assert.equal(await container.get(SaleLoader).load(itemId), 'LOADED');
    assert.equal(redis.inspect(itemId).loaded?.stock, 3n);
    const sale = (await container.get(SaleRepo).findCurrent(itemId))!;
    assert.deepEqual(await container.get(SaleUnitsComparison).drift(sale), []);
    await stream.finish(itemId, [{ streamId: second, uid, correction: undefined }]);
    assert.deepEqual(await container.get(SaleUnitsComparison).drift(sale), []);
  });
});
