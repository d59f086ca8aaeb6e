import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { isUnavailable, unavailable } from '../../../gen/common/v1/errors.js';
import { freshId, freshUser, insertProduct } from '../../../test/contract/backend.js';
import { memoryDataModule } from '../../../test/support/memory/module.js';
import { MemoryOrderRepo } from '../../../test/support/memory/order.js';
import { MemorySaleUnitsRepo } from '../../../test/support/memory/sale-units.js';
import { MemorySettlementRepo, openSale } from '../../../test/support/memory/settlement.js';
import { MemoryStore } from '../../../test/support/memory/store.js';
import { MemoryVipLimitRepo } from '../../../test/support/memory/vip-limit.js';
import { containerOf } from '../../../test/support/wiring.js';
import { providers } from '../../kratos/app/wiring.js';
import { ItemDirectory } from '../catalog/item.js';
import { ProductRepo } from '../catalog/product.js';
import { StockRepo } from '../catalog/stock.js';
import { EntitlementRepo } from '../entitlement/entitlement-state.js';
import { OrderAccess } from '../entitlement/order-access.js';
import { IdGenerator } from '../id-generator.js';
import { InstanceUsecase } from '../instance/instance.js';
import { PAYMENT_PROVIDERS, REFUND_POLICY } from '../policy.js';
import { productBizModule } from '../product-module.js';
import { type Transaction, TransactionRunner } from '../transaction.js';
import { type Delivery, reusedStreamId } from './purchase-stream.js';
import type { Sale } from './sale-state.js';
import { type PreparedEntries, SettlementUsecase } from './settlement.js';
import type { InboxRow, Settlement } from './settlement-state.js';

const MAX_DELIVERIES = 3;

/** Fails the writes that a test says fail. */
class FailingSettlementRepo extends MemorySettlementRepo {
  /** Stream ids of each attempt to write outcomes. */
  readonly attempts: string[][] = [];
  fail: (streamIds: readonly string[], attempt: number) => Error | undefined = () => undefined;
  /** Awaited before outcomes are written. */
  hold: (streamIds: readonly string[]) => Promise<void> | undefined = () => undefined;
  /** Called when a transaction asks for the lock. */
  onLock: () => void = () => {};

  override lock(tx: Transaction, itemId: bigint, epoch: bigint | undefined): Promise<readonly Sale[]> {
    this.onLock();
    return super.lock(tx, itemId, epoch);
  }

  override async insertRows(tx: Transaction, itemId: bigint, rows: readonly InboxRow[]): Promise<void> {
    const streamIds = rows.map((row) => row.streamId);
    this.attempts.push(streamIds);
    await this.hold(streamIds);
    const err = this.fail(streamIds, this.attempts.length);
    if (err) throw err;
    return super.insertRows(tx, itemId, rows);
  }
}

