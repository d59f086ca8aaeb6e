import { skuNotFound, skuNotOnSale } from '../../../gen/catalog/v1/errors.js';
import { invalidArgument } from '../../../gen/common/v1/errors.js';
import type { CatalogRepo, Goods } from '../catalog/catalog.js';
import type { Page, PageRequest } from '../page.js';
import { noCoupon } from './coupon.js';
import type { CouponUse, Quote } from './price-calculator.js';
import type { PricedRequest, Pricing } from './pricing.js';
import type { UserCoupon, UserCouponState, UserCouponUsecase } from './user-coupon.js';

const QUANTITY_MAX = 10_000;

/** A user's coupon, and what it does for some lines. */
export interface TriedCoupon {
  readonly coupon: UserCoupon;
  readonly use: CouponUse;
}

export class QuoteUsecase {
  constructor(
    private readonly catalog: CatalogRepo,
    private readonly pricing: Pricing,
    private readonly userCoupons: UserCouponUsecase,
  ) {}

  /**
   * What an order of these lines would cost now. Quantities of a sku that is named twice are added up. A coupon that does
   * not apply is not used, and the quote says why.
   * @throws SKU_NOT_FOUND, SKU_NOT_ON_SALE, COUPON_NOT_FOUND, INVALID_ARGUMENT quantity
   */
  async quote(request: PricedRequest): Promise<Quote> {
    const { merged, goods } = await this.goodsOf(request);
    const priced = (await this.pricing.open([merged], goods)).quote(merged);
    return priced.kind === 'quoted' ? priced.quote : noCoupon(priced.couponId, 'coupon_id');
  }

  /**
   * A user's coupons, newest first, each tried with these lines.
   * @throws SKU_NOT_FOUND, SKU_NOT_ON_SALE, INVALID_ARGUMENT quantity
   */
  async tryCoupons(
    request: Omit<PricedRequest, 'couponId'>,
    state: UserCouponState | undefined,
    page: PageRequest,
  ): Promise<Page<TriedCoupon>> {
    const { merged, goods } = await this.goodsOf(request);
    const { items, total } = await this.userCoupons.list(request.userId, state, page);
    const requests = items.map(({ id }) => ({ ...merged, couponId: id }));
    const session = await this.pricing.open([merged, ...requests], goods);
    const tried = requests.map(({ couponId }, i): TriedCoupon => {
      const priced = session.quote({ ...merged, couponId });
      const use = priced.kind === 'quoted' ? priced.quote.coupon : undefined;
      return { coupon: items[i] ?? noCoupon(couponId), use: use ?? noCoupon(couponId) };
    });
    return { items: tried, total };
  }

  /** The lines with each sku once, and their goods. */
  private async goodsOf<R extends Pick<PricedRequest, 'lines'>>(
    request: R,
  ): Promise<{ readonly merged: R; readonly goods: ReadonlyMap<bigint, Goods> }> {
    const { lines } = request;
    const quantities = new Map<bigint, number>();
    lines.forEach(({ skuId, quantity }, i) => {
      const units = (quantities.get(skuId) ?? 0) + quantity;
      if (units > QUANTITY_MAX) throw tooMany(i);
      quantities.set(skuId, units);
    });
    const found = await this.catalog.findAllGoods([...quantities.keys()]);
    const goods = new Map(found.map((g) => [g.sku.id, g]));
    lines.forEach(({ skuId }, i) => {
      const known = goods.get(skuId);
      const refusal = { metadata: { sku_id: String(skuId) } };
      const field = `lines[${i}].sku_id`;
      if (!known) {
        throw skuNotFound(`no sku ${skuId}`, { ...refusal, violations: [{ field, description: 'no such sku' }] });
      }
      if (known.spu.publishStatus !== 'PUBLISHED') {
        const violations = [{ field, description: 'is not on sale' }];
        throw skuNotOnSale(`sku ${skuId} is not on sale`, { ...refusal, violations });
      }
    });
    return { merged: { ...request, lines: [...quantities].map(([skuId, quantity]) => ({ skuId, quantity })) }, goods };
  }
}

function tooMany(i: number) {
  return invalidArgument(`a quote has at most ${QUANTITY_MAX} units of a sku`, {
    violations: [{ field: `lines[${i}].quantity`, description: `must add up to at most ${QUANTITY_MAX} per sku` }],
  });
}
