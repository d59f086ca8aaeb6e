import { entitlementNotFound, grantRequestReused } from '../../../gen/content/v1/errors.js';
import { noContent } from '../catalog/content.js';
import type { TitleChange } from '../catalog/title-change.js';
import { limitOf } from '../page.js';
import { decodePageToken, type TokenPage, tokenPage } from '../page-token.js';
import type { TransactionRunner } from '../transaction.js';
import type { Access, AccessState, Entitlement, EntitlementRepo, EntitlementStatus } from './entitlement-state.js';

export interface GrantEntitlement extends Access {
  /** undefined: permanent. */
  readonly days: number | undefined;
  readonly requestId: string;
  readonly reason: string;
}

export interface RevokeEntitlement extends Access {
  /** undefined: all of the access. */
  readonly id: bigint | undefined;
  readonly reason: string;
}

export interface EntitlementPolicy {
  /** Entitlements that a statement changes at most, so that none of them is locked for long. */
  readonly batchSize: number;
}

const DAY_MS = 86_400_000;

/** Access of users to contents: checks, lists, and what operators and background servers do. */
export class EntitlementUsecase {
  constructor(
    private readonly transactions: TransactionRunner,
    private readonly entitlements: EntitlementRepo,
    private readonly policy: EntitlementPolicy,
  ) {}

  check(access: Access): Promise<AccessState> {
    return this.entitlements.check(access);
  }

  /** One for each, in order. */
  checkAll(accesses: readonly Access[]): Promise<readonly AccessState[]> {
    return this.entitlements.checkAll(accesses);
  }

  /**
   * The entitlements of a user, newest first.
   * @param limit 0: 20
   * @throws INVALID_ARGUMENT page_token
   */
  async list(
    userId: string,
    status: EntitlementStatus | undefined,
    limit: number,
    pageToken: string,
  ): Promise<TokenPage<Entitlement>> {
    const list = { list: 'entitlements', userId, status };
    const belowId = decodePageToken(list, pageToken);
    const size = limitOf(limit);
    return tokenPage(list, size, await this.entitlements.list(userId, status, belowId, size + 1));
  }

  /**
   * Gives access without an order. Repeating a request changes nothing.
   * @throws CONTENT_NOT_FOUND, GRANT_REQUEST_REUSED
   */
  grant({ userId, contentId, days, requestId, reason }: GrantEntitlement): Promise<Entitlement> {
    const access = { userId, contentId };
    return this.transactions.run(
      async (tx) => {
        await this.entitlements.lock(tx, [access]);
        await this.entitlements.insert(tx, [{ ...access, days, requestId, reason }]);
        const granted = (await this.entitlements.findByRequest(tx, access, requestId)) ?? noContent(contentId);
        if (daysOf(granted) === days) return granted;
        throw grantRequestReused(`request ${requestId} granted ${daysOf(granted) ?? 'permanent'} days before`, {
          metadata: { request_id: requestId, entitlement_id: String(granted.id) },
        });
      },
      { idempotent: true },
    );
  }

  /**
   * Ends access, also that of orders. Repeating it changes nothing.
   * @returns how many entitlements were revoked now
   * @throws ENTITLEMENT_NOT_FOUND when the user has never had any
   */
  async revoke({ userId, contentId, id, reason }: RevokeEntitlement): Promise<number> {
    const access = { userId, contentId };
    return this.transactions.run(
      async (tx) => {
        await this.entitlements.lock(tx, [access]);
        const all = await this.entitlements.listOfAccess(tx, access);
        const meant = id === undefined ? all : all.filter((e) => e.id === id);
        if (meant.length === 0) {
          throw entitlementNotFound(`the user has no such entitlement to content ${contentId}`, {
            metadata: { content_id: String(contentId) },
          });
        }
        const live = meant.filter((e) => e.status === 'ACTIVE');
        // The last one first, so that none moves forward before it is revoked itself.
        for (const e of live.reverse()) await this.entitlements.revoke(tx, { id: e.id, keepDays: 0, reason });
        return live.length;
      },
      { idempotent: true },
    );
  }

  /** Expires the next ones whose end has passed. @returns how many; a full batch suggests that there are more */
  async expire(): Promise<{ readonly expired: number; readonly full: boolean }> {
    const expired = await this.entitlements.expire(this.policy.batchSize);
    return { expired, full: expired === this.policy.batchSize };
  }

  /**
   * Brings changed titles to the copies of them, in batches. Repeated and late messages change nothing: a copy takes a title
   * only from a newer version of its content.
   * @returns how many copies changed
   * @throws UNAVAILABLE when the database is unavailable; repeat it then
   */
  async changeTitles(changes: readonly TitleChange[]): Promise<number> {
    const newest = new Map<bigint, TitleChange>();
    for (const change of changes) {
      const other = newest.get(change.contentId);
      if (!other || other.version < change.version) newest.set(change.contentId, change);
    }
    let updated = 0;
    for (const change of newest.values()) {
      let afterId: bigint | undefined = 0n;
      while (afterId !== undefined) {
        const part = await this.entitlements.setTitle(change, afterId, this.policy.batchSize);
        updated += part.updated;
        afterId = part.lastId;
      }
    }
    return updated;
  }
}

function daysOf({ startsAt, endsAt }: Entitlement): number | undefined {
  return endsAt && Math.round((endsAt.getTime() - startsAt.getTime()) / DAY_MS);
}
