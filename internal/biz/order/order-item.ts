import type { Goods } from '../catalog/catalog.js';
import type { SkuContent } from '../catalog/sku-content.js';

/** A line of a GOODS order: a snapshot of name and price at the time of the order. */
export interface OrderItem {
  readonly skuId: bigint;
  readonly spuId: bigint;
  readonly sellerId: string | undefined;
  readonly spuName: string;
  readonly skuName: string;
  /** URL; empty: none. */
  readonly skuImage: string;
  readonly specs: Readonly<Record<string, string>>;
  readonly priceFen: bigint;
  readonly quantity: number;
  /** The line's share of all discounts of the order. */
  readonly promotionFen: bigint;
  /** Word of the shop; empty: none. */
  readonly goodsType: string;
  /** What each unit opens, by content id. */
  readonly contents: readonly SkuContent[];
}

/** A snapshot of the current state of a sku. */
export function orderItemOf(
  { sku, spu }: Goods,
  line: Pick<OrderItem, 'priceFen' | 'quantity' | 'promotionFen'>,
): OrderItem {
  return {
    skuId: sku.id,
    spuId: sku.spuId,
    sellerId: spu.sellerId,
    spuName: spu.title,
    skuName: sku.skuName,
    skuImage: spu.mainImages[0] ?? '',
    specs: sku.specs,
    goodsType: spu.goodsType,
    contents: sku.contents,
    ...line,
  };
}

/** The seller of an order with these lines. undefined: none, or different ones. */
export function sellerOf(items: readonly OrderItem[]): string | undefined {
  const sellers = new Set(items.map((i) => i.sellerId));
  return sellers.size === 1 ? items[0]?.sellerId : undefined;
}
