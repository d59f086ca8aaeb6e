import type { NewOrder, Order } from '../order/order-state.js';
import type { RefundUnits } from '../order/refund-lines.js';
import type { NewEntitlement } from './entitlement-state.js';

/** What has to be known of an order to tell what it opens. */
export type OpeningOrder = Pick<NewOrder, 'id' | 'userId' | 'content'> & Partial<Pick<Order, 'items'>>;

/**
 * What a paid order opens, each content once: the content that it bought, or those of its goods. Permanent access stands for
 * every other; days add up, for each unit of each line.
 *
 * @param kept the units that refunds have left with the buyer, by sku; undefined: all
 */
export function openedBy(
  { id: orderId, userId, content, items = [] }: OpeningOrder,
  kept?: readonly RefundUnits[],
): readonly NewEntitlement[] {
  if (content) return [{ orderId, userId, contentId: content.id, days: content.days, goodsType: undefined }];
  const units = kept && new Map(kept.map(({ skuId, quantity }) => [skuId, quantity]));
  const opened = new Map<bigint, NewEntitlement>();
  for (const { skuId, quantity, goodsType, contents } of items) {
    const count = units ? (units.get(skuId) ?? 0) : quantity;
    if (count === 0) continue;
    for (const { contentId, days } of contents) {
      const other = opened.get(contentId);
      const permanent = days === undefined || (other && other.days === undefined);
      const sum = permanent ? undefined : Math.min((days ?? 0) * count + (other?.days ?? 0), DAYS_MAX);
      opened.set(contentId, { ...(other ?? { orderId, userId, contentId, goodsType }), days: sum });
    }
  }
  return [...opened.values()].sort((a, b) => (a.contentId < b.contentId ? -1 : 1));
}

/** A thousand years: more would leave the range of dates. */
const DAYS_MAX = 365_000;
