import type { Item } from '../catalog/item.js';
import {
  belongsTo,
  type MalformedEntry,
  type Purchase,
  reusedStreamId,
  type StockCorrection,
} from './purchase-stream.js';
import type { Sale } from './sale-state.js';
import type { NewEntry, PendingEntry } from './settlement-batch.js';
import type { InboxRow } from './settlement-state.js';

const NOT_ON_SALE = { INSTANCE: 'PRODUCT_DISABLED', GOODS: 'GOODS_UNPUBLISHED', CONTENT: 'CONTENT_UNPUBLISHED' };

/** Why an entry can never become an order; undefined: it may. */
export function faultOf(parsed: Purchase | MalformedEntry, item: Item | undefined): string | undefined {
  if (parsed.kind === 'malformed') return parsed.reason;
  if (!item) return 'unknown product';
  if (!item.onSale) return NOT_ON_SALE[item.orderType];
  if (item.orderType === 'INSTANCE' && parsed.quantity !== 1) return 'qty must be 1 for an instance plan';
  if (item.orderType === 'CONTENT' && parsed.quantity !== 1) return 'qty must be 1 for a content';
  return undefined;
}

/** The entries without an outcome. @param rows the outcomes on record */
export function newEntries(
  entries: readonly PendingEntry[],
  sales: readonly Sale[],
  rows: ReadonlyMap<string, InboxRow>,
  deletedBeforeMs: number,
): readonly NewEntry[] {
  return entries.flatMap(({ entry, parsed, fault }): NewEntry[] => {
    const streamId = inboxIdOf(parsed, rows);
    if (rows.has(streamId)) return [];
    const sale = parsed.kind === 'purchase' ? sales.find((s) => belongsTo(parsed, s)) : undefined;
    const tooOld = timeOf(streamId) < deletedBeforeMs;
    if (streamId === parsed.streamId) return [{ entry, parsed, fault, sale, tooOld }];
    return [{ entry: { ...entry, streamId }, parsed: { ...parsed, streamId }, fault, sale, tooOld }];
  });
}

/** When Redis added an entry, in ms since 1970. */
export function timeOf(streamId: string): number {
  return Number(streamId.split('-', 1)[0]);
}

/** The id under which the inbox has an entry, or will have it. */
export function inboxIdOf(parsed: Purchase | MalformedEntry, rows: ReadonlyMap<string, InboxRow>): string {
  const { streamId } = parsed;
  const row = rows.get(streamId);
  const userId = parsed.kind === 'purchase' ? parsed.userId : undefined;
  return row === undefined || row.userId === userId ? streamId : reusedStreamId(streamId, userId ?? '');
}

/** undefined where the outcome is the one that the entry's units were taken for, or the sale admits no more. */
export function correctionOf(
  row: InboxRow,
  parsed: Purchase | MalformedEntry,
  sales: readonly Sale[],
): StockCorrection | undefined {
  if (parsed.kind === 'malformed' || row.saleId === undefined || row.epoch === undefined) return undefined;
  // An entry of an older epoch may have been lost with Redis before the load that would have counted it.
  if (row.kind === 'ORDER' && parsed.epoch === row.epoch) return undefined;
  if (sales.find((s) => s.id === row.saleId)?.status !== 'OPEN') return undefined;
  return {
    epoch: row.epoch,
    entryEpoch: parsed.epoch,
    userId: parsed.userId,
    quantity: parsed.quantity,
    outcome: row.kind === 'ORDER' ? 'ORDER' : 'REFUSED',
  };
}

/** The lowest epoch that an entry names; undefined: none names one. */
export function lowestEpoch(entries: readonly PendingEntry[]): bigint | undefined {
  let lowest: bigint | undefined;
  for (const { parsed } of entries) {
    if (parsed.kind === 'malformed' || parsed.epoch === undefined) continue;
    if (lowest === undefined || parsed.epoch < lowest) lowest = parsed.epoch;
  }
  return lowest;
}
