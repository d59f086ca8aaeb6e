import type { Admission, UnitsReturn } from './admission.js';
import type { SaleRepo } from './sale-state.js';

/** Outbox topic of units that admission gets back. ref_id is the order, the payload a `UnitsReturn` as JSON. */
export const TOPIC_SECKILL_RETURN = 'seckill.return';

export function encodeUnitsReturn(units: UnitsReturn): string {
  return JSON.stringify(units, (_, value) => (typeof value === 'bigint' ? String(value) : value));
}

export function decodeUnitsReturn(text: string): UnitsReturn {
  const raw = JSON.parse(text) as Record<keyof UnitsReturn, string | number>;
  return {
    orderId: BigInt(raw.orderId),
    itemId: BigInt(raw.itemId),
    userId: String(raw.userId),
    quantity: Number(raw.quantity),
    epoch: BigInt(raw.epoch),
  };
}

/** Brings units of cancelled orders back to admission, after the transaction that gave them back in PostgreSQL. */
export class SeckillReturnUsecase {
  constructor(
    private readonly admission: Admission,
    private readonly sales: SaleRepo,
  ) {}

  /** @returns false where it has to be tried again. @throws SALE_UNAVAILABLE */
  async giveBack(units: UnitsReturn): Promise<boolean> {
    if (await this.admission.giveBack(units)) return true;
    // Not loaded: if it never will be under this epoch, the next load has counted the units already.
    const sale = await this.sales.findCurrent(units.itemId);
    return sale?.status !== 'OPEN' || sale.epoch !== units.epoch;
  }
}
