import type { Sale, UnitsOfUser } from './sale-state.js';

/** One user's request for units of a sale. Its bounds are the rules of PurchaseRequest in seckill.proto. */
export interface PurchaseRequest {
  /** UUID in lower case. */
  readonly userId: string;
  readonly quantity: number;
  /** At most 64 bytes; empty: each call is a purchase of its own. */
  readonly requestId: string;
  /** W3C traceparent; empty: none. */
  readonly traceparent: string;
  /** Of the purchase token, once it was verified. It is honoured once, as a request id is, and beside one. */
  readonly tokenId?: string;
}

export type AdmissionResult =
  | { readonly kind: 'QUEUED'; readonly streamId: string }
  | { readonly kind: 'SOLD_OUT' }
  | { readonly kind: 'NOT_STARTED' | 'ENDED' | 'LIMIT_REACHED' }
  | { readonly kind: 'BACKLOG_FULL' }
  /** The request itself is out of bounds; `field` says where. Nothing was done. */
  | { readonly kind: 'INVALID'; readonly field: string }
  /**
   * It is not known to be admitted for good: too few replicas of the gate have it in time, or the segment that decides on it
   * does not answer.
   */
  | { readonly kind: 'UNCONFIRMED' }
  /** This request alone could not be judged. Nothing was done. */
  | { readonly kind: 'FAILED'; readonly cause: unknown }
  /** Admission has the sale under another epoch, or not at all. Nothing was done. */
  | { readonly kind: 'STALE' };

/** What admission holds of a sale that is loaded. */
export interface LoadedSale {
  readonly saleId: bigint;
  readonly epoch: bigint;
  /** The sale's settings version when it was loaded or told of a change. */
  readonly settingsVersion: bigint;
  readonly startsAt: Date;
  readonly endsAt: Date | undefined;
  readonly defaultLimit: number;
  readonly admitRate: number;
  readonly total: bigint;
  /** Units left to admit. Below 0 after entries that took more than there was. */
  readonly stock: bigint;
  /** One for each segment. */
  readonly counted: readonly CountedEntries[];
  /** The server that was loaded, as `AdmissionState.server` names it. */
  readonly server: string;
}

/** The stream ids of the entries of a segment that a load counted as waiting: none for `0-0` to `0-0`. */
export interface CountedEntries {
  readonly from: string;
  readonly to: string;
}

/** What admission holds of an item, at one moment. */
export interface AdmissionState {
  /** The clock that windows are judged by. */
  readonly now: Date;
  /** The server that has the item. Another one after a restart and on every replica: it may have missed the last purchases. */
  readonly server: string;
  /** Keys with wrong contents. If there are any, the sale rejects all purchases and must be loaded again. */
  readonly unreadable: readonly string[];
  /** undefined where nothing is loaded, or not all of it. */
  readonly loaded: LoadedSale | undefined;
  /** The epochs under which something is loaded, be it one segment alone. */
  readonly admitting: readonly bigint[];
  /** The epoch that was closed; undefined where no sale was. */
  readonly closedEpoch: bigint | undefined;
  /** Entries in the stream. */
  readonly backlog: number;
  /** Whether the stream has used the greatest id there is, so that it takes no further entry. */
  readonly streamExhausted: boolean;
  /** Changes with whatever a purchase, a settlement, a return or a load changes. */
  readonly mark: string;
}

/** What admission can still give out, as far as it is known. */
export interface UnitsLeft {
  /** The clock that windows are judged by. */
  readonly now: Date;
  /** At least 0, and not more than there are. */
  readonly units: bigint;
  /** Whether every part of the sale was counted: none is away, unreadable or not loaded under the epoch. */
  readonly complete: boolean;
}

export interface AdmissionLoad {
  readonly sale: Sale;
  /** Units to give out; below 0 where more units wait in the stream than are left. */
  readonly stock: bigint;
  /** One for each segment. */
  readonly counted: readonly CountedEntries[];
  /** User → units, with those that wait in the stream. */
  readonly buyers: ReadonlyMap<string, number>;
  readonly vipLimits: readonly UnitsOfUser[];
  readonly backlogLimit: number;
}

/** Settings of a running sale that changed. */
export interface SettingsChange {
  /** The settings version that admission has. */
  readonly from: bigint;
  /** The settings version that it has after this. */
  readonly to: bigint;
  readonly total: bigint;
  /** undefined: never. */
  readonly endsAt: Date | undefined;
  readonly defaultLimit: number;
  readonly admitRate: number;
  /** Those that changed between the two versions, at most 1,000. */
  readonly vipLimits: readonly UnitsOfUser[];
}

