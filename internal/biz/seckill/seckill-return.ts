import { isUnavailable } from '../../../gen/common/v1/errors.js';
import { isSaleUnavailable } from '../../../gen/seckill/v1/errors.js';
import { errorText } from '../../kratos/errors/error-text.js';
import { type DispatchFailure, OutboxHandler, type OutboxRow } from '../outbox.js';
import type { Admission, UnitsReturn } from './admission.js';
import type { SaleRepo } from './sale-state.js';

/** Outbox topic of units that admission gets back. ref_id is the order or the refund, the payload a `UnitsReturn` as JSON. */
export const TOPIC_SECKILL_RETURN = 'seckill.return';

export function encodeUnitsReturn(units: UnitsReturn): string {
  // Processes of earlier versions know the id as `orderId` only.
  return JSON.stringify({ ...units, orderId: units.returnId }, (_, value) =>
    typeof value === 'bigint' ? String(value) : value,
  );
}

export function decodeUnitsReturn(text: string): UnitsReturn {
  const raw = JSON.parse(text) as Record<Exclude<keyof UnitsReturn, 'segments'> | 'orderId', string | number> & {
    segments?: number;
  };
  return {
    returnId: BigInt(raw.returnId ?? raw.orderId),
    itemId: BigInt(raw.itemId),
    userId: String(raw.userId),
    quantity: Number(raw.quantity),
    epoch: BigInt(raw.epoch),
    ...(raw.segments !== undefined && { segments: raw.segments }),
  };
}

/** @returns undefined for text that is no units return */
export function tryDecodeUnitsReturn(text: string): UnitsReturn | undefined {
  try {
    return decodeUnitsReturn(text);
  } catch {
    return undefined;
  }
}

/** Brings units of cancelled orders back to admission, after the transaction that gave them back in PostgreSQL. */
export class SeckillReturnHandler extends OutboxHandler {
  override readonly topic = TOPIC_SECKILL_RETURN;

  constructor(
    private readonly admission: Admission,
    private readonly sales: SaleRepo,
  ) {
    super();
  }

  override dispatch(rows: readonly OutboxRow[]): Promise<readonly (DispatchFailure | undefined)[]> {
    return Promise.all(rows.map((row) => this.returnUnits(row)));
  }

  /** Each row on its own: an unreadable row, or a sale whose keys are damaged, must not hold up the others. */
  private async returnUnits(row: OutboxRow): Promise<DispatchFailure | undefined> {
    try {
      const units = decodeUnitsReturn(Buffer.from(row.payload).toString());
      if (await this.admission.returnUnits(units)) return undefined;
      // Not loaded: if it never will be under this epoch, the next load has counted the units already.
      const sale = await this.sales.findCurrent(units.itemId);
      const lapsed = sale?.status !== 'OPEN' || sale.epoch !== units.epoch;
      return lapsed ? undefined : { reason: `the sale of item ${units.itemId} is not loaded yet`, scope: 'row' };
    } catch (err) {
      const unavailable = isSaleUnavailable(err) || isUnavailable(err);
      return { reason: errorText(err), scope: unavailable ? 'destination' : 'row' };
    }
  }
}
