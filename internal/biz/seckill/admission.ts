import type { Sale, UnitsOfUser } from './sale-state.js';

/** One user's request for units of a sale. */
export interface PurchaseRequest {
  /** UUID in lower case. */
  readonly userId: string;
  readonly quantity: number;
  /** Empty: each call is a request of its own. */
  readonly requestId: string;
  /** W3C traceparent; empty: none. */
  readonly traceparent: string;
  /** Of the purchase token, once it was verified. It is honoured once, as a request id is, and beside one. */
  readonly tokenId?: string;
}

export type AdmissionResult =
  | { readonly kind: 'QUEUED'; readonly streamId: string }
  | { readonly kind: 'SOLD_OUT' | 'NOT_STARTED' | 'ENDED' | 'LIMIT_REACHED' }
  | { readonly kind: 'BACKLOG_FULL' }
  /** Admission has the sale under another epoch, or not at all. Nothing was done. */
  | { readonly kind: 'STALE' };

export interface AdmissionState {
  /** undefined where admission has nothing of the item. */
  readonly epoch: bigint | undefined;
  readonly remaining: bigint;
  /** The clock that windows are judged by. */
  readonly now: Date;
}

export interface AdmissionLoad {
  readonly sale: Sale;
  /** Units to give out. */
  readonly stock: bigint;
  /** Entries up to this stream id are part of the count. */
  readonly fence: string;
  /** User → units, with those that wait in the stream. */
  readonly buyers: ReadonlyMap<string, number>;
  readonly vipLimits: readonly UnitsOfUser[];
  readonly backlogLimit: number;
}

/** Units of a cancelled order on their way back to its sale. */
export interface UnitsReturn {
  readonly orderId: bigint;
  readonly itemId: bigint;
  readonly userId: string;
  readonly quantity: number;
  /** The sale's when the order was cancelled. */
  readonly epoch: bigint;
}

/**
 * The fast gate in front of the orders. What it says is provisional: PostgreSQL has the last word.
 * Each method @throws SALE_UNAVAILABLE when the gate does not answer. A request may then have been granted or not; one
 * with a request id can be repeated without harm.
 */
export abstract class Admission {
  abstract admit(sale: Pick<Sale, 'itemId' | 'epoch'>, request: PurchaseRequest): Promise<AdmissionResult>;
  /** Many requests in their order. @returns one for each */
  abstract admitAll(
    sale: Pick<Sale, 'itemId' | 'epoch'>,
    requests: readonly PurchaseRequest[],
  ): Promise<readonly AdmissionResult[]>;
  abstract state(itemId: bigint): Promise<AdmissionState>;
  /**
   * The epochs under which items are loaded whole, on the very server that was loaded. One that took its place may have
   * missed the last purchases.
   */
  abstract epochs(itemIds: readonly bigint[]): Promise<ReadonlyMap<bigint, bigint>>;
  /** @param userId undefined: the default limit. @returns false where the epoch is not loaded: nothing was done */
  abstract setLimit(sale: Pick<Sale, 'itemId' | 'epoch'>, userId: string | undefined, limit: number): Promise<boolean>;
  /** @param perSecond users let in by the line; 0: no line. @returns false where the epoch is not loaded */
  abstract setAdmitRate(sale: Pick<Sale, 'itemId' | 'epoch'>, perSecond: number): Promise<boolean>;
  /** Nobody is admitted until the next load. */
  abstract suspend(itemId: bigint): Promise<void>;
  /** Puts this state in place of any older one and admits by it. Repeating it changes nothing. */
  abstract load(state: AdmissionLoad): Promise<void>;
  /** Ends admission of this epoch, and its line; another one is left alone. */
  abstract close(sale: Pick<Sale, 'itemId' | 'epoch'>): Promise<void>;
  /**
   * Gives units back, once for each order and only in their epoch.
   * @returns false where the epoch is not loaded yet, so that it has to be tried again
   */
  abstract returnUnits(units: UnitsReturn): Promise<boolean>;
  /**
   * Lets one caller at a time load an item, for a bounded time.
   * @returns what ends the reservation; undefined where somebody else has it
   */
  abstract reserveLoad(itemId: bigint): Promise<(() => Promise<void>) | undefined>;
}
