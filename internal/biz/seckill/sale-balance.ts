import { belongsTo, compareStreamIds, type Purchase, parseEntry, type StreamEntry } from './purchase-stream.js';
import type { Sale } from './sale-state.js';
import type { InboxRow } from './settlement.js';

/** What admission says of a running sale, at one moment. */
export interface Gate {
  readonly epoch: bigint;
  readonly stock: bigint;
  /** Entries up to this stream id were counted when it was loaded. */
  readonly fence: string;
  readonly entries: readonly StreamEntry[];
}

/** Units of one user that admission has taken and PostgreSQL does not show as live. Negative: the other way round. */
export interface Owed {
  readonly userId: string;
  /** What admission's stock lacks for it. */
  readonly ofStock: number;
  /** What its buyers hash has of it. */
  readonly ofBuyer: number;
}

/**
 * What the stream's entries explain of the difference between admission and PostgreSQL: those that wait, and those whose
 * outcome is committed and that were not yet taken off, which is when `finish.lua` squares the stock.
 */
export function owedByEntries(sale: Sale, gate: Gate, outcomes: ReadonlyMap<string, InboxRow>): readonly Owed[] {
  return gate.entries.flatMap((entry): Owed[] => {
    const purchase = parseEntry(entry);
    if (purchase.kind === 'malformed') return [];
    const { userId, quantity } = purchase;
    const row = outcomes.get(entry.streamId);
    const held = holds(purchase, sale, gate) ? quantity : 0;
    if (!row) return held === 0 ? [] : [{ userId, ofStock: held, ofBuyer: held }];
    // Decided under an older epoch: the load that followed did not count it.
    if (row.saleId !== sale.id || row.epoch !== gate.epoch) return [];
    if (row.kind === 'ORDER') return held > 0 ? [] : [{ userId, ofStock: -quantity, ofBuyer: -quantity }];
    // Units refused as sold out were never there, so they do not come back.
    return [{ userId, ofStock: row.reason === 'SOLD_OUT' ? 0 : held, ofBuyer: held }];
  });
}

function holds(purchase: Purchase, sale: Sale, gate: Gate): boolean {
  if (purchase.epoch === gate.epoch) return true;
  return compareStreamIds(purchase.streamId, gate.fence) <= 0 && belongsTo(purchase, sale);
}
