import {
  type NewProduct,
  type NewProductSpec,
  type Product,
  type ProductPatch,
  ProductRepo,
  type ProductSpec,
  type ProductStatus,
} from '../../../internal/biz/catalog/product.js';
import type { Page, PageRequest } from '../../../internal/biz/page.js';
import { type MemoryStore, MemoryTable } from './store.js';

export class MemoryProductRepo extends ProductRepo {
  private readonly specs: MemoryTable<ProductSpec>;
  private readonly products: MemoryTable<Product>;
  private lastSpecId = 0n;

  constructor(private readonly store: MemoryStore) {
    super();
    this.specs = new MemoryTable(store, 'product_specs', (s) => String(s.id));
    this.products = new MemoryTable(store, 'products', (p) => String(p.id));
  }

  override insertSpec(spec: NewProductSpec): Promise<ProductSpec> {
    return this.store.statement('product.insertSpec', undefined, async (tx) => {
      const stored: ProductSpec = {
        ...spec,
        config: structuredClone(spec.config),
        id: ++this.lastSpecId,
        createdAt: this.store.now(),
      };
      await this.specs.insert(tx, stored);
      return stored;
    });
  }

  override insert({ specId, ...product }: NewProduct): Promise<Product | undefined> {
    return this.store.statement('product.insert', undefined, async (tx) => {
      const spec = this.specs.find(String(specId));
      if (!spec) return undefined;
      const at = this.store.now();
      const { name, description, status, priceFen, imageUrl, sellerId } = product;
      const stored: Product = {
        ...{ name, description, status, priceFen, imageUrl, sellerId },
        ...{ id: this.store.nextItemId(), spec, version: 1n, createdAt: at, updatedAt: at },
      };
      await this.products.insert(tx, stored);
      return stored;
    });
  }

  override update(id: bigint, version: bigint, patch: ProductPatch): Promise<Product | undefined> {
    return this.store.statement('product.update', undefined, (tx) =>
      this.products.update(tx, String(id), (p) =>
        p.version === version ? { ...p, ...patch, version: version + 1n, updatedAt: this.store.now() } : undefined,
      ),
    );
  }

  override find(id: bigint): Promise<Product | undefined> {
    return this.store.statement('product.find', undefined, async () => this.products.find(String(id)));
  }

  override list({ offset, limit }: PageRequest, status: ProductStatus | undefined): Promise<Page<Product>> {
    return this.store.statement('product.list', undefined, async () => {
      const found = this.products.rows().filter((p) => status === undefined || p.status === status);
      found.sort((a, b) => (a.id < b.id ? -1 : 1));
      return { items: found.slice(offset, offset + limit), total: BigInt(found.length) };
    });
  }
}
