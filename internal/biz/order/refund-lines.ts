import { invalidArgument } from '../../../gen/common/v1/errors.js';
import type { OrderItem } from './order-item.js';

/** Units of a line that a buyer wants refunded. */
export interface RefundUnits {
  readonly skuId: bigint;
  readonly quantity: number;
}

/** Units of a line of an order, with what their buyer paid for them. */
export interface RefundLine extends RefundUnits {
  readonly amountFen: bigint;
}

/** What is left of the lines of an order after its other refunds. */
export class RefundableLines {
  private readonly left: ReadonlyMap<bigint, { readonly item: OrderItem; readonly refunded: number }>;

  /** @param refunds the lines of the order's refunds, except those that were refused */
  constructor(items: readonly OrderItem[], refunds: readonly (readonly RefundUnits[])[]) {
    const refunded = new Map<bigint, number>();
    for (const { skuId, quantity } of refunds.flat()) refunded.set(skuId, (refunded.get(skuId) ?? 0) + quantity);
    this.left = new Map(items.map((item) => [item.skuId, { item, refunded: refunded.get(item.skuId) ?? 0 }]));
  }

  /** The units that no refund has yet, by sku id. */
  get units(): readonly RefundUnits[] {
    return [...this.left.values()]
      .map(({ item, refunded }) => ({ skuId: item.skuId, quantity: item.quantity - refunded }))
      .filter(({ quantity }) => quantity > 0);
  }

  /**
   * @param wanted quantities of a sku that is named twice are added up
   * @throws INVALID_ARGUMENT naming the line: an unknown sku, or more units than are left
   */
  take(wanted: readonly RefundUnits[]): readonly RefundLine[] {
    const merged = new Map<bigint, number>();
    wanted.forEach(({ skuId, quantity }, i) => {
      const found = this.left.get(skuId);
      if (!found) throw badLine(`lines[${i}].sku_id`, `must be a sku of the order`);
      const units = (merged.get(skuId) ?? 0) + quantity;
      const most = found.item.quantity - found.refunded;
      if (!Number.isInteger(quantity) || quantity < 1 || units > most) {
        throw badLine(`lines[${i}].quantity`, `must be at least 1, and at most the ${most} units that are left`);
      }
      merged.set(skuId, units);
    });
    return [...merged]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([skuId, quantity]) => ({ skuId, quantity, amountFen: this.priceOf(skuId, quantity) }));
  }

  /** Whether these lines are everything that is left. */
  isAll(lines: readonly RefundUnits[]): boolean {
    const taken = new Map(lines.map(({ skuId, quantity }) => [skuId, quantity]));
    return this.units.every(({ skuId, quantity }) => taken.get(skuId) === quantity);
  }

  /**
   * What the buyer paid for the next units of a line, after its share of the discounts. Differences of rounded-down
   * sums, so that the refunds of all its units add up to the line.
   */
  private priceOf(skuId: bigint, quantity: number): bigint {
    const found = this.left.get(skuId);
    if (!found) throw new Error(`sku ${skuId} is not in the order`);
    const { item, refunded } = found;
    const paidFen = item.priceFen * BigInt(item.quantity) - item.promotionFen;
    const upTo = (units: number) => (paidFen * BigInt(units)) / BigInt(item.quantity);
    return upTo(refunded + quantity) - upTo(refunded);
  }
}

function badLine(field: string, description: string) {
  return invalidArgument(`${field} ${description}`, { violations: [{ field, description }] });
}
