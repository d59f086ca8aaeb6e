import type { Item } from '../catalog/item.js';
import type { OrderStatus } from '../order/order-state.js';
import type { Transaction } from '../transaction.js';
import type { ItemSegments, SettledEntry, StreamEntry } from './purchase-stream.js';
import type { Sale, UserOfSale } from './sale-state.js';
import type { Holding } from './settlement-ledger.js';

/** ORDER: the entry became one; REJECTED: a valid entry that gets nothing; DEAD: an entry that can never become an order. */
export type OutcomeKind = 'ORDER' | 'REJECTED' | 'DEAD';

/** The one outcome of a stream entry, as the inbox holds it. */
export interface InboxRow {
  readonly streamId: string;
  readonly kind: OutcomeKind;
  readonly userId: string | undefined;
  readonly quantity: number | undefined;
  readonly orderId: bigint | undefined;
  /** SOLD_OUT, LIMIT_REACHED, DUPLICATE_REQ_ID, NO_SALE, CONTENT_ALREADY_OWNED, TOO_OLD, or the fault of a dead entry; empty for an order. */
  readonly reason: string;
  /** The sale whose units the entry asked for; undefined for a direct purchase. */
  readonly saleId: bigint | undefined;
  /** The sale's epoch when the outcome was committed. */
  readonly epoch: bigint | undefined;
}

/** An inbox row together with the present state of its order. */
export interface SettlementOutcome extends InboxRow {
  readonly order: { readonly id: bigint; readonly status: OrderStatus; readonly closeReason: string } | undefined;
}

export interface DeadLetter {
  readonly entry: StreamEntry;
  readonly reason: string;
}

/** An entry that failed on its own and is to be delivered again. */
export interface FailedEntry {
  readonly streamId: string;
  readonly cause: unknown;
}

/** What a commit did. */
export interface Settlement {
  readonly settled: readonly SettledEntry[];
  readonly counts: Readonly<Record<OutcomeKind, number>>;
  readonly failed: readonly FailedEntry[];
}

export abstract class SettlementRepo {
  /** Items that may be bought now and so may have streams: those of sales that are not closed, and plans on sale. */
  abstract findItems(): Promise<readonly ItemSegments[]>;
  /**
   * Keeps every other transaction from settling this item until `tx` ends. Locks and returns those of its sales that are
   * not closed or have an epoch of at least `epoch`.
   */
  abstract lock(tx: Transaction, itemId: bigint, epoch: bigint | undefined): Promise<readonly Sale[]>;
  /** The inbox rows that exist. */
  abstract findRows(tx: Transaction, itemId: bigint, streamIds: readonly string[]): Promise<readonly InboxRow[]>;
  /** Users without units and without a limit of their own may be left out. */
  abstract findHoldings(tx: Transaction, users: readonly UserOfSale[]): Promise<readonly Holding[]>;
  /** The buyers of the orders that have these request numbers. */
  abstract findReqIds(
    tx: Transaction,
    item: Pick<Item, 'id' | 'orderType'>,
    reqIds: readonly bigint[],
  ): Promise<ReadonlyMap<bigint, string>>;
  /** Inbox rows of the item's entries from before this time, in ms since 1970, may have been deleted; undefined: none. */
  abstract findDeletedBefore(tx: Transaction, itemId: bigint): Promise<number | undefined>;
  abstract insertRows(tx: Transaction, itemId: bigint, rows: readonly InboxRow[]): Promise<void>;
  abstract insertDeadLetters(tx: Transaction, itemId: bigint, letters: readonly DeadLetter[]): Promise<void>;
  /** @param sold units to add, by sale */
  abstract addSold(tx: Transaction, sold: ReadonlyMap<bigint, number>): Promise<void>;
  abstract find(itemId: bigint, streamId: string): Promise<SettlementOutcome | undefined>;
}
