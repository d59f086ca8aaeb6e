import { belongsTo, compareStreamIds, type Purchase, parseEntry, type StreamEntry } from './purchase-stream.js';
import type { Sale } from './sale-state.js';
import type { InboxRow } from './settlement-state.js';

/** What admission holds of an open sale at one moment. */
export interface AdmissionSnapshot {
  readonly epoch: bigint;
  readonly stock: bigint;
  /** Entries up to this stream id were counted when the sale was loaded. */
  readonly fence: string;
  readonly entries: readonly StreamEntry[];
}

/** Units of one user that admission has taken and PostgreSQL does not count as sold; negative: the other way round. */
export interface ExplainedDifference {
  readonly userId: string;
  /** Units by which admission's stock is lower. */
  readonly stockUnits: number;
  /** Units by which the user's count in admission is higher. */
  readonly buyerUnits: number;
}

/**
 * The part of the difference between admission and PostgreSQL that the stream's entries explain: waiting entries, and
 * entries whose outcome is committed but which are still in the stream, because `finish.lua` corrects the stock when it
 * removes them.
 */
export function explainedBy(
  sale: Sale,
  snapshot: AdmissionSnapshot,
  outcomes: ReadonlyMap<string, InboxRow>,
): readonly ExplainedDifference[] {
  return snapshot.entries.flatMap((entry): ExplainedDifference[] => {
    const purchase = parseEntry(entry);
    if (purchase.kind === 'malformed') return [];
    const { userId, quantity } = purchase;
    const outcome = outcomes.get(entry.streamId);
    // Of another user: the stream id was given twice, and this entry has no outcome yet.
    const row = outcome?.userId === userId ? outcome : undefined;
    const held = holdsUnits(purchase, sale, snapshot) ? quantity : 0;
    if (!row) return held === 0 ? [] : [{ userId, stockUnits: held, buyerUnits: held }];
    // Decided under an older epoch: the load that followed did not count it.
    if (row.saleId !== sale.id || row.epoch !== snapshot.epoch) return [];
    if (row.kind === 'ORDER') return held > 0 ? [] : [{ userId, stockUnits: -quantity, buyerUnits: -quantity }];
    // Units refused as sold out never existed, so they do not come back.
    return [{ userId, stockUnits: row.reason === 'SOLD_OUT' ? 0 : held, buyerUnits: held }];
  });
}

/** Whether admission's stock is lower because of this entry. */
function holdsUnits(purchase: Purchase, sale: Sale, snapshot: AdmissionSnapshot): boolean {
  if (purchase.epoch === snapshot.epoch) return true;
  return compareStreamIds(purchase.streamId, snapshot.fence) <= 0 && belongsTo(purchase, sale);
}
