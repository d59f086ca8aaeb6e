import assert from 'node:assert/strict';
import { MemoryCatalogRepo } from '../../../test/support/memory/catalog.js';
import { MemoryContentRepo } from '../../../test/support/memory/content.js';
import { MemoryProductRepo } from '../../../test/support/memory/product.js';
import { MemoryStore } from '../../../test/support/memory/store.js';
import { ItemDirectory } from './item.js';

describe('ItemDirectory', () => {
  it('finds products, skus and contents by item id and tells whether they are on sale', async () => {
    const store = new MemoryStore();
    const [products, catalog] = [new MemoryProductRepo(store), new MemoryCatalogRepo(store)];
    const contents = new MemoryContentRepo(store, catalog.skus);
    const items = new ItemDirectory(products, catalog, contents);
    const { id: specId } = await products.insertSpec({ cpu: 1, memoryGb: 1, gpu: 0, image: 'i', config: undefined });
    const plan = { name: 'plan', description: '', priceFen: 1n, specId, imageUrl: '', sellerId: undefined };
    const product = await products.insert({ ...plan, status: 'ENABLED' });
    const spu = await catalog.insertSpu({
      ...{ spuNo: 'p', title: 'phone', categoryId: 1n, brandId: 1n, mainImages: ['x'], detailHtml: 'long' },
      publishStatus: 'UNPUBLISHED',
    });
    const sku = await store.run((tx) =>
      catalog.insertSku(tx, {
        ...{ spuId: spu!.id, skuNo: 's', skuName: 'phone, black', priceFen: 2n, marketPriceFen: 0n, specs: {} },
      }),
    );
    assert.deepEqual(await items.find(product!.id), {
      ...{
        orderType: 'INSTANCE',
        id: product!.id,
        name: 'plan',
        priceFen: 1n,
        sellerId: undefined,
        onSale: true,
        product,
      },
    });
    assert.deepEqual(await items.find(sku!.id), {
      ...{ orderType: 'GOODS', id: sku!.id, name: 'phone, black', priceFen: 2n, sellerId: undefined, onSale: false },
      goods: {
        sku,
        spu: {
          ...{ title: 'phone', categoryId: 1n, mainImages: ['x'], publishStatus: 'UNPUBLISHED', sellerId: undefined },
          goodsType: '',
        },
      },
    });
    const content = await contents.insert({
      ...{ title: 'course', contentType: 'COURSE', priceFen: 3n, accessDays: 30, publishStatus: 'PUBLISHED' },
      sellerId: undefined,
    });
    assert.deepEqual(await items.find(content.id), {
      ...{ orderType: 'CONTENT', id: content.id, name: 'course', priceFen: 3n, sellerId: undefined, onSale: true },
      content,
    });
    await catalog.updateSpu(spu!.id, 1n, { publishStatus: 'PUBLISHED' });
    assert.equal((await items.find(sku!.id))?.onSale, true);
    assert.equal(await items.find(spu!.id), undefined);
    assert.equal(await items.find(999n), undefined);
  });
});
