import { skuNotFound, skuNotOnSale } from '../../../gen/catalog/v1/errors.js';
import { invalidArgument } from '../../../gen/common/v1/errors.js';
import type { CatalogRepo } from '../catalog/catalog.js';
import type { Quote } from './price-calculator.js';
import type { PricedRequest, Pricing } from './pricing.js';

const QUANTITY_MAX = 10_000;

export class QuoteUsecase {
  constructor(
    private readonly catalog: CatalogRepo,
    private readonly pricing: Pricing,
  ) {}

  /**
   * What an order of these lines would cost now. Quantities of a sku that is named twice are added up.
   * @throws SKU_NOT_FOUND, SKU_NOT_ON_SALE, INVALID_ARGUMENT quantity
   */
  async quote({ lines, ...request }: PricedRequest): Promise<Quote> {
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
    const merged = { ...request, lines: [...quantities].map(([skuId, quantity]) => ({ skuId, quantity })) };
    return (await this.pricing.open([merged], goods)).quote(merged);
  }
}

function tooMany(i: number) {
  return invalidArgument(`a quote has at most ${QUANTITY_MAX} units of a sku`, {
    violations: [{ field: `lines[${i}].quantity`, description: `must add up to at most ${QUANTITY_MAX} per sku` }],
  });
}
