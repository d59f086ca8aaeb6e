import type { Transaction } from '../transaction.js';

/** ACTIVE → EXPIRED when its end has passed, → REVOKED by a refund or an operator. */
export type EntitlementStatus = 'ACTIVE' | 'EXPIRED' | 'REVOKED';

/** What access is about. */
export interface Access {
  /** UUID. */
  readonly userId: string;
  readonly contentId: bigint;
}

/** Access of a user to a content that an order opened or an operator granted. */
export interface Entitlement extends Access {
  readonly id: bigint;
  /** undefined: an operator granted it. */
  readonly orderId: bigint | undefined;
  /** Follows the title of the content. */
  readonly contentTitle: string;
  readonly contentType: string;
  /** Of the goods that opened the content; undefined: it was bought directly, or granted. */
  readonly goodsType: string | undefined;
  readonly startsAt: Date;
  /** undefined: permanent. */
  readonly endsAt: Date | undefined;
  readonly status: EntitlementStatus;
  /** Why an operator granted it, or why it was revoked. */
  readonly reason: string;
  readonly createdAt: Date;
}

/** An entitlement before it is stored. It begins now; a temporary one where the user's temporary access ends, if that is later. */
export interface NewEntitlement extends Access {
  readonly orderId?: bigint | undefined;
  readonly goodsType?: string | undefined;
  /** Days of 24 hours; undefined: permanent. */
  readonly days: number | undefined;
  /** Of an operator's grant. */
  readonly requestId?: string | undefined;
  readonly reason?: string | undefined;
}

/** What a check answers. */
export type AccessState =
  | { readonly hasAccess: false }
  | {
      readonly hasAccess: true;
      /** When the access ends, with what follows on it without a gap; undefined: never. */
      readonly until: Date | undefined;
    };

/** What a revocation leaves of an entitlement. */
export interface Revocation {
  readonly id: bigint;
  /** Days that stay, from its start; 0: none, and it is REVOKED. */
  readonly keepDays: number;
  readonly reason: string;
}

/** A part of the entitlements of a content that got its title. */
export interface TitleUpdate {
  readonly updated: number;
  /** Where the next part begins; undefined: that was the last one. */
  readonly lastId: bigint | undefined;
}

export abstract class EntitlementRepo {
  /** Keeps other transactions from granting or revoking these accesses until `tx` ends. Call it once per transaction. */
  abstract lock(tx: Transaction, accesses: readonly Access[]): Promise<void>;
  /**
   * Those of the accesses that are permanent and not revoked.
   * @param exceptOrderId entitlements of this order do not count
   */
  abstract findPermanent(
    tx: Transaction | undefined,
    accesses: readonly Access[],
    exceptOrderId?: bigint,
  ): Promise<readonly Access[]>;
  /**
   * Stores entitlements with copies of their contents, in one statement. Those of an (order, content) or a (user, content,
   * request id) that exists are left as they are. Lock the accesses of temporary ones before.
   * @returns how many were stored
   */
  abstract insert(tx: Transaction, entitlements: readonly NewEntitlement[]): Promise<number>;
  /** Oldest first. */
  abstract listOfOrder(tx: Transaction, orderId: bigint): Promise<readonly Entitlement[]>;
  /** Of an access, by their beginning. */
  abstract listOfAccess(tx: Transaction, access: Access): Promise<readonly Entitlement[]>;
  abstract findByRequest(tx: Transaction, access: Access, requestId: string): Promise<Entitlement | undefined>;
  /**
   * Takes back an entitlement, or what is beyond the days that stay. Temporary access that follows begins earlier by what was
   * not used yet, so that no gap is left. The access is locked.
   */
  abstract revoke(tx: Transaction, revocation: Revocation): Promise<void>;
  abstract check(access: Access): Promise<AccessState>;
  /** One for each, in order. */
  abstract checkAll(accesses: readonly Access[]): Promise<readonly AccessState[]>;
  /** Newest first. @param belowId the last one of the page before */
  abstract list(
    userId: string,
    status: EntitlementStatus | undefined,
    belowId: bigint | undefined,
    limit: number,
  ): Promise<readonly Entitlement[]>;
  /** Marks ACTIVE ones whose end has passed as EXPIRED, except those that another transaction has locked. @returns how many */
  abstract expire(limit: number): Promise<number>;
  /** Gives the title to entitlements of the content that have an older one; `limit` of them are looked at. */
  abstract setTitle(
    change: { readonly contentId: bigint; readonly version: bigint; readonly title: string },
    afterId: bigint,
    limit: number,
  ): Promise<TitleUpdate>;
}
