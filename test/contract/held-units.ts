import assert from 'node:assert/strict';
import type { Order } from '../../internal/biz/order-state.js';
import type { Product } from '../../internal/biz/product.js';
import type { Transaction } from '../../internal/biz/transaction.js';
import { freshId, insertProduct, newOrder, type OpenBackend, times, useBackend } from './backend.js';

export function heldUnitsContract(name: string, open: OpenBackend): void {
  describe(`HeldUnits ${name}`, () => {
    const backend = useBackend(open);
    let plan: Product;
    before(async () => {
      plan = await insertProduct(backend.it.products);
    });

    const run = <T>(work: (tx: Transaction) => Promise<T>) => backend.it.transactions.run(work);
    const newSale = async (): Promise<bigint> => {
      const [id, { id: itemId }] = [freshId(), await insertProduct(backend.it.products)];
      await backend.it.insertSale({ id, itemId, total: 100n });
      return id;
    };
    const sell = async (saleId: bigint | undefined): Promise<Order> => {
      const order = newOrder(plan, saleId === undefined ? {} : { source: 'SECKILL', saleId });
      await run(async (tx) => {
        if (saleId !== undefined) await backend.it.sell(tx, saleId);
        await backend.it.orders.insert(tx, [order], 'seckill');
      });
      return (await backend.it.orders.find(order.id, undefined))!;
    };

    it('gives units back to their sales, and tells admission of each order', async () => {
      const [a, b] = [await newSale(), await newSale()];
      const orders = [await sell(b), await sell(a), await sell(a), await sell(a)];
      await run((tx) => backend.it.units.giveBack(tx, orders.slice(0, 3)));
      assert.deepEqual([await backend.it.sold(a), await backend.it.sold(b)], [1n, 0n]);
      for (const { id } of orders.slice(0, 3)) assert.deepEqual(await backend.it.topics(id), ['seckill.return']);
      assert.deepEqual(await backend.it.topics(orders[3]!.id), []);
    });

    it('has nothing to give back for an order without a sale', async () => {
      const order = await sell(undefined);
      await run((tx) => backend.it.units.giveBack(tx, [order]));
      await run((tx) => backend.it.units.giveBack(tx, []));
      assert.deepEqual(await backend.it.topics(order.id), []);
    });

    it('keeps the units where the transaction is rolled back', async () => {
      const sale = await newSale();
      const order = await sell(sale);
      await assert.rejects(
        run(async (tx) => {
          await backend.it.units.giveBack(tx, [order]);
          throw new Error('undone');
        }),
      );
      assert.equal(await backend.it.sold(sale), 1n);
      assert.deepEqual(await backend.it.topics(order.id), []);
    });

    it('never gives back more than was sold', async () => {
      const sale = await newSale();
      const order = await sell(sale);
      await run((tx) => backend.it.units.giveBack(tx, [order]));
      await assert.rejects(run((tx) => backend.it.units.giveBack(tx, [order])));
      assert.equal(await backend.it.sold(sale), 0n);
    });

    it('counts every unit when twenty give back at once, to sales in whatever order', async () => {
      const sales = [await newSale(), await newSale()];
      const orders = await Promise.all(times(40, (i) => sell(sales[i % 2])));
      await Promise.all(
        times(20, (i) => {
          const two = orders.slice(i * 2, i * 2 + 2);
          return run((tx) => backend.it.units.giveBack(tx, i % 2 === 0 ? two : two.reverse()));
        }),
      );
      assert.deepEqual(await Promise.all(sales.map((s) => backend.it.sold(s))), [0n, 0n]);
    });
  });
}
