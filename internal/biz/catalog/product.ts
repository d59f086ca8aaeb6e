import { invalidArgument } from '../../../gen/common/v1/errors.js';
import {
  productDisabled,
  productNotFound,
  productSpecNotFound,
  productVersionConflict,
} from '../../../gen/product/v1/errors.js';
import { formatUserId } from '../identity.js';
import { type Page, type PageRequest, pageOf } from '../page.js';

/** An immutable value object. */
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

/** Fields of a product that can be changed. Absent fields stay as they are. */
export interface ProductPatch {
  readonly name?: string;
  readonly description?: string;
  readonly priceFen?: bigint;
  readonly status?: ProductStatus;
  readonly imageUrl?: string;
}

export abstract class ProductRepo {
  abstract insertSpec(spec: NewProductSpec): Promise<ProductSpec>;
  /** @returns undefined: there is no specification `specId` */
  abstract insert(product: NewProduct): Promise<Product | undefined>;
  /** @returns undefined: there is no such product, or its version is another one */
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
    if (Object.keys(patch).length === 0) throw invalidArgument('no field to change');
    const updated = await this.products.update(id, version, patch);
    if (updated) return updated;
    const current = await this.get(id);
    throw productVersionConflict(`product ${id} is at version ${current.version}, not ${version}`, {
      metadata: { product_id: String(id), version: String(current.version) },
    });
  }

  async get(id: bigint): Promise<Product> {
    const product = await this.products.find(id);
    if (!product) throw noProduct(id);
    return product;
  }

  /** @throws PRODUCT_NOT_FOUND, also when the product is disabled */
  async getEnabled(id: bigint): Promise<Product> {
    const product = await this.products.find(id);
    if (product?.status !== 'ENABLED') throw noProduct(id);
    return product;
  }

  /** @throws PRODUCT_NOT_FOUND, PRODUCT_DISABLED */
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

function noProduct(id: bigint): Error {
  return productNotFound(`no product ${id}`, { metadata: { product_id: String(id) } });
}
