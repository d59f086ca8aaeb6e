import type { CountedEntries } from './admission.js';
import {
  belongsTo,
  compareStreamIds,
  type Purchase,
  parseEntry,
  reusedStreamId,
  type StreamEntry,
} from './purchase-stream.js';
import type { Sale } from './sale-state.js';
import { segmentOf } from './segment.js';
import type { InboxRow } from './settlement-state.js';

/** What admission holds of an open sale at one moment. */
export interface AdmissionSnapshot {
  readonly epoch: bigint;
  readonly stock: bigint;
  /** Entries that were counted as waiting when the sale was loaded, of each segment. */
  readonly counted: readonly CountedEntries[];
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
 *
 * @param outcomes by stream id, of the entries' `outcomeIdsOf`
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
    // Of another user: the stream id was given twice, and this entry has its outcome under another one, or none yet.
    const row = outcome?.userId === userId ? outcome : outcome && outcomes.get(reusedStreamId(entry.streamId, userId));
    const held = holdsUnits(purchase, sale, snapshot) ? quantity : 0;
    if (!row) return held === 0 ? [] : [{ userId, stockUnits: held, buyerUnits: held }];
    // Decided under an older epoch: the load that followed did not count it.
    if (row.saleId !== sale.id || row.epoch !== snapshot.epoch) return [];
    if (row.kind === 'ORDER') return held > 0 ? [] : [{ userId, stockUnits: -quantity, buyerUnits: -quantity }];
    return held === 0 ? [] : [{ userId, stockUnits: held, buyerUnits: held }];
  });
}

/** Whether admission's stock is lower because of this entry. */
function holdsUnits(purchase: Purchase, sale: Sale, snapshot: AdmissionSnapshot): boolean {
  if (purchase.epoch === snapshot.epoch) return true;
  return wasCounted(purchase.streamId, snapshot.counted) && belongsTo(purchase, sale);
}

const NONE: CountedEntries = { from: '0-0', to: '0-0' };

/** Whether a load counted the entry: entries lie between the first and the last that waited then. */
export function wasCounted(streamId: string, counted: readonly CountedEntries[]): boolean {
  const { from, to } = counted[segmentOf(streamId)] ?? NONE;
  return compareStreamIds(from, streamId) <= 0 && compareStreamIds(streamId, to) <= 0;
}
