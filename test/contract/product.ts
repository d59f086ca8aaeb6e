import assert from 'node:assert/strict';
import type { NewProductSpec } from '../../internal/biz/catalog/product.js';
import { freshUser, insertProduct, type OpenBackend, times, useBackend } from './backend.js';

const SPEC: NewProductSpec = {
  cpu: 8,
  memoryGb: 32,
  gpu: 1,
  image: 'ubuntu-24',
  config: { disk: { gb: 100 }, nics: [1] },
};

export function productRepoContract(name: string, open: OpenBackend): void {
  describe(`ProductRepo ${name}`, () => {
    const backend = useBackend(open);

    it('stores a specification with the given values', async () => {
      const { products } = backend.it;
      const { id, createdAt, ...spec } = await products.insertSpec(SPEC);
      assert.deepEqual(spec, SPEC);
      assert.ok(createdAt instanceof Date);
      const product = await insertProduct(products, { specId: id });
      assert.deepEqual((await products.find(product.id))?.spec, { ...SPEC, id, createdAt });
      const plain = await products.insertSpec({ ...SPEC, config: undefined });
      assert.equal(plain.config, undefined);
      assert.notEqual(plain.id, id);
    });

    it('stores a product at version 1 and finds it', async () => {
      const { products } = backend.it;
      const sellerId = freshUser();
      const product = await insertProduct(products, {
        name: '小型',
        status: 'DISABLED',
        priceFen: 2n ** 53n + 1n,
        sellerId,
      });
      assert.deepEqual(
        [product.name, product.status, product.priceFen, product.sellerId, product.version],
        ['小型', 'DISABLED', 2n ** 53n + 1n, sellerId, 1n],
      );
      assert.deepEqual(await products.find(product.id), product);
    });

    it('finds no product that does not exist, and stores none with a specification that does not exist', async () => {
      const { products } = backend.it;
      assert.equal(await products.find(999_999_999n), undefined);
      const { spec: _, ...product } = await insertProduct(products);
      assert.equal(await products.insert({ ...product, specId: 999_999_999n }), undefined);
    });

    it('changes the given fields and leaves the others', async () => {
      const { products } = backend.it;
      const before = await insertProduct(products, { description: 'kept', imageUrl: 'https://img.test/1' });
      const after = await products.update(before.id, 1n, { priceFen: 0n, status: 'DISABLED', name: 'renamed' });
      assert.ok(after);
      const { updatedAt, ...rest } = after;
      const { updatedAt: _, ...was } = before;
      assert.deepEqual(rest, { ...was, priceFen: 0n, status: 'DISABLED', name: 'renamed', version: 2n });
      assert.ok(updatedAt >= before.updatedAt);
      assert.deepEqual(await products.find(before.id), after);
      assert.equal((await products.update(before.id, 2n, { description: '', imageUrl: '' }))?.description, '');
    });

    it('changes nothing if the version differs or the product does not exist', async () => {
      const { products } = backend.it;
      const product = await insertProduct(products);
      assert.equal(await products.update(product.id, 2n, { priceFen: 1n }), undefined);
      assert.equal(await products.update(999_999_999n, 1n, { priceFen: 1n }), undefined);
      assert.deepEqual(await products.find(product.id), product);
    });

    it('applies one of twenty concurrent changes of the same version', async () => {
      const { products } = backend.it;
      const product = await insertProduct(products);
      const results = await Promise.all(times(20, (i) => products.update(product.id, 1n, { priceFen: BigInt(i) })));
      const won = results.filter((r) => r !== undefined);
      assert.equal(won.length, 1);
      assert.deepEqual(await products.find(product.id), won[0]);
      assert.equal(won[0]?.version, 2n);
    });

    it('lists products by id in pages, with the total number', async () => {
      const { products } = backend.it;
      const made = [];
      for (let i = 0; i < 5; i++)
        made.push(await insertProduct(products, { status: i % 2 === 0 ? 'ENABLED' : 'DISABLED' }));
      const all = await products.list({ offset: 0, limit: 100 }, undefined);
      assert.equal(all.total, BigInt(all.items.length));
      assert.deepEqual(all.items.slice(-5), made);
      const page = await products.list({ offset: all.items.length - 3, limit: 2 }, undefined);
      assert.deepEqual([page.items, page.total], [made.slice(2, 4), all.total]);
      const disabled = await products.list({ offset: 0, limit: 100 }, 'DISABLED');
      assert.deepEqual(disabled.items.slice(-2), [made[1], made[3]]);
      assert.equal(disabled.total, BigInt(disabled.items.length));
      assert.deepEqual((await products.list({ offset: 1_000_000, limit: 1 }, undefined)).items, []);
    });
  });
}
