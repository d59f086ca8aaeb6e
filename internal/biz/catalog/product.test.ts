import assert from 'node:assert/strict';
import { isInvalidArgument } from '../../../gen/common/v1/errors.js';
import {
  isProductDisabled,
  isProductNotFound,
  isProductSpecNotFound,
  isProductVersionConflict,
} from '../../../gen/product/v1/errors.js';
import { insertProduct } from '../../../test/contract/backend.js';
import { MemoryProductRepo } from '../../../test/support/memory/product.js';
import { MemoryStore } from '../../../test/support/memory/store.js';
import { formatUserId } from '../identity.js';
import { ProductUsecase } from './product.js';

describe('ProductUsecase', () => {
  const repo = new MemoryProductRepo(new MemoryStore());
  const products = new ProductUsecase(repo);

  it('names a specification that does not exist', async () => {
    const { spec, ...plan } = await insertProduct(repo);
    await assert.rejects(
      products.create({ ...plan, specId: spec.id + 1_000n }),
      (err) => isProductSpecNotFound(err) && err.metadata.spec_id === String(spec.id + 1_000n),
    );
  });

  it('stores a seller as a UUID and rejects a malformed one', async () => {
    const { spec, ...plan } = await insertProduct(repo);
    const sold = await products.create({ ...plan, specId: spec.id, sellerId: '123' });
    assert.equal(sold.sellerId, formatUserId('123'));
    await assert.rejects(
      products.create({ ...plan, specId: spec.id, sellerId: 'no-uuid' }),
      (err) => isInvalidArgument(err) && err.violations[0]?.field === 'seller_id',
    );
  });

  it('names the current version when a change is based on another one', async () => {
    const product = await insertProduct(repo);
    await products.update(product.id, 1n, { priceFen: 1n });
    await assert.rejects(
      products.update(product.id, 1n, { priceFen: 2n }),
      (err) => isProductVersionConflict(err) && err.metadata.version === '2' && err.metadata.product_id !== undefined,
    );
    await assert.rejects(products.update(product.id + 1_000n, 1n, { priceFen: 2n }), isProductNotFound);
    await assert.rejects(products.update(product.id, 2n, {}), isInvalidArgument);
    assert.equal((await products.get(product.id)).priceFen, 1n);
  });

  it('sells only enabled products', async () => {
    const product = await insertProduct(repo);
    assert.deepEqual(await products.getOnSale(product.id), product);
    assert.equal((await products.getEnabled(product.id)).id, product.id);
    await products.update(product.id, 1n, { status: 'DISABLED' });
    await assert.rejects(products.getEnabled(product.id), isProductNotFound);
    await assert.rejects(products.getOnSale(product.id), isProductDisabled);
    await assert.rejects(products.getOnSale(product.id + 1_000n), isProductNotFound);
  });

  it('applies the bounds of a page', async () => {
    for (let i = 0; i < 25; i++) await insertProduct(repo);
    assert.equal((await products.list({ offset: -5, limit: 0 }, undefined)).items.length, 20);
    assert.equal((await products.list({ offset: 0, limit: -1 }, undefined)).items.length, 20);
    for (let i = 0; i < 80; i++) await insertProduct(repo);
    assert.equal((await products.list({ offset: 0, limit: 1_000 }, undefined)).items.length, 100);
  });
});