describe('SettlementUsecase', () => {
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
  class SlowTransactions extends TransactionRunner {
    override async run<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
      await onBegin();
      return store.run(work);
    }
    override afterCommit(tx: Transaction, work: () => void): void {
      store.afterCommit(tx, work);
    }
  }
  const products = container.get(ProductRepo);
  const orders = container.get(MemoryOrderRepo);
  const sales = container.get(MemorySaleUnitsRepo);
  let settlements: FailingSettlementRepo;
  /** Awaited before a transaction begins. */
  let onBegin: () => Promise<void>;
  let usecase: SettlementUsecase;
  let itemId: bigint;

  beforeEach(async () => {
    settlements = new FailingSettlementRepo(store, orders, sales, container.get(MemoryVipLimitRepo));
    onBegin = async () => {};
    usecase = new SettlementUsecase(
      new SlowTransactions(),
      container.get(IdGenerator),
      container.get(ItemDirectory),
      orders,
      container.get(InstanceUsecase),
      settlements,
      container.get(StockRepo),
      container.get(EntitlementRepo),
      container.get(OrderAccess),
      { maxDeliveries: MAX_DELIVERIES },
      // Soon after the entries were added.
      () => 0,
    );
    itemId = (await insertProduct(products)).id;
  });

  const entry = (streamId: string, deliveries: number, userId = freshUser()): Delivery => ({
    streamId,
    fields: new Map([['uid', userId]]),
    deliveries,
  });
  const settle = async (...deliveries: Delivery[]): Promise<Settlement> =>
    usecase.commit(await usecase.prepare(itemId, deliveries));
  const outcomeOf = async (streamId: string) => (await settlements.find(itemId, streamId))?.kind;
  const orderCount = () => orders.orders.rows().filter((o) => o.productId === itemId).length;

  it('halves a failing batch until the entry at fault stands alone, and settles all others', async () => {
    settlements.fail = (streamIds) => (streamIds.includes('3-0') ? new Error('planted') : undefined);
    const settlement = await settle(...[1, 2, 3, 4, 5].map((i) => entry(`${i}-0`, 1)));
    assert.deepEqual(settlement.counts, { ORDER: 4, REJECTED: 0, DEAD: 0 });
    assert.deepEqual(
      settlement.failed.map((f) => [f.streamId, (f.cause as Error).message]),
      [['3-0', 'planted']],
    );
    assert.equal(await outcomeOf('3-0'), undefined);
  });

  it('makes an entry that fails on its own a dead letter at the last of its deliveries', async () => {
    settlements.fail = (_streamIds, attempt) => (attempt === 1 ? new Error('planted') : undefined);
    const { counts, failed } = await settle(entry('1-0', MAX_DELIVERIES));
    assert.deepEqual([counts.DEAD, failed], [1, []]);
    assert.equal((await settlements.find(itemId, '1-0'))?.reason, 'gave up: planted');
  });

  it('blames no entry for a database that goes away while a batch is halved', async () => {
    settlements.fail = (_, attempt) => {
      if (attempt === 1) return new Error('planted');
      return attempt === 3 ? unavailable('planted') : undefined;
    };
    const batch = [entry('1-0', MAX_DELIVERIES), entry('2-0', MAX_DELIVERIES)];
    await assert.rejects(settle(...batch), isUnavailable);
    assert.deepEqual(settlements.attempts, [['1-0', '2-0'], ['1-0'], ['2-0']]);
    assert.equal(await outcomeOf('2-0'), undefined);
    const { counts } = await settle(...batch);
    assert.deepEqual(counts, { ORDER: 2, REJECTED: 0, DEAD: 0 });
    assert.deepEqual(settlements.deadLetters.rows(), []);
  });

  it('does not halve a batch when the database is away', async () => {
    settlements.fail = () => unavailable('planted');
    const batch = [entry('1-0', 1), entry('2-0', 1)];
    await assert.rejects(settle(...batch), isUnavailable);
    assert.deepEqual(settlements.attempts, [['1-0', '2-0']]);
  });

  it('settles entries that were delivered too often one by one, after the others', async () => {
    await settle(entry('2-0', MAX_DELIVERIES + 1), entry('3-0', MAX_DELIVERIES + 1), entry('4-0', 1), entry('1-0', 1));
    assert.deepEqual(settlements.attempts, [['1-0', '4-0'], ['2-0'], ['3-0']]);
  });

  it('changes nothing for entries that have their outcome, and repeats their corrections', async () => {
    const sale = openSale({ id: freshId(), itemId, total: 1n });
    await sales.insertSale(undefined, sale);
    const batch = [entry('1-0', 1), entry('2-0', 1)];
    const first = await settle(...batch);
    assert.deepEqual(first.counts, { ORDER: 1, REJECTED: 1, DEAD: 0 });
    assert.deepEqual(
      first.settled.map((s) => s.correction?.outcome),
      ['ORDER', 'REFUSED'],
    );
    assert.deepEqual(await settle(...batch), first);
    assert.equal(sales.sales.find(String(sale.id))?.sold, 1n);
  });

  it('takes an entry whose stream id another user has for a purchase of its own, once', async () => {
    const [early, late, other] = [freshUser(), freshUser(), freshUser()];
    await settle(entry('1-0', 1, early));
    for (const deliveries of [1, 2]) {
      const { settled, counts } = await settle(entry('1-0', deliveries, late), entry('2-0', deliveries, other));
      assert.deepEqual(counts, { ORDER: 2, REJECTED: 0, DEAD: 0 });
      assert.deepEqual(
        settled.map((s) => s.streamId),
        ['1-0', '2-0'],
      );
    }
    assert.equal(orderCount(), 3);
    const users = await Promise.all(
      ['1-0', reusedStreamId('1-0', late)].map(async (id) => (await settlements.find(itemId, id))?.userId),
    );
    assert.deepEqual(users, [early, late]);
  });

  describe('a batch settled while the one before it is written', () => {
    /** Settles both at a time. The first is held back until the second asks for the lock, too. */
    const settleBoth = async (first: readonly Delivery[], second: readonly Delivery[]) => {
      // A first batch of its own, because nothing is known of what comes before it.
      await settle(entry('1-0', 1));
      settlements.attempts.length = 0;
      const [one, two] = [await usecase.prepare(itemId, first), await usecase.prepare(itemId, second)];
      let asked = 0;
      const bothAsked = new Promise<void>((resolve) => {
        settlements.onLock = () => {
          if (++asked === 2) resolve();
        };
      });
      settlements.hold = (streamIds) => (streamIds[0] === first[0]?.streamId ? bothAsked : undefined);
      const committed = usecase.commit(one);
      return Promise.allSettled([committed, usecase.commit(two, committed)]);
    };
    const countsOf = (settled: PromiseSettledResult<Settlement>) =>
      settled.status === 'fulfilled' ? settled.value.counts : settled.reason;
    const orderIdOf = async (streamId: string) => (await settlements.find(itemId, streamId))?.orderId ?? 0n;

    it('is written once and committed after it', async () => {
      const sale = openSale({ id: freshId(), itemId, total: 3n });
      await sales.insertSale(undefined, sale);
      const both = await settleBoth([entry('2-0', 1)], [entry('3-0', 1)]);
      assert.deepEqual(both.map(countsOf), [
        { ORDER: 1, REJECTED: 0, DEAD: 0 },
        { ORDER: 1, REJECTED: 0, DEAD: 0 },
      ]);
      assert.deepEqual(settlements.attempts, [['2-0'], ['3-0']]);
      assert.equal(sales.sales.find(String(sale.id))?.sold, 3n);
      assert.equal(orderCount(), 3);
    });

    it('asks for the lock after it, however long the one before it waits for its connection', async () => {
      await sales.insertSale(undefined, openSale({ id: freshId(), itemId, total: 9n }));
      await settle(entry('1-0', 1));
      settlements.attempts.length = 0;
      const prepared: PreparedEntries[] = [];
      for (const n of [2, 3, 4, 5, 6]) prepared.push(await usecase.prepare(itemId, [entry(`${n}-0`, 1)]));
      const waits = [40, 30, 20, 10];
      onBegin = () => sleep(waits.shift() ?? 0);
      let before: Promise<unknown> = Promise.resolve();
      const committed = prepared.map((batch) => {
        const commit = usecase.commit(batch, before);
        before = commit;
        return commit;
      });
      await Promise.all(committed);
      assert.deepEqual(settlements.attempts, [['2-0'], ['3-0'], ['4-0'], ['5-0'], ['6-0']]);
    });

    it('is decided anew where a buyer of both reaches the limit with the first', async () => {
      const sale = openSale({ id: freshId(), itemId, total: 9n, defaultLimit: 1 });
      await sales.insertSale(undefined, sale);
      const buyer = freshUser();
      const both = await settleBoth([entry('2-0', 1, buyer)], [entry('3-0', 1, buyer), entry('4-0', 1)]);
      assert.deepEqual(countsOf(both[1]!), { ORDER: 1, REJECTED: 1, DEAD: 0 });
      assert.equal((await settlements.find(itemId, '3-0'))?.reason, 'LIMIT_REACHED');
      assert.equal(sales.sales.find(String(sale.id))?.sold, 3n);
      assert.equal(orderCount(), 3);
    });

    it('is decided anew where the sale was changed in between', async () => {
      const sale = openSale({ id: freshId(), itemId, total: 9n });
      await sales.insertSale(undefined, sale);
      await settle(entry('1-0', 1));
      const [one, two] = [
        await usecase.prepare(itemId, [entry('2-0', 1)]),
        await usecase.prepare(itemId, [entry('3-0', 1)]),
      ];
      await usecase.commit(one);
      await store.run((tx) => sales.sales.update(tx, String(sale.id), (s) => ({ ...s, priceFen: 7n })));
      await usecase.commit(two);
      const prices = orders.orders.rows().flatMap((o) => (o.productId === itemId ? [o.priceFen] : []));
      assert.deepEqual(prices, [1n, 1n, 7n]);
    });

    it('waits for it where it has to be settled again', async () => {
      settlements.fail = (streamIds, attempt) =>
        streamIds[0] === '2-0' && attempt === 1 ? new Error('planted') : undefined;
      const both = await settleBoth([entry('2-0', 1)], [entry('3-0', 1)]);
      assert.deepEqual(countsOf(both[1]!), { ORDER: 1, REJECTED: 0, DEAD: 0 });
      assert.equal(orderCount(), 3);
      assert.ok((await orderIdOf('2-0')) < (await orderIdOf('3-0')), 'the later entry became an order first');
    });

    it('is not settled where it was not', async () => {
      settlements.fail = (streamIds) => (streamIds[0] === '2-0' ? unavailable('planted') : undefined);
      const both = await settleBoth([entry('2-0', 1)], [entry('3-0', 1)]);
      for (const settled of both) assert.ok(isUnavailable(countsOf(settled)));
      assert.equal(await outcomeOf('3-0'), undefined);
      assert.equal(orderCount(), 1);
    });
  });
});
