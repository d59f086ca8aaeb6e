import assert from 'node:assert/strict';
import {
  isSkuNoTaken,
  isSkuNotFound,
  isSkuVersionConflict,
  isSpuFull,
  isSpuNoTaken,
  isSpuNotFound,
  isSpuVersionConflict,
  isStockInsufficient,
  isStockRequestReused,
} from '../../../gen/catalog/v1/errors.js';
import { isInvalidArgument } from '../../../gen/common/v1/errors.js';
import { MemoryCatalogRepo } from '../../../test/support/memory/catalog.js';
import { MemoryStockRepo } from '../../../test/support/memory/stock.js';
import { MemoryStore } from '../../../test/support/memory/store.js';
import { formatUserId } from '../identity.js';
import { CatalogUsecase, type NewSku } from './catalog.js';

function setUp() {
  const store = new MemoryStore();
  const repo = new MemoryCatalogRepo(store);
  const stock = new MemoryStockRepo(store, repo.skus);
  return { store, stock, catalog: new CatalogUsecase(store, repo, stock) };
}

const SPU = {
  ...{ spuNo: 'p1', title: 'phone', categoryId: 1n, brandId: 1n, mainImages: [], detailHtml: 'long' },
  publishStatus: 'PUBLISHED',
} as const;

function newSku(spuId: bigint, skuNo: string): NewSku {
  return { spuId, skuNo, skuName: 'phone, black', priceFen: 500n, marketPriceFen: 0n, specs: { color: 'black' } };
}

