import type { OrderItem } from '../../biz/order/order-item.js';
import { type SkuContentJson, skuContentJson, skuContentOf } from './content.js';

/** A line as the snapshot on the order has it. Ids and amounts are text, because JSON numbers lose digits. */
export interface ItemJson {
  readonly sku_id: string;
  readonly spu_id: string;
  readonly spu_name: string;
  readonly sku_name: string;
  readonly sku_image: string;
  readonly specs: Readonly<Record<string, string>>;
  readonly price: string;
  readonly quantity: number;
  readonly promotion_amount: string;
  /** Absent in orders that were created before goods had sellers. */
  readonly seller_id?: string | null;
  /** Like `contents` absent in orders that were created before there were contents. */
  readonly goods_type?: string;
  readonly contents?: readonly SkuContentJson[];
}

export function itemsJson(items: readonly OrderItem[]): string {
  return JSON.stringify(
    items.map(
      (i): ItemJson => ({
        sku_id: String(i.skuId),
        spu_id: String(i.spuId),
        spu_name: i.spuName,
        sku_name: i.skuName,
        sku_image: i.skuImage,
        specs: i.specs,
        price: String(i.priceFen),
        quantity: i.quantity,
        promotion_amount: String(i.promotionFen),
        seller_id: i.sellerId ?? null,
        goods_type: i.goodsType,
        contents: i.contents.map(skuContentJson),
      }),
    ),
  );
}

export function itemOf(i: ItemJson): OrderItem {
  return {
    skuId: BigInt(i.sku_id),
    spuId: BigInt(i.spu_id),
    sellerId: i.seller_id ?? undefined,
    spuName: i.spu_name,
    skuName: i.sku_name,
    skuImage: i.sku_image,
    specs: i.specs,
    priceFen: BigInt(i.price),
    quantity: i.quantity,
    promotionFen: BigInt(i.promotion_amount),
    goodsType: i.goods_type ?? '',
    contents: i.contents?.map(skuContentOf) ?? [],
  };
}
