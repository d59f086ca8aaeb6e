import { invalidArgument } from '../../../gen/common/v1/errors.js';
import { saleStatusConflict } from '../../../gen/seckill/v1/errors.js';
import type { Sale, SalePatch } from './sale-state.js';

/**
 * Whether a live sale may be changed so, as far as the sale itself tells.
 * @throws SALE_STATUS_CONFLICT start or price of an open sale, INVALID_ARGUMENT window, total below what is sold
 */
export function checkChange(sale: Sale, patch: SalePatch, now: Date): void {
  const { startsAt, endsAt, priceFen } = changed(sale, patch);
  // Buyers of an open sale were shown both.
  if (sale.status !== 'SCHEDULED' && (startsAt.getTime() !== sale.startsAt.getTime() || priceFen !== sale.priceFen)) {
    throw saleStatusConflict(`the sale of item ${sale.itemId} is open: its start and its price cannot be changed`, {
      metadata: { item_id: String(sale.itemId), status: sale.status },
    });
  }
  if (endsAt && endsAt <= startsAt) throw invalid('ends_at', 'must be after starts_at');
  if (patch.endsAt && patch.endsAt <= now) {
    throw invalid('ends_at', 'must be in the future; CloseSale ends a sale at once');
  }
  if (patch.total !== undefined && patch.total < sale.sold) throw totalTooLow(sale.sold);
}

/** Whether the sale is already as the patch wants it. */
export function isAs(sale: Sale, patch: SalePatch): boolean {
  const wanted = changed(sale, patch);
  return (
    wanted.defaultLimit === sale.defaultLimit &&
    wanted.requireToken === sale.requireToken &&
    wanted.admitRate === sale.admitRate &&
    wanted.total === sale.total &&
    wanted.priceFen === sale.priceFen &&
    wanted.startsAt.getTime() === sale.startsAt.getTime() &&
    wanted.endsAt?.getTime() === sale.endsAt?.getTime()
  );
}

function changed(sale: Sale, { endsAt, ...patch }: SalePatch): Sale {
  return { ...sale, ...patch, ...(endsAt !== undefined && { endsAt: endsAt ?? undefined }) };
}

/** @param least units that are sold, or that purchases were admitted to */
export function totalTooLow(least: bigint) {
  return invalid('total', `must be at least ${least}: that many units are sold or being sold`, {
    least: String(least),
  });
}

function invalid(field: string, description: string, metadata: Readonly<Record<string, string>> = {}) {
  return invalidArgument(`${field} ${description}`, { violations: [{ field, description }], metadata });
}
