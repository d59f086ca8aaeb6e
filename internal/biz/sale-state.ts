import type { Page, PageRequest } from './page.js';
import type { Transaction } from './transaction.js';

export type SaleStatus = 'SCHEDULED' | 'OPEN' | 'CLOSED';
export type PayMode = 'PREPAID' | 'PAY_LATER';

export interface Sale {
  readonly id: bigint;
  readonly itemId: bigint;
  readonly name: string;
  readonly status: SaleStatus;
  readonly startsAt: Date;
  /** undefined: never. */
  readonly endsAt: Date | undefined;
  /** Units for sale in all. */
  readonly total: bigint;
  /** Units of orders that are not cancelled. */
  readonly sold: bigint;
  readonly priceFen: bigint;
  readonly payMode: PayMode;
  readonly payTimeoutMs: number;
  /** Units one user may hold. */
  readonly defaultLimit: number;
  /** Grows with each opening; 0 before the first. Fences off whatever admission held before. */
  readonly epoch: bigint;
  /** Of the first opening. */
  readonly firstEpoch: bigint;
  readonly version: bigint;
}

export type NewSale = Omit<Sale, 'status' | 'sold' | 'epoch' | 'firstEpoch' | 'version'>;

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
  /** Those of the given stream ids that have their outcome. */
  readonly settled: ReadonlySet<string>;
}

export abstract class SaleRepo {
  /** undefined where the item has a sale that is not closed. */
  abstract insert(sale: NewSale): Promise<Sale | undefined>;
  /** The item's sale that is not closed, else its last. */
  abstract findCurrent(itemId: bigint): Promise<Sale | undefined>;
  /** Newest first. */
  abstract list(page: PageRequest, status: SaleStatus | undefined): Promise<Page<Sale>>;
  /** The item's sale that is not closed, locked until `tx` ends. */
  abstract lockLive(tx: Transaction, itemId: bigint): Promise<Sale | undefined>;
  /** Sets OPEN with the next epoch. */
  abstract open(tx: Transaction, saleId: bigint): Promise<Sale>;
  abstract close(tx: Transaction, saleId: bigint): Promise<Sale>;
  /** Call it with the sale locked. */
  abstract snapshot(tx: Transaction, sale: Sale, streamIds: readonly string[]): Promise<SaleSnapshot>;
}
