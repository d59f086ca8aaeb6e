import type { Page, PageRequest } from '../page.js';
import type { Transaction } from '../transaction.js';
import type { Sale, UnitsOfUser, UserOfSale } from './sale-state.js';

/** A user's own limit. */
export interface VipLimit {
  readonly units: number;
  readonly version: bigint;
}

/** A VIP limit in a list, with the units that its user has taken. */
export interface ListedVipLimit extends VipLimit {
  readonly userId: string;
  readonly taken: number;
}

/** VIP limits that changed after a settings version, in the order of their changes. */
export interface ChangedLimits {
  readonly vipLimits: readonly UnitsOfUser[];
  /** The settings version up to which they are all there are. */
  readonly upTo: bigint;
}

export abstract class VipLimitRepo {
  abstract find(user: UserOfSale, tx?: Transaction): Promise<VipLimit | undefined>;
  /**
   * Writes it, and with it the sale's settings version, only while its version is `version`, 0 for none yet. Call it
   * with the sale locked.
   */
  abstract set(tx: Transaction, user: UserOfSale, units: number, version: bigint): Promise<VipLimit | undefined>;
  /** In the order of the users' ids. */
  abstract list(saleId: bigint, page: PageRequest): Promise<Page<ListedVipLimit>>;
  /** @returns at most `limit` of them */
  abstract findChanged(sale: Sale, afterVersion: bigint, limit: number): Promise<ChangedLimits>;
}
