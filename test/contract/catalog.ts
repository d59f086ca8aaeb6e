import assert from 'node:assert/strict';
import type { NewSpu, Spu, SpuFilter } from '../../internal/biz/catalog/catalog.js';
import {
  adjustment,
  freshId,
  insertProduct,
  insertSku,
  latch,
  type OpenBackend,
  times,
  useBackend,
} from './backend.js';

const SPU: Omit<NewSpu, 'spuNo'> = {
  ...{
    title: '手机',
    categoryId: 7n,
    brandId: 2n ** 53n + 1n,
    mainImages: ['https://img.test/1', 'https://img.test/2'],
  },
  ...{ detailHtml: '<p>"a phone"</p>', publishStatus: 'UNPUBLISHED', sellerId: '00000000-0000-8000-8000-000000000fff' },
  goodsType: 'PHYSICAL',
};

export function catalogRepoContract(name: string, open: OpenBackend): void {
  describe(`CatalogRepo ${name}`, () => {
    const backend = useBackend(open);
    const newSpu = async (changes: Partial<NewSpu> = {}) => {
      const spu = await backend.it.catalog.insertSpu({ ...SPU, spuNo: `no-${freshId()}`, ...changes });
      assert.ok(spu);
      return spu;
    };
    const insertBare = (spuId: bigint, skuNo: string) =>
      backend.it.transactions.run((tx) =>
        backend.it.catalog.insertSku(tx, {
          ...{ spuId, skuNo, skuName: 'n', priceFen: 2n ** 53n + 1n, marketPriceFen: 3n },
          specs: { storage: '256G', color: '黑色' },
        }),
      );

    it('stores a given spu at version 1 and rejects a second one with its number', async () => {
      const { catalog } = backend.it;
      const spu = await newSpu();
      const { id, spuNo, version, createdAt, updatedAt, ...rest } = spu;
      assert.deepEqual(rest, SPU);
      assert.deepEqual([version, createdAt instanceof Date, updatedAt instanceof Date], [1n, true, true]);
      assert.deepEqual(await catalog.findSpu(id), spu);
      assert.equal(await catalog.insertSpu({ ...SPU, spuNo }), undefined);
      assert.equal(await catalog.findSpu(999_999_999n), undefined);
    });

    it('stores a sku without stock, rejects a second one with its number, and finds it with its spu', async () => {
      const { catalog } = backend.it;
      const spu = await newSpu();
      const skuNo = `sku-${freshId()}`;
      const sku = await insertBare(spu.id, skuNo);
      assert.ok(sku);
      assert.deepEqual(
        [sku.spuId, sku.skuNo, sku.skuName, sku.priceFen, sku.marketPriceFen, sku.stock, sku.lockStock, sku.version],
        [spu.id, skuNo, 'n', 2n ** 53n + 1n, 3n, 0n, 0n, 1n],
      );
      assert.deepEqual(sku.specs, { storage: '256G', color: '黑色' });
      assert.deepEqual(await catalog.findSku(sku.id), sku);
      const { title, categoryId, mainImages, publishStatus, sellerId, goodsType } = spu;
      assert.deepEqual(await catalog.findGoods(sku.id), {
        ...{ sku, spu: { title, categoryId, mainImages, publishStatus, sellerId, goodsType } },
      });
      assert.equal(await insertBare(spu.id, skuNo), undefined);
      assert.deepEqual(await catalog.listSkus(spu.id), [sku]);
      assert.equal(await catalog.findSku(999_999_999n), undefined);
      assert.equal(await catalog.findGoods(spu.id), undefined);
    });

    it('draws the ids of skus and products from one sequence', async () => {
      const before = await insertProduct(backend.it.products);
      const sku = await insertSku(backend.it, 0n);
      const after = await insertProduct(backend.it.products);
      assert.ok(before.id < sku.spuId && sku.spuId < sku.id && sku.id < after.id);
    });

    it('changes the given fields of the version that was read and leaves the other fields', async () => {
      const { catalog } = backend.it;
      const spu = await newSpu();
      const changed = await catalog.updateSpu(spu.id, 1n, {
        title: 't',
        publishStatus: 'PUBLISHED',
        mainImages: ['x'],
      });
      assert.ok(changed);
      const { updatedAt: _, ...rest } = changed;
      const { updatedAt: __, ...was } = spu;
      assert.deepEqual(rest, { ...was, title: 't', publishStatus: 'PUBLISHED', mainImages: ['x'], version: 2n });
      assert.equal((await catalog.updateSpu(spu.id, 2n, { categoryId: 0n, detailHtml: '' }))?.detailHtml, '');
      assert.equal(await catalog.updateSpu(spu.id, 2n, { brandId: 1n }), undefined);
      assert.equal(await catalog.updateSpu(999_999_999n, 1n, { brandId: 1n }), undefined);

      const sku = await insertSku(backend.it, 5n);
      const patch = { skuName: 's', priceFen: 0n, marketPriceFen: 9n, specs: { size: 'L' } };
      const cheaper = await catalog.updateSku(sku.id, sku.version, patch);
      assert.ok(cheaper);
      const { updatedAt: ___, ...now } = cheaper;
      const { updatedAt: ____, ...then } = sku;
      assert.deepEqual(now, { ...then, ...patch, version: sku.version + 1n });
      assert.equal((await catalog.updateSku(sku.id, cheaper.version, { marketPriceFen: 0n }))?.marketPriceFen, 0n);
      assert.equal(await catalog.updateSku(sku.id, sku.version, { priceFen: 1n }), undefined);
    });

    it('applies one of twenty concurrent changes of the same version', async () => {
      const { catalog } = backend.it;
      const [spu, sku] = [await newSpu(), await insertSku(backend.it, 0n)];
      const spus = await Promise.all(times(20, (i) => catalog.updateSpu(spu.id, 1n, { title: `t${i}` })));
      const skus = await Promise.all(times(20, (i) => catalog.updateSku(sku.id, 1n, { skuName: `s${i}` })));
      for (const results of [spus, skus]) assert.equal(results.filter((r) => r !== undefined).length, 1);
    });

    it('lists spus by id in pages, without details, filtered by status, category and specification', async () => {
      const { catalog } = backend.it;
      const categoryId = freshId();
      const made: Spu[] = [];
      for (let i = 0; i < 4; i++) {
        made.push(await newSpu({ categoryId, publishStatus: i % 2 === 0 ? 'PUBLISHED' : 'UNPUBLISHED' }));
      }
      const ids = async (page: { offset: number; limit: number }, filter: Parameters<typeof catalog.listSpus>[1]) => {
        const { items, total } = await catalog.listSpus(page, filter);
        for (const item of items) assert.equal(item.detailHtml, '');
        return [items.map((s) => made.findIndex((m) => m.id === s.id)), total];
      };
      const all = { offset: 0, limit: 10 };
      assert.deepEqual(await ids(all, { categoryId }), [[0, 1, 2, 3], 4n]);
      assert.deepEqual(await ids({ offset: 1, limit: 2 }, { categoryId }), [[1, 2], 4n]);
      assert.deepEqual(await ids(all, { categoryId, publishStatus: 'UNPUBLISHED' }), [[1, 3], 2n]);
      await insertBare(made[2]!.id, `sku-${freshId()}`);
      assert.deepEqual(await ids(all, { categoryId, specs: { color: '黑色' } }), [[2], 1n]);
      assert.deepEqual(await ids(all, { categoryId, specs: { color: '256G' } }), [[], 0n]);
      assert.ok((await catalog.listSpus(all, {})).total >= 4n);
    });

    it('finds spus by title, and by price and several specifications of one and the same sku', async () => {
      const { catalog, transactions } = backend.it;
      const categoryId = freshId();
      const [phone, tablet, empty] = [
        await newSpu({ categoryId, title: '100% Phone_手机' }),
        await newSpu({ categoryId, title: 'Tablet' }),
        await newSpu({ categoryId, title: 'telePHONE' }),
      ];
      const add = (spu: Spu, priceFen: bigint, specs: Record<string, string>) =>
        transactions.run(async (tx) => {
          const sku = { spuId: spu.id, skuNo: `sku-${freshId()}`, skuName: 'n', priceFen, marketPriceFen: 0n, specs };
          await backend.it.stock.move(tx, [adjustment((await catalog.insertSku(tx, sku))!.id, 4n)]);
        });
      await add(phone, 100n, { color: 'black', storage: '128G' });
      await add(phone, 300n, { color: 'white', storage: '256G' });
      await add(tablet, 200n, { color: 'black', storage: '256G' });
      const find = async (filter: SpuFilter) => {
        const { items, total } = await catalog.listSpus({ offset: 0, limit: 10 }, { categoryId, ...filter });
        assert.equal(BigInt(items.length), total);
        return items.map((s) => s.title);
      };
      assert.deepEqual(await find({ title: 'phone' }), [phone.title, empty.title]);
      assert.deepEqual(await find({ title: '0% p' }), [phone.title]);
      assert.deepEqual(await find({ title: '_手' }), [phone.title]);
      assert.deepEqual(await find({ title: '%' }), [phone.title]);
      assert.deepEqual(await find({ specs: { color: 'black', storage: '256G' } }), ['Tablet']);
      assert.deepEqual(await find({ specs: { storage: '256G' } }), [phone.title, 'Tablet']);
      assert.deepEqual(await find({ minPriceFen: 200n }), [phone.title, 'Tablet']);
      assert.deepEqual(await find({ minPriceFen: 150n, maxPriceFen: 250n }), ['Tablet']);
      assert.deepEqual(await find({ maxPriceFen: 100n }), [phone.title]);
      assert.deepEqual(await find({ specs: { color: 'black' }, minPriceFen: 250n }), []);
      const { items } = await catalog.listSpus({ offset: 0, limit: 10 }, { categoryId });
      assert.deepEqual(
        items.map((s) => [s.prices, s.freeStock]),
        [
          [{ minFen: 100n, maxFen: 300n }, 8n],
          [{ minFen: 200n, maxFen: 200n }, 4n],
          [undefined, 0n],
        ],
      );
    });

    it('locks the existing skus until the transaction ends', async () => {
      const { catalog, transactions } = backend.it;
      const [a, b] = [await insertSku(backend.it, 4n), await insertSku(backend.it, 0n)];
      const [locked, go] = [latch(), latch()];
      const holding = transactions.run(async (tx) => {
        const goods = await catalog.lockGoods(tx, [a.id, b.id, b.id + 1_000_000n]);
        assert.deepEqual(
          goods.map((g) => [g.sku.id, g.sku.stock, g.spu.publishStatus]).sort(),
          [
            [a.id, 4n, 'PUBLISHED'],
            [b.id, 0n, 'PUBLISHED'],
          ].sort(),
        );
        locked.open();
        await go.opened;
        await backend.it.stock.move(tx, [adjustment(a.id, 1n)]);
      });
      await locked.opened;
      const waiting = transactions.run((tx) => catalog.lockGoods(tx, [a.id]));
      go.open();
      await holding;
      const [seen] = await waiting;
      assert.deepEqual([seen?.sku.stock, seen?.sku.stockSeq], [5n, a.stockSeq + 1n]);
    });

    it('counts the skus of an spu and keeps other transactions from adding one until it ends', async () => {
      const { catalog, transactions } = backend.it;
      const spu = await newSpu();
      const most = 3;
      await Promise.all(
        times(10, (i) =>
          transactions.run(async (tx) => {
            const count = await catalog.lockSpu(tx, spu.id);
            if (count === undefined || count >= most) return;
            const sku = { spuId: spu.id, skuNo: `of-${spu.id}-${i}`, skuName: 'n', priceFen: 1n, marketPriceFen: 0n };
            await catalog.insertSku(tx, { ...sku, specs: {} });
          }),
        ),
      );
      assert.equal((await catalog.listSkus(spu.id)).length, most);
      assert.equal(await transactions.run((tx) => catalog.lockSpu(tx, 999_999_999n)), undefined);
    });
  });
}
