import assert from 'node:assert/strict';
import type { Product } from '../../internal/biz/catalog/product.js';
import { orderHeld, saleHeld, saleReturned } from '../../internal/biz/catalog/stock.js';
import type { Order } from '../../internal/biz/order/order-state.js';
import type { Transaction } from '../../internal/biz/transaction.js';
import { freshId, insertProduct, insertSku, newOrder, type OpenBackend, times, useBackend } from './backend.js';

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

    describe('of goods', () => {
      const levelOf = async (skuId: bigint) => {
        const { stock, lockStock } = (await backend.it.catalog.findSku(skuId))!;
        return [stock, lockStock];
      };
      /** A sale of 5 of 10 units, with two unpaid orders of 1 and 2. */
      const sellGoods = async () => {
        const { id: skuId } = await insertSku(backend.it, 10n);
        const sale = { id: freshId(), itemId: skuId };
        await backend.it.insertSale({ ...sale, total: 5n, orderType: 'GOODS' });
        const orders = [1, 2].map((quantity) =>
          newOrder(plan, {
            ...{ orderType: 'GOODS', source: 'SECKILL', productId: undefined, skuId, saleId: sale.id, quantity },
          }),
        );
        await run(async (tx) => {
          await backend.it.stock.move(tx, [saleHeld(sale, 5n), ...orders.map(orderHeld)]);
          for (let i = 0; i < 3; i++) await backend.it.sell(tx, sale.id);
          await backend.it.orders.insert(tx, orders, 'seckill');
        });
        const found = await Promise.all(orders.map((o) => backend.it.orders.find(o.id, undefined)));
        return { skuId, saleId: sale.id, orders: found.map((o) => o!) };
      };

      it('gives units back to a sale that holds them, so that the sku’s level stays', async () => {
        const { skuId, saleId, orders } = await sellGoods();
        await run((tx) => backend.it.units.giveBack(tx, orders));
        assert.deepEqual([await backend.it.sold(saleId), await backend.it.returned(saleId)], [0n, 0n]);
        assert.deepEqual(await levelOf(skuId), [10n, 5n]);
        for (const { id } of orders) assert.deepEqual(await backend.it.topics(id), ['seckill.return']);
        await assert.rejects(run((tx) => backend.it.units.giveBack(tx, orders)));
      });

      it('gives units back to the sku when the sale holds nothing any more', async () => {
        const { skuId, saleId, orders } = await sellGoods();
        await backend.it.releaseSale(saleId);
        await run((tx) => backend.it.stock.move(tx, [saleReturned({ id: saleId, itemId: skuId }, 2n)]));
        assert.deepEqual(await levelOf(skuId), [10n, 3n]);
        await run((tx) => backend.it.units.giveBack(tx, orders.slice(1)));
        assert.deepEqual([await backend.it.sold(saleId), await backend.it.returned(saleId)], [1n, 4n]);
        assert.deepEqual(await levelOf(skuId), [10n, 1n]);
        assert.deepEqual(await backend.it.topics(orders[1]!.id), []);
      });

      it('takes units that are paid for out of the stock, once', async () => {
        const { skuId, saleId, orders } = await sellGoods();
        await run((tx) => backend.it.units.deduct(tx, orders.slice(1)));
        await assert.rejects(run((tx) => backend.it.units.deduct(tx, orders)));
        assert.deepEqual(await levelOf(skuId), [8n, 3n]);
        assert.equal(await backend.it.sold(saleId), 3n);
        const instance = await sell(undefined);
        await run((tx) => backend.it.units.deduct(tx, [instance]));
      });
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
