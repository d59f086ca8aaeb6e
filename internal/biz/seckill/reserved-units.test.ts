import assert from 'node:assert/strict';
import { freshId, freshUser } from '../../../test/contract/backend.js';
import { MemoryCatalogRepo } from '../../../test/support/memory/catalog.js';
import { MemoryOutbox } from '../../../test/support/memory/outbox.js';
import { MemorySaleUnitsRepo } from '../../../test/support/memory/sale-units.js';
import { openSale } from '../../../test/support/memory/settlement.js';
import { MemoryStockRepo } from '../../../test/support/memory/stock.js';
import { MemoryStore } from '../../../test/support/memory/store.js';
import { CatalogUsecase } from '../catalog/catalog.js';
import { orderHeld, saleHeld, saleReturned } from '../catalog/stock.js';
import type { OrderItem } from '../order/order-item.js';
import type { Order } from '../order/order-state.js';
import type { Transaction } from '../transaction.js';
import { SaleReservedUnits } from './reserved-units.js';
import type { Sale } from './sale-state.js';
import { decodeUnitsReturn, TOPIC_SECKILL_RETURN } from './seckill-return.js';

describe('SaleReservedUnits', () => {
  const store = new MemoryStore();
  const outbox = new MemoryOutbox(store);
  const sales = new MemorySaleUnitsRepo(store);
  const catalogRepo = new MemoryCatalogRepo(store);
  const stock = new MemoryStockRepo(store, catalogRepo.skus);
  const catalog = new CatalogUsecase(store, catalogRepo, stock);
  const units = new SaleReservedUnits(sales, stock, outbox);
  const run = <T>(work: (tx: Transaction) => Promise<T>) => store.run(work);
  const release = (...orders: readonly Order[]) => run((tx) => units.release(tx, orders));

  /** With one line where it is of a sku. */
  const orderOf = (changes: Partial<Order>): Order => ({
    ...{ id: freshId(), orderNo: '', userId: freshUser(), orderType: 'INSTANCE', source: 'SECKILL' },
    ...{ status: 'CANCELLED', productId: undefined, skuId: undefined, productName: '', quantity: 1, priceFen: 1n },
    ...{
      amountFen: 1n,
      totalFen: 1n,
      freightFen: 0n,
      promotionFen: 0n,
      refundedFen: 0n,
      keptQuantity: undefined,
      receiver: undefined,
      reqId: 1n,
      saleId: undefined,
      requestId: undefined,
      requestFingerprint: undefined,
      instanceId: undefined,
      closeReason: '',
    },
    ...{ remark: '', version: 1n, createdAt: new Date(), payDeadline: undefined, paidAt: undefined },
    ...{ completedAt: undefined, sellerId: undefined, shippedAt: undefined, confirmDeadline: undefined },
    ...{ items: itemsOf(changes), content: undefined, ...changes },
  });
  const itemsOf = ({ skuId, quantity = 1 }: Partial<Order>): readonly OrderItem[] =>
    skuId === undefined
      ? []
      : [
          {
            skuId,
            spuId: 1n,
            sellerId: undefined,
            spuName: '',
            skuName: '',
            skuImage: '',
            specs: {},
            priceFen: 1n,
            quantity,
            promotionFen: 0n,
            goodsType: '',
            contents: [],
          },
        ];
  const insertSale = async (changes: Partial<Sale>): Promise<Sale> => {
    const sale = openSale({ id: freshId(), itemId: freshId(), total: 5n, epoch: 7n, ...changes });
    await sales.insertSale(undefined, sale);
    return sale;
  };
  const soldOf = ({ id }: Sale) => sales.sales.find(String(id))?.sold;
  /** What admission is told of an order. */
  const returnsOf = ({ id }: Order) =>
    outbox.table
      .rows()
      .filter((row) => row.refId === id)
      .map((row) => [row.topic, decodeUnitsReturn(Buffer.from(row.payload!).toString())]);
  const levelOf = async (skuId: bigint) => {
    const { stock, lockStock } = await catalog.getSku(skuId);
    return [stock, lockStock];
  };
  /** A sale that holds 5 of the 10 units of a sku, with two unpaid orders of 1 and 2. */
  const sellGoods = async () => {
    const spu = await catalog.createSpu({
      ...{ spuNo: `spu-${freshId()}`, title: '', categoryId: 1n, brandId: 1n, mainImages: [], detailHtml: '' },
      publishStatus: 'PUBLISHED',
    });
    const sku = await catalog.createSku(
      { spuId: spu.id, skuNo: `sku-${freshId()}`, skuName: '', priceFen: 1n, marketPriceFen: 0n, specs: {} },
      10n,
    );
    const sale = await insertSale({ itemId: sku.id, orderType: 'GOODS', sold: 3n });
    const orders = [1, 2].map((quantity) =>
      orderOf({ orderType: 'GOODS', skuId: sku.id, saleId: sale.id, quantity }),
    ) as [Order, Order];
    await run((tx) => stock.move(tx, [saleHeld(sale, 5n), ...orders.map(orderHeld)]));
    return { sale, skuId: sku.id, orders };
  };

  it('returns units to an open sale and tells admission of each order in the current epoch', async () => {
    const sale = await insertSale({ sold: 3n });
    const orders = [orderOf({ saleId: sale.id }), orderOf({ saleId: sale.id, quantity: 2 })];
    await release(...orders);
    assert.equal(soldOf(sale), 0n);
    for (const order of orders) {
      const { id: returnId, userId, quantity } = order;
      const told = { returnId, itemId: sale.itemId, userId, quantity, epoch: 7n };
      assert.deepEqual(returnsOf(order), [[TOPIC_SECKILL_RETURN, told]]);
    }
  });

  it('does not tell admission of a sale that is not open', async () => {
    const sale = await insertSale({ sold: 1n, status: 'CLOSED' });
    const order = orderOf({ saleId: sale.id });
    await release(order);
    assert.equal(soldOf(sale), 0n);
    assert.deepEqual(returnsOf(order), []);
  });

  it('releases nothing for an order without a sale', async () => {
    const order = orderOf({ source: 'NORMAL' });
    await release(order);
    await release();
    assert.deepEqual(returnsOf(order), []);
  });

  it('leaves the level of the sku alone while the sale still holds its units', async () => {
    const { sale, skuId, orders } = await sellGoods();
    await release(...orders);
    assert.equal(soldOf(sale), 0n);
    assert.deepEqual(await levelOf(skuId), [10n, 5n]);
    await assert.rejects(release(...orders), 'units are released once');
  });

  it('returns goods to the sku once the sale has given up its unsold units', async () => {
    const { sale, skuId, orders } = await sellGoods();
    await run(async (tx) => {
      await sales.close(tx, sale.id);
      await sales.release(tx, sale.id);
      await stock.move(tx, [saleReturned(sale, 2n)]);
    });
    await release(orders[1]);
    assert.equal(soldOf(sale), 1n);
    assert.deepEqual(await levelOf(skuId), [10n, 1n]);
    assert.deepEqual(returnsOf(orders[1]), []);
  });

  it('takes paid goods out of the stock once, and nothing for an instance', async () => {
    const { sale, skuId, orders } = await sellGoods();
    await run((tx) => units.consume(tx, [orders[1], orderOf({ saleId: sale.id })]));
    await assert.rejects(run((tx) => units.consume(tx, orders)));
    assert.deepEqual(await levelOf(skuId), [8n, 3n]);
    assert.equal(soldOf(sale), 3n);
  });

  it('changes nothing when the transaction is rolled back', async () => {
    const sale = await insertSale({ sold: 1n });
    const order = orderOf({ saleId: sale.id });
    await assert.rejects(
      run(async (tx) => {
        await units.release(tx, [order]);
        throw new Error('undone');
      }),
    );
    assert.equal(soldOf(sale), 1n);
    assert.deepEqual(returnsOf(order), []);
  });
});
