import type { CatalogRepo, Goods } from './catalog.js';
import type { Content, ContentRepo } from './content.js';
import type { Product, ProductRepo } from './product.js';

interface ItemFacts {
  readonly id: bigint;
  readonly name: string;
  readonly priceFen: bigint;
  readonly sellerId: string | undefined;
  readonly onSale: boolean;
}

/** A product, a sku or a content, by the type of its orders. */
export type Item =
  | (ItemFacts & { readonly orderType: 'INSTANCE'; readonly product: Product })
  | (ItemFacts & { readonly orderType: 'GOODS'; readonly goods: Goods })
  | (ItemFacts & { readonly orderType: 'CONTENT'; readonly content: Content });

/** Products, skus and contents draw their ids from one sequence, so an item id is unique across them. */
export class ItemDirectory {
  constructor(
    private readonly products: ProductRepo,
    private readonly catalog: CatalogRepo,
    private readonly contents: ContentRepo,
  ) {}

  async find(id: bigint): Promise<Item | undefined> {
    const product = await this.products.find(id);
    if (product) {
      const { name, priceFen, sellerId, status } = product;
      return { orderType: 'INSTANCE', id, name, priceFen, sellerId, onSale: status === 'ENABLED', product };
    }
    const goods = await this.catalog.findGoods(id);
    if (goods) {
      const { skuName: name, priceFen } = goods.sku;
      const { publishStatus, sellerId } = goods.spu;
      return { orderType: 'GOODS', id, name, priceFen, sellerId, onSale: publishStatus === 'PUBLISHED', goods };
    }
    const content = await this.contents.find(id);
    if (!content) return undefined;
    const { title: name, priceFen, publishStatus, sellerId } = content;
    return { orderType: 'CONTENT', id, name, priceFen, sellerId, onSale: publishStatus === 'PUBLISHED', content };
  }
}
