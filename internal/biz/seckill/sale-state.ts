import type { OrderType } from '../order/order-state.js';
import type { Page, PageRequest } from '../page.js';
import type { Transaction } from '../transaction.js';

export type SaleStatus = 'SCHEDULED' | 'OPEN' | 'CLOSED';
export type PayMode = 'PREPAID' | 'PAY_LATER';

export interface Sale {
  readonly id: bigint;
  readonly itemId: bigint;
  /** The orders it makes: INSTANCE of a product, GOODS of a sku, CONTENT of a content. */
  readonly orderType: OrderType;
  readonly name: string;
  readonly status: SaleStatus;
  readonly startsAt: Date;
  /** undefined: never. */
  readonly endsAt: Date | undefined;
  /** Units for sale in all. */
  readonly total: bigint;
  /** Units of orders that are not cancelled. */
  readonly sold: bigint;
  /** GOODS: units that went back to the sku once the sale was over. It holds total - sold - returned of them. */
  readonly returned: bigint;
  readonly priceFen: bigint;
  readonly payMode: PayMode;
  readonly payTimeoutMs: number;
  /** Units one user may hold. */
  readonly defaultLimit: number;
  /** Whether a purchase brings a token; see `needsToken`. */
  readonly requireToken: boolean;
  /** Users that the waiting room admits each second, in the order of their arrival; 0: no waiting room. */
  readonly admitRate: number;
  /** Parts that admission splits its units, its stream and its buyers into; see segment.ts. */
  readonly segments: number;
  /** Grows with each opening; 0 before the first. Fences off whatever admission held before. */
  readonly epoch: bigint;
  /** Of the first opening. */
  readonly firstEpoch: bigint;
  /** Counts changes of the sale itself; what is sold does not count. */
  readonly version: bigint;
  /** Counts what admission has to be told of a sale that is open: its total, end, limits, those of VIPs, and the admit rate. */
  readonly settingsVersion: bigint;
}

/** A sale with what its orders say. */
export interface SaleSummary extends Sale {
  /** Whether an order of it waits for payment, so that its units may come back. */
  readonly unpaid: boolean;
}

/** A waiting room requires a token: it proves that the buyer's turn has come. */
export function needsToken(sale: Sale): boolean {
  return sale.requireToken || sale.admitRate > 0;
}

export interface SalePolicy {
  /** How long a buyer has to pay where the sale does not say. */
  readonly payTimeoutMs: number;
  /** Entries a sale's stream may hold before admission closes. */
  readonly backlogLimit: number;
}

/** What may change of a sale; absent fields stay. */
export interface SalePatch {
  readonly defaultLimit?: number;
  readonly requireToken?: boolean;
  readonly admitRate?: number;
  readonly total?: bigint;
  readonly priceFen?: bigint;
  readonly startsAt?: Date;
  /** null: never. */
  readonly endsAt?: Date | null;
}

/** Sales that the schedule looks at, by the database's clock. */
export interface DueSales {
  /** Scheduled, and their time has come. */
  readonly toOpen: readonly Sale[];
  /** Open, and past their end. */
  readonly toClose: readonly Sale[];
  readonly open: readonly Sale[];
  /** Closed ones that admission may still have to be told of. */
  readonly closed: readonly ClosedSale[];
}

export interface ClosedSale extends Sale {
  /** Whether admission was told of it. */
  readonly confirmed: boolean;
}

export type NewSale = Omit<
  Sale,
  'status' | 'sold' | 'returned' | 'epoch' | 'firstEpoch' | 'version' | 'settingsVersion'
>;

export interface UserOfSale {
  readonly saleId: bigint;
  readonly userId: string;
}

export interface UnitsOfUser {
  readonly userId: string;
  readonly units: number;
}

/** What admission's state is made from. */
export interface SaleSnapshot {
  /** Live units of each user. */
  readonly buyers: readonly UnitsOfUser[];
  /** Limits in place of the default. */
  readonly vipLimits: readonly UnitsOfUser[];
  /** Those of the given stream ids that have an outcome, with its user; undefined for the user of a malformed entry. */
  readonly settled: ReadonlyMap<string, string | undefined>;
}

export abstract class SaleRepo {
  /** undefined where the item has a sale that is not closed. */
  abstract insert(tx: Transaction, sale: NewSale): Promise<Sale | undefined>;
  /** The item's sale that is not closed, else its last. */
  abstract findCurrent(itemId: bigint): Promise<SaleSummary | undefined>;
  /** Newest first. */
  abstract list(page: PageRequest, status: SaleStatus | undefined): Promise<Page<SaleSummary>>;
  /** The item's sale that is not closed, locked until `tx` ends. */
  abstract lockLive(tx: Transaction, itemId: bigint): Promise<Sale | undefined>;
  /** As `lockLive`, if the sale's end has passed by the clock of the database. */
  abstract lockOver(tx: Transaction, itemId: bigint): Promise<Sale | undefined>;
  /** Sets OPEN with the next epoch. */
  abstract open(tx: Transaction, saleId: bigint): Promise<Sale>;
  abstract close(tx: Transaction, saleId: bigint): Promise<Sale>;
  /** Notes that admission was told of the sale's end. */
  abstract confirmClosed(saleId: bigint): Promise<void>;
  /** Sales of GOODS that are closed and still hold what they did not sell. */
  abstract findUnreleased(): Promise<readonly Sale[]>;
  /** What a closed sale of GOODS did not sell is returned from now on; undefined where that was done before. */
  abstract release(tx: Transaction, saleId: bigint): Promise<Sale | undefined>;
  /** Changes the sale, and with it the settings version, only while its version is `version`. */
  abstract update(tx: Transaction, saleId: bigint, version: bigint, patch: SalePatch): Promise<Sale | undefined>;
  /** Live units of one user. */
  abstract countUnits(user: UserOfSale): Promise<number>;
  /** @param leadMs how long before starts_at a sale counts as to be opened */
  abstract findDue(leadMs: number): Promise<DueSales>;
  /** Call it with the sale locked. */
  abstract snapshot(tx: Transaction, sale: Sale, streamIds: readonly string[]): Promise<SaleSnapshot>;
}
