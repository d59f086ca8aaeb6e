import type { UnitsReturn } from './admission.js';
import type { Sale } from './sale-state.js';
import type { InboxRow } from './settlement-state.js';

/** What PostgreSQL has of an open sale, at one moment. */
export interface SaleAccount {
  readonly sale: Sale;
  /** Outcomes of those of the given stream entries that have one, by stream id. */
  readonly outcomes: ReadonlyMap<string, InboxRow>;
  /** Units of orders cancelled in this epoch that may not have been returned to admission yet. */
  readonly returns: readonly UnitsReturn[];
  /** Units of live orders, by user: of those who were asked for, and of the sample. */
  readonly buyers: ReadonlyMap<string, number>;
  /** Where the next sample goes on; undefined: from the first buyer. */
  readonly lastSampled: string | undefined;
}

export interface AccountQuery {
  readonly saleId: bigint;
  readonly streamIds: readonly string[];
  readonly userIds: readonly string[];
  /** So many buyers beside `userIds`, in the order of their ids. */
  readonly sample: number;
  readonly sampleAfter: string | undefined;
}

export abstract class SaleAccounts {
  /** @returns undefined where the sale is not open */
  abstract read(query: AccountQuery): Promise<SaleAccount | undefined>;
}
