import { skuNotFound, skuNotOnSale, stockInsufficient } from '../../../gen/catalog/v1/errors.js';
import type { Goods } from '../catalog/catalog.js';
import { noCoupon } from '../pricing/coupon.js';
import type { CouponRefusal } from '../pricing/price-calculator.js';
import { couponIsUnavailable } from '../pricing/user-coupon.js';
import { priceHasChanged } from './order.js';

export interface OrderLine {
  readonly skuId: bigint;
  readonly quantity: number;
}

/** Why an order of goods cannot be placed: a value, because it is decided for each order of a batch. */
export type Refusal =
  | { readonly kind: 'unknown-sku' | 'not-on-sale'; readonly skuId: bigint }
  | { readonly kind: 'short'; readonly missing: readonly Shortage[] }
  | { readonly kind: 'unknown-coupon'; readonly couponId: bigint }
  | { readonly kind: 'coupon-refused'; readonly couponId: bigint; readonly reason: CouponRefusal }
  | { readonly kind: 'price-changed'; readonly amountFen: bigint };

/** A sku that has fewer free units than an order wants. */
export interface Shortage {
  readonly skuId: bigint;
  readonly free: bigint;
}

/** @param lines merged; @param goods what there is of their skus; @param free units that are left of them */
export function refusalOf(
  lines: readonly OrderLine[],
  goods: ReadonlyMap<bigint, Goods>,
  free: ReadonlyMap<bigint, bigint>,
): Refusal | undefined {
  for (const { skuId } of lines) {
    const found = goods.get(skuId);
    if (!found) return { kind: 'unknown-sku', skuId };
    if (found.spu.publishStatus !== 'PUBLISHED') return { kind: 'not-on-sale', skuId };
  }
  return shortageOf(lines, free);
}

export function shortageOf(
  lines: readonly OrderLine[],
  free: ReadonlyMap<bigint, bigint>,
): (Refusal & { kind: 'short' }) | undefined {
  const missing = lines.flatMap(({ skuId, quantity }): Shortage[] => {
    const left = free.get(skuId) ?? 0n;
    return left < BigInt(quantity) ? [{ skuId, free: left }] : [];
  });
  return missing.length > 0 ? { kind: 'short', missing } : undefined;
}

/** The error for the caller. @param lines as the caller gave them, whose fields it names */
export function refusalError(lines: readonly OrderLine[], refusal: Refusal): Error {
  const lineOf = (skuId: bigint) => `lines[${lines.findIndex((l) => l.skuId === skuId)}]`;
  switch (refusal.kind) {
    case 'unknown-sku':
      return skuNotFound(`no sku ${refusal.skuId}`, {
        metadata: { sku_id: String(refusal.skuId) },
        violations: [{ field: `${lineOf(refusal.skuId)}.sku_id`, description: 'no such sku' }],
      });
    case 'not-on-sale':
      return skuNotOnSale(`sku ${refusal.skuId} is not on sale`, {
        metadata: { sku_id: String(refusal.skuId) },
        violations: [{ field: `${lineOf(refusal.skuId)}.sku_id`, description: 'is not on sale' }],
      });
    case 'short': {
      const { missing } = refusal;
      return stockInsufficient(missing.map((m) => `sku ${m.skuId} has ${m.free} free units`).join('; '), {
        metadata: Object.fromEntries(missing.map((m) => [`sku_${m.skuId}`, String(m.free)])),
        violations: missing.map(({ skuId, free }) => ({
          field: `${lineOf(skuId)}.quantity`,
          description: `only ${free} units are left`,
        })),
      });
    }
    case 'unknown-coupon':
      return noCoupon(refusal.couponId, 'coupon_id');
    case 'coupon-refused':
      return couponIsUnavailable(refusal.couponId, refusal.reason, 'coupon_id');
    case 'price-changed':
      return priceHasChanged(refusal.amountFen);
    default:
      return refusal satisfies never;
  }
}
