import type { CatalogRepo, Goods } from './catalog.js';
import type { Product, ProductRepo } from './product.js';

interface ItemFacts {
  readonly id: bigint;
  readonly name: string;
  readonly priceFen: bigint;
  readonly sellerId: string | undefined;
  readonly onSale: boolean;
}

/** A product or a sku, by the type of its orders. */
export type Item =
  | (ItemFacts & { readonly orderType: 'INSTANCE'; readonly product: Product })
  | (ItemFacts & { readonly orderType: 'GOODS'; readonly goods: Goods });

/** Products and skus draw their ids from one sequence, so an item id is unique across both. */
export class ItemDirectory {
  constructor(
    private readonly products: ProductRepo,
    private readonly catalog: CatalogRepo,
  ) {}

  async find(id: bigint): Promise<Item | undefined> {
    const product = await this.products.find(id);
    if (product) {
      const { name, priceFen, sellerId, status } = product;
      return { orderType: 'INSTANCE', id, name, priceFen, sellerId, onSale: status === 'ENABLED', product };
    }
    const goods = await this.catalog.findGoods(id);
    if (!goods) return undefined;
    const { skuName: name, priceFen } = goods.sku;
    const { publishStatus, sellerId } = goods.spu;
    return { orderType: 'GOODS', id, name, priceFen, sellerId, onSale: publishStatus === 'PUBLISHED', goods };
  }
}