/** OTHER: admission does not have the sale, or not under this epoch and settings version. */
export type Withdrawal =
  | { readonly kind: 'WITHDRAWN' | 'OTHER' }
  /** Only `stock` units are left. */
  | { readonly kind: 'SHORT'; readonly stock: bigint };

/** Units of a cancelled or refunded order on their way back to its sale. */
export interface UnitsReturn {
  /** Of the cancelled order, or of the refund: the units of one id return once. */
  readonly returnId: bigint;
  readonly itemId: bigint;
  readonly userId: string;
  readonly quantity: number;
  /** The sale's when the order was cancelled. */
  readonly epoch: bigint;
  /** The sale's; undefined: 1. */
  readonly segments?: number;
}

/** The right to load an item. It is renewed while it is held, and lapses within seconds when its holder dies. */
export interface LoadLease {
  /**
   * Stops admission until the next load, and makes the stream usable where it is not.
   * @throws SALE_UNAVAILABLE when the lease has lapsed
   */
  suspend(): Promise<void>;
  /** Puts this state in place of any older one. Repeating it changes nothing. @returns what came of it */
  load(state: AdmissionLoad): Promise<'LOADED' | 'STALE' | 'CLOSED'>;
  release(): Promise<void>;
}

/** Without segments it has one. */
export type EpochOfItem = Pick<Sale, 'itemId' | 'epoch'> & Partial<Pick<Sale, 'segments'>>;

/**
 * The fast gate in front of the orders. What it says is provisional: PostgreSQL has the last word.
 * A sale of several segments is one to its callers: they say how many it has, 1 where they do not.
 * Each method @throws SALE_UNAVAILABLE when the gate does not answer or cannot read what it holds of the item. A request
 * may then have been granted or not; one with a request id can be repeated without harm.
 */
export abstract class Admission {
  abstract admit(sale: EpochOfItem, request: PurchaseRequest): Promise<AdmissionResult>;
  /** Many requests, those of each segment in their order. @returns one for each */
  abstract admitAll(sale: EpochOfItem, requests: readonly PurchaseRequest[]): Promise<readonly AdmissionResult[]>;
  /**
   * Admits nothing: it is how repeated requests of a closed sale are answered.
   * @returns for each request QUEUED if its request id or token was admitted in the last 10 minutes, ENDED if not, and
   * UNCONFIRMED where the segment that knows does not answer
   */
  abstract findAdmitted(
    itemId: bigint,
    requests: readonly PurchaseRequest[],
    segments?: number,
  ): Promise<readonly AdmissionResult[]>;
  abstract state(itemId: bigint, segments?: number): Promise<AdmissionState>;
  /**
   * For callers who look at a sale. A part that does not answer soon is left out.
   * @throws SALE_UNAVAILABLE when no part answers
   */
  abstract unitsLeft(sale: EpochOfItem): Promise<UnitsLeft>;
  /** Returns when the gate, or a part of it, answers. */
  abstract ping(): Promise<void>;
  /** Units that these users have, by admission's count: below 0 where units came back before they were counted. */
  abstract unitsOf(itemId: bigint, userIds: readonly string[], segments?: number): Promise<ReadonlyMap<string, number>>;
  /** Some buyers at random, with their units. */
  abstract sampleBuyers(itemId: bigint, count: number, segments?: number): Promise<ReadonlyMap<string, number>>;
  /** Those of the returns whose units came back in this epoch. */
  abstract findReturned(itemId: bigint, returnIds: readonly bigint[], segments?: number): Promise<ReadonlySet<bigint>>;
  /** @returns false where admission has another epoch or another settings version: nothing was done */
  abstract configure(sale: EpochOfItem, change: SettingsChange): Promise<boolean>;
  /**
   * Lowers the total by units that are left, so that nothing is admitted to them. Call it with the sale locked, and write
   * the total before the lock ends; where that fails, the schedule loads the sale again. Repeating it changes nothing.
   */
  abstract withdraw(sale: Sale, total: bigint): Promise<Withdrawal>;
  /**
   * Ends admission of this epoch and of older ones, whether or not it is loaded, so that a load under way opens
   * nothing.
   * A later epoch is left alone.
   */
  abstract close(sale: EpochOfItem): Promise<void>;
  /**
   * Gives units back, once for each return and only in their epoch.
   * @returns false where the epoch is not loaded yet, so that it has to be tried again
   */
  abstract returnUnits(units: UnitsReturn): Promise<boolean>;
  /**
   * Moves units from segments that have many to those that have few. What a process that died had begun to move arrives.
   * @returns the units that were moved
   */
  abstract spread(sale: EpochOfItem): Promise<bigint>;
  /** Lets one caller at a time load an item. @returns undefined where another caller has the lease */
  abstract leaseLoad(itemId: bigint, segments?: number): Promise<LoadLease | undefined>;
}
