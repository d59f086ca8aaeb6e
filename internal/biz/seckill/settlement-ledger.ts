import { derivedReqId, type Purchase } from './purchase-stream.js';
import type { Sale, UserOfSale } from './sale-state.js';

/** Units that a user holds of a sale, and the user's own limit. */
export interface Holding extends UserOfSale {
  readonly units: number;
  /** Replaces the sale's default limit; undefined: the default applies. */
  readonly vipLimit: number | undefined;
}

export type Reservation =
  | { readonly kind: 'reserved'; readonly reqId: bigint }
  | { readonly kind: 'refused'; readonly reason: string };

/** Units that a user holds, and the user's own limit. */
interface UserUnits {
  readonly units: number;
  readonly limit: number | undefined;
}

/** The units left of each sale and of each user's limit while a batch is decided in stream order. */
export class SettlementLedger {
  /** Units that this batch takes, by sale. */
  readonly sold = new Map<bigint, number>();
  /** By sale, then by user. */
  private readonly held: ReadonlyMap<bigint, Map<string, UserUnits>>;

  /** @param reqIds the buyer of each request number that is in use */
  constructor(
    sales: readonly Sale[],
    holdings: readonly Holding[],
    private readonly reqIds: Map<bigint, string>,
  ) {
    this.held = new Map(sales.map((s) => [s.id, new Map()]));
    for (const { saleId, userId, units, vipLimit } of holdings) {
      this.held.get(saleId)?.set(userId, { units, limit: vipLimit });
    }
  }

  /** Reserves the purchase's units of the sale and a request number for its order. */
  reserve(purchase: Purchase, sale: Sale | undefined): Reservation {
    let reqId = purchase.reqId ?? derivedReqId(purchase.streamId);
    const holder = this.reqIds.get(reqId);
    if (holder === purchase.userId) return { kind: 'refused', reason: 'DUPLICATE_REQ_ID' };
    // The counter that gave the number was lost and started anew, or a stale replica gave it twice: two purchases.
    if (holder !== undefined) reqId = derivedReqId(purchase.streamId);
    if (sale) {
      const sold = this.sold.get(sale.id) ?? 0;
      if (sale.sold + BigInt(sold + purchase.quantity) > sale.total - sale.returned)
        return { kind: 'refused', reason: 'SOLD_OUT' };
      const has = this.held.get(sale.id)?.get(purchase.userId) ?? { units: 0, limit: undefined };
      if (has.units + purchase.quantity > (has.limit ?? sale.defaultLimit)) {
        return { kind: 'refused', reason: 'LIMIT_REACHED' };
      }
      this.held.get(sale.id)?.set(purchase.userId, { units: has.units + purchase.quantity, limit: has.limit });
      this.sold.set(sale.id, sold + purchase.quantity);
    }
    this.reqIds.set(reqId, purchase.userId);
    return { kind: 'reserved', reqId };
  }
}
