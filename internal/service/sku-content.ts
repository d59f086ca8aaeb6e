import type { SkuContent as SkuContentMessage } from '../../gen/content/v1/content.js';
import type { SkuContent } from '../biz/catalog/sku-content.js';

export function skuContentReply({ contentId, days }: SkuContent): SkuContentMessage {
  return { contentId, accessDays: days ?? 0 };
}

export function skuContentOf({ contentId, accessDays }: SkuContentMessage): SkuContent {
  return { contentId, days: accessDays === 0 ? undefined : accessDays };
}