describe('CatalogUsecase', () => {
  it('creates spus and skus and rejects numbers that are taken', async () => {
    const { catalog } = setUp();
    const spu = await catalog.createSpu(SPU);
    await assert.rejects(catalog.createSpu(SPU), isSpuNoTaken);
    const sku = await catalog.createSku(newSku(spu.id, 's1'), 7n);
    assert.deepEqual([sku.stock, sku.lockStock], [7n, 0n]);
    assert.equal((await catalog.createSku(newSku(spu.id, 's2'), 0n)).stock, 0n);
    await assert.rejects(catalog.createSku(newSku(spu.id, 's1'), 7n), isSkuNoTaken);
    await assert.rejects(catalog.createSku(newSku(99n, 's3'), 7n), isSpuNotFound);
    const found = await catalog.getSpu(spu.id, 'public');
    const summary = { prices: { minFen: 500n, maxFen: 500n }, freeStock: 7n };
    assert.deepEqual([found.spu, found.skus.map((s) => s.skuNo)], [{ ...spu, ...summary }, ['s1', 's2']]);
    assert.deepEqual(await catalog.getSku(sku.id), sku);
    await assert.rejects(catalog.getSpu(99n, 'operator'), isSpuNotFound);
    await assert.rejects(catalog.getSku(99n), isSkuNotFound);
  });

  it('shows unpublished goods to operators only', async () => {
    const { catalog } = setUp();
    const hidden = await catalog.createSpu({ ...SPU, publishStatus: 'UNPUBLISHED' });
    const sku = await catalog.createSku(newSku(hidden.id, 's1'), 1n);
    const page = { offset: 0, limit: 10 };
    await assert.rejects(catalog.getSpu(hidden.id, 'public'), isSpuNotFound);
    await assert.rejects(catalog.getPublishedSku(sku.id), isSkuNotFound);
    for (const publishStatus of [undefined, 'UNPUBLISHED'] as const) {
      assert.equal((await catalog.listSpus(page, { publishStatus }, 'public')).total, 0n);
      assert.equal((await catalog.listSpus(page, { publishStatus }, 'operator')).total, 1n);
    }
    assert.equal((await catalog.getSpu(hidden.id, 'operator')).spu.id, hidden.id);
    await catalog.updateSpu(hidden.id, 1n, { publishStatus: 'PUBLISHED' });
    assert.equal((await catalog.getPublishedSku(sku.id)).id, sku.id);
    assert.equal((await catalog.listSpus(page, {}, 'public')).total, 1n);
  });

  it('stores a seller as a UUID and rejects a malformed one', async () => {
    const { catalog } = setUp();
    const spu = await catalog.createSpu({ ...SPU, sellerId: '123' });
    assert.equal(spu.sellerId, formatUserId('123'));
    const field = (err: unknown) => isInvalidArgument(err) && err.violations[0]?.field === 'seller_id';
    await assert.rejects(catalog.updateSpu(spu.id, 1n, { sellerId: 'no-uuid' }), field);
    assert.equal((await catalog.updateSpu(spu.id, 1n, { sellerId: '124' })).sellerId, formatUserId('124'));
  });

  it('lists the ledger of a sku, newest first, page by page', async () => {
    const { catalog } = setUp();
    const spu = await catalog.createSpu(SPU);
    const { id: skuId } = await catalog.createSku(newSku(spu.id, 's1'), 10n);
    for (let i = 1; i <= 4; i++) {
      const { version } = await catalog.getSku(skuId);
      await catalog.adjustStock({ skuId, delta: BigInt(i), version, requestId: `r${i}`, reason: 'count' });
    }
    const first = await catalog.listStockMoves(skuId, 3, '');
    const second = await catalog.listStockMoves(skuId, 3, first.nextPageToken);
    assert.deepEqual(
      [...first.items, ...second.items].map((m) => [m.kind, m.units, m.requestId, m.reason]),
      [4n, 3n, 2n, 1n]
        .map((units) => ['ADJUST', units, `r${units}`, 'count'])
        .concat([['ADJUST', 10n, undefined, 'initial'] as never]),
    );
    assert.equal(second.nextPageToken, '');
    await assert.rejects(catalog.listStockMoves(skuId + 1n, 3, first.nextPageToken), isInvalidArgument);
    await assert.rejects(catalog.listStockMoves(99n, 3, ''), isSkuNotFound);
  });

  it('rejects a sku when the spu has the maximum number', async () => {
    const { catalog } = setUp();
    const spu = await catalog.createSpu(SPU);
    for (let i = 0; i < 100; i++) await catalog.createSku(newSku(spu.id, `s${i}`), 0n);
    await assert.rejects(catalog.createSku(newSku(spu.id, 'more'), 0n), isSpuFull);
  });

  it('changes only the version that was read', async () => {
    const { catalog } = setUp();
    const spu = await catalog.createSpu(SPU);
    assert.equal((await catalog.updateSpu(spu.id, 1n, { title: 'better phone' })).version, 2n);
    await assert.rejects(catalog.updateSpu(spu.id, 1n, { title: 'x' }), (err) => {
      assert.ok(isSpuVersionConflict(err));
      assert.equal(err.metadata.version, '2');
      return true;
    });
    await assert.rejects(catalog.updateSpu(99n, 1n, { title: 'x' }), isSpuNotFound);
    await assert.rejects(catalog.updateSpu(spu.id, 2n, {}), isInvalidArgument);
    const sku = await catalog.createSku(newSku(spu.id, 's1'), 0n);
    assert.equal((await catalog.updateSku(sku.id, 1n, { priceFen: 400n })).priceFen, 400n);
    await assert.rejects(catalog.updateSku(sku.id, 1n, { priceFen: 1n }), isSkuVersionConflict);
    await assert.rejects(catalog.updateSku(99n, 1n, { priceFen: 1n }), isSkuNotFound);
    await assert.rejects(catalog.updateSku(sku.id, 2n, {}), isInvalidArgument);
  });

  it('adjusts only free units of the version that was read, and each request once', async () => {
    const { store, stock, catalog } = setUp();
    const spu = await catalog.createSpu(SPU);
    const sku = await catalog.createSku(newSku(spu.id, 's1'), 10n);
    await store.run((tx) =>
      stock.move(tx, [{ kind: 'SALE_HOLD', skuId: sku.id, saleId: 1n, units: 4n, stockDelta: 0n, lockDelta: 4n }]),
    );
    const adjust = (delta: bigint, version: bigint, requestId: string, skuId = sku.id) =>
      catalog.adjustStock({ skuId, delta, version, requestId, reason: 'count' });
    await assert.rejects(adjust(-7n, sku.version, 'a'), (err) => {
      assert.ok(isStockInsufficient(err));
      assert.equal(err.metadata.free, '6');
      return true;
    });
    const less = await adjust(-6n, sku.version, 'a');
    assert.deepEqual([less.stock, less.lockStock, less.version], [4n, 4n, sku.version + 1n]);
    assert.deepEqual(await adjust(-6n, sku.version, 'a'), less);
    await assert.rejects(adjust(-5n, less.version, 'a'), isStockRequestReused);
    await assert.rejects(adjust(1n, sku.version, 'b'), isSkuVersionConflict);
    assert.equal((await adjust(1n, less.version, 'b')).stock, 5n);
    await assert.rejects(adjust(1n, 1n, 'c', 99n), isSkuNotFound);
  });
});
