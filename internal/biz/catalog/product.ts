import { invalidArgument } from '../../../gen/common/v1/errors.js';
import {
  productDisabled,
  productNotFound,
  productSpecNotFound,
  productVersionConflict,
} from '../../../gen/product/v1/errors.js';
import { formatUserId } from '../identity.js';
import { type Page, type PageRequest, pageOf } from '../page.js';

/** A value object: once created it never changes. */
export interface ProductSpec {
  readonly id: bigint;
  readonly cpu: number;
  readonly memoryGb: number;
  readonly gpu: number;
  readonly image: string;
  readonly config: Readonly<Record<string, unknown>> | undefined;
  readonly createdAt: Date;
}

export type ProductStatus = 'ENABLED' | 'DISABLED';

/** An instance plan. */
export interface Product {
  readonly id: bigint;
  readonly name: string;
  readonly description: string;
  readonly status: ProductStatus;
  readonly priceFen: bigint;
  readonly spec: ProductSpec;
  readonly imageUrl: string;
  readonly sellerId: string | undefined;
  readonly version: bigint;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

export type NewProductSpec = Omit<ProductSpec, 'id' | 'createdAt'>;
export type NewProduct = Pick<Product, 'name' | 'description' | 'status' | 'priceFen' | 'imageUrl' | 'sellerId'> & {
  readonly specId: bigint;
};

/** What may change of a product; absent fields stay. */
export interface ProductPatch {
  readonly name?: string;
  readonly description?: string;
  readonly priceFen?: bigint;
  readonly status?: ProductStatus;
  readonly imageUrl?: string;
}

export abstract class ProductRepo {
  abstract insertSpec(spec: NewProductSpec): Promise<ProductSpec>;
  /** undefined where no specification has `specId`. */
  abstract insert(product: NewProduct): Promise<Product | undefined>;
  /** Changes the product only while its version is `version`; undefined where it is not (or there is none). */
  abstract update(id: bigint, version: bigint, patch: ProductPatch): Promise<Product | undefined>;
  abstract find(id: bigint): Promise<Product | undefined>;
  /** By id, ascending. */
  abstract list(page: PageRequest, status: ProductStatus | undefined): Promise<Page<Product>>;
}

export class ProductUsecase {
  constructor(private readonly products: ProductRepo) {}

  createSpec(spec: NewProductSpec): Promise<ProductSpec> {
    return this.products.insertSpec(spec);
  }

  async create(product: NewProduct): Promise<Product> {
    const sellerId = product.sellerId === undefined ? undefined : formatUserId(product.sellerId, 'seller_id');
    const created = await this.products.insert({ ...product, sellerId });
    if (!created)
      throw productSpecNotFound(`no product spec ${product.specId}`, { metadata: { spec_id: String(product.specId) } });
    return created;
  }

  async update(id: bigint, version: bigint, patch: ProductPatch): Promise<Product> {
    if (Object.keys(patch).length === 0) throw invalidArgument('nothing to change: give at least one field');
    const updated = await this.products.update(id, version, patch);
    if (updated) return updated;
    const current = await this.get(id);
    throw productVersionConflict(`product ${id} is at version ${current.version}, not ${version}`, {
      metadata: { product_id: String(id), version: String(current.version) },
    });
  }

  async get(id: bigint): Promise<Product> {
    const product = await this.products.find(id);
    if (!product) throw productNotFound(`no product ${id}`, { metadata: { product_id: String(id) } });
    return product;
  }

  /** The product, if it can be bought now. */
  async getOnSale(id: bigint): Promise<Product> {
    const product = await this.get(id);
    if (product.status !== 'ENABLED') {
      throw productDisabled(`product ${id} is not on sale`, { metadata: { product_id: String(id) } });
    }
    return product;
  }

  list(page: PageRequest, status: ProductStatus | undefined): Promise<Page<Product>> {
    return this.products.list(pageOf(page), status);
  }
}
