import {
  CatalogRepo,
  type Goods,
  type ListedSpu,
  type NewSku,
  type NewSpu,
  type Sku,
  type SkuPatch,
  type Spu,
  type SpuFilter,
  type SpuPatch,
  summaryOf,
} from '../../../internal/biz/catalog/catalog.js';
import type { Page, PageRequest } from '../../../internal/biz/page.js';
import type { Transaction } from '../../../internal/biz/transaction.js';
import { type MemoryStore, MemoryTable } from './store.js';

const NUMBER_KEY = 'number';

export class MemoryCatalogRepo extends CatalogRepo {
  readonly skus: MemoryTable<Sku>;
  private readonly spus: MemoryTable<Spu>;

  constructor(private readonly store: MemoryStore) {
    super();
    this.spus = new MemoryTable(store, 'spu', (s) => String(s.id), [{ name: NUMBER_KEY, of: (s) => s.spuNo }]);
    this.skus = new MemoryTable(store, 'sku', (s) => String(s.id), [{ name: NUMBER_KEY, of: (s) => s.skuNo }]);
  }

  override insertSpu(spu: NewSpu): Promise<Spu | undefined> {
    return this.store.statement('spu.insert', undefined, async (tx) => {
      const at = this.store.now();
      const { sellerId, goodsType = '' } = spu;
      const stored: Spu = {
        ...spu,
        sellerId,
        goodsType,
        id: this.store.nextItemId(),
        version: 1n,
        createdAt: at,
        updatedAt: at,
      };
      return (await this.spus.insert(tx, stored, NUMBER_KEY)) ? undefined : stored;
    });
  }

  override updateSpu(id: bigint, version: bigint, patch: SpuPatch): Promise<Spu | undefined> {
    return this.store.statement('spu.update', undefined, (tx) =>
      this.spus.update(tx, String(id), (s) =>
        s.version === version
          ? {
              ...s,
              ...patch,
              goodsType: patch.goodsType ?? s.goodsType,
              version: version + 1n,
              updatedAt: this.store.now(),
            }
          : undefined,
      ),
    );
  }

  override findSpu(id: bigint): Promise<Spu | undefined> {
    return this.store.statement('spu.find', undefined, async () => this.spus.find(String(id)));
  }

  override listSpus({ offset, limit }: PageRequest, filter: SpuFilter): Promise<Page<ListedSpu>> {
    return this.store.statement('spu.list', undefined, async () => {
      const { publishStatus, categoryId, title } = filter;
      const ofSkus = filter.specs !== undefined || filter.minPriceFen !== undefined || filter.maxPriceFen !== undefined;
      const found = this.spus
        .rows()
        .filter((s) => publishStatus === undefined || s.publishStatus === publishStatus)
        .filter((s) => categoryId === undefined || s.categoryId === categoryId)
        .filter((s) => title === undefined || s.title.toLowerCase().includes(title.toLowerCase()))
        .filter((s) => !ofSkus || this.skusOf(s.id).some((sku) => isWanted(sku, filter)))
        .sort((a, b) => (a.id < b.id ? -1 : 1));
      const items = found.slice(offset, offset + limit).map((s) => ({
        ...{ ...s, detailHtml: '', ...summaryOf(this.skusOf(s.id)) },
      }));
      return { items, total: BigInt(found.length) };
    });
  }

  override lockSpu(tx: Transaction, id: bigint): Promise<number | undefined> {
    return this.store.statement('spu.lock', tx, async () => {
      if (!(await this.spus.lock(tx, String(id)))) return undefined;
      return this.skus.rows(tx).filter((s) => s.spuId === id).length;
    });
  }

  override insertSku(tx: Transaction, sku: NewSku): Promise<Sku | undefined> {
    return this.store.statement('sku.insert', tx, async () => {
      const at = this.store.now();
      const none = { stock: 0n, lockStock: 0n, stockSeq: 0n, contents: [], version: 1n };
      const stored: Sku = { ...sku, ...none, id: this.store.nextItemId(), createdAt: at, updatedAt: at };
      return (await this.skus.insert(tx, stored, NUMBER_KEY)) ? undefined : stored;
    });
  }

  override updateSku(id: bigint, version: bigint, patch: SkuPatch): Promise<Sku | undefined> {
    return this.store.statement('sku.update', undefined, (tx) =>
      this.skus.update(tx, String(id), (s) =>
        s.version === version ? { ...s, ...patch, version: version + 1n, updatedAt: this.store.now() } : undefined,
      ),
    );
  }

  override findSku(id: bigint, tx?: Transaction): Promise<Sku | undefined> {
    return this.store.statement('sku.find', tx, async () => this.skus.find(String(id), tx));
  }

  override listSkus(spuId: bigint): Promise<readonly Sku[]> {
    return this.store.statement('sku.list', undefined, async () =>
      this.skus
        .rows()
        .filter((s) => s.spuId === spuId)
        .sort((a, b) => (a.id < b.id ? -1 : 1)),
    );
  }

  override findGoods(skuId: bigint): Promise<Goods | undefined> {
    return this.store.statement('goods.find', undefined, async () => {
      const sku = this.skus.find(String(skuId));
      return sku && this.goodsOf(sku);
    });
  }

  override findAllGoods(skuIds: readonly bigint[]): Promise<readonly Goods[]> {
    return this.store.statement('goods.findAll', undefined, async () =>
      skuIds.flatMap((id) => {
        const sku = this.skus.find(String(id));
        return (sku && this.goodsOf(sku)) ?? [];
      }),
    );
  }

  override lockGoods(tx: Transaction, skuIds: readonly bigint[]): Promise<readonly Goods[]> {
    return this.store.statement('goods.lock', tx, async () => {
      const locked: Goods[] = [];
      for (const id of skuIds) {
        const sku = await this.skus.lock(tx, String(id));
        const goods = sku && this.goodsOf(sku);
        if (goods) locked.push(goods);
      }
      return locked;
    });
  }

  private skusOf(spuId: bigint): readonly Sku[] {
    return this.skus.rows().filter((s) => s.spuId === spuId);
  }

  private goodsOf(sku: Sku): Goods | undefined {
    const spu = this.spus.find(String(sku.spuId));
    if (!spu) return undefined;
    const { title, categoryId, mainImages, publishStatus, sellerId, goodsType } = spu;
    return { sku, spu: { title, categoryId, mainImages, publishStatus, sellerId, goodsType } };
  }
}

function isWanted(sku: Sku, { specs = {}, minPriceFen, maxPriceFen }: SpuFilter): boolean {
  if (minPriceFen !== undefined && sku.priceFen < minPriceFen) return false;
  if (maxPriceFen !== undefined && sku.priceFen > maxPriceFen) return false;
  return Object.entries(specs).every(([name, value]) => sku.specs[name] === value);
}
