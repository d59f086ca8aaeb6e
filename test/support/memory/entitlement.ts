import {
  type Access,
  type AccessState,
  type Entitlement,
  EntitlementRepo,
  type EntitlementStatus,
  type NewEntitlement,
  type Revocation,
  type TitleUpdate,
} from '../../../internal/biz/entitlement/entitlement-state.js';
import type { Transaction } from '../../../internal/biz/transaction.js';
import type { MemoryContentRepo } from './content.js';
import { type MemoryStore, MemoryTable } from './store.js';

interface EntitlementRow extends Entitlement {
  readonly requestId: string | undefined;
  readonly contentVersion: bigint;
}

const DAY_MS = 86_400_000;

export class MemoryEntitlementRepo extends EntitlementRepo {
  readonly entitlements: MemoryTable<EntitlementRow>;
  private lastId = 0n;

  constructor(
    private readonly store: MemoryStore,
    private readonly contents: MemoryContentRepo,
  ) {
    super();
    this.entitlements = new MemoryTable<EntitlementRow>(store, 'order_content_association', (e) => String(e.id), [
      { name: 'order', of: (e) => (e.orderId === undefined ? undefined : `${e.orderId} ${e.contentId}`) },
      { name: 'request', of: (e) => (e.requestId === undefined ? undefined : `${keyOf(e)} ${e.requestId}`) },
    ]);
  }

  override lock(tx: Transaction, accesses: readonly Access[]): Promise<void> {
    return this.store.statement('entitlement.lock', tx, async () => {
      for (const key of [...new Set(accesses.map(keyOf))].sort()) await this.store.lock(tx, `access ${key}`);
    });
  }

  override findPermanent(
    tx: Transaction | undefined,
    accesses: readonly Access[],
    exceptOrderId?: bigint,
  ): Promise<readonly Access[]> {
    return this.store.statement('entitlement.findPermanent', tx, async () => {
      const owned = this.entitlements
        .rows(tx)
        .filter((e) => e.status === 'ACTIVE' && e.endsAt === undefined)
        .filter((e) => e.orderId === undefined || e.orderId !== exceptOrderId);
      const keys = new Set(owned.map(keyOf));
      return accesses.filter((a) => keys.has(keyOf(a)));
    });
  }

  override insert(tx: Transaction, entitlements: readonly NewEntitlement[]): Promise<number> {
    return this.store.statement('entitlement.insert', tx, async () => {
      let stored = 0;
      for (const { userId, contentId, orderId, days, goodsType, requestId, reason = '' } of entitlements) {
        const content = await this.contents.contents.lock(tx, String(contentId));
        const rows = this.entitlements.rows(tx).filter((e) => keyOf(e) === keyOf({ userId, contentId }));
        const exists = rows.some((e) =>
          orderId === undefined ? requestId !== undefined && e.requestId === requestId : e.orderId === orderId,
        );
        if (!content || exists) continue;
        const at = this.store.now();
        const ends = rows.flatMap((e) => (e.status === 'ACTIVE' && e.endsAt ? [e.endsAt.getTime()] : []));
        const startsAt = days === undefined ? at : new Date(Math.max(at.getTime(), ...ends));
        await this.entitlements.insert(tx, {
          ...{ id: ++this.lastId, orderId, userId, contentId, goodsType, requestId, reason, createdAt: at },
          ...{ contentTitle: content.title, contentType: content.contentType, contentVersion: content.version },
          ...{ startsAt, endsAt: days === undefined ? undefined : new Date(startsAt.getTime() + days * DAY_MS) },
          status: 'ACTIVE',
        });
        stored++;
      }
      return stored;
    });
  }

  override listOfOrder(tx: Transaction, orderId: bigint): Promise<readonly Entitlement[]> {
    return this.store.statement('entitlement.listOfOrder', tx, async () =>
      this.entitlements
        .rows(tx)
        .filter((e) => e.orderId === orderId)
        .sort((a, b) => Number(a.id - b.id))
        .map(entitlementOf),
    );
  }

  override listOfAccess(tx: Transaction, access: Access): Promise<readonly Entitlement[]> {
    return this.store.statement('entitlement.listOfAccess', tx, async () =>
      this.entitlements
        .rows(tx)
        .filter((e) => keyOf(e) === keyOf(access))
        .sort((a, b) => a.startsAt.getTime() - b.startsAt.getTime() || Number(a.id - b.id))
        .map(entitlementOf),
    );
  }

  override findByRequest(tx: Transaction, access: Access, requestId: string): Promise<Entitlement | undefined> {
    return this.store.statement('entitlement.findByRequest', tx, async () => {
      const found = this.entitlements.rows(tx).find((e) => keyOf(e) === keyOf(access) && e.requestId === requestId);
      return found && entitlementOf(found);
    });
  }

  override revoke(tx: Transaction, { id, keepDays, reason }: Revocation): Promise<void> {
    return this.store.statement('entitlement.revoke', tx, async () => {
      const before = this.entitlements.find(String(id), tx);
      if (!before || before.status === 'REVOKED') return;
      const keptMs = before.startsAt.getTime() + keepDays * DAY_MS;
      const endMs = before.endsAt?.getTime();
      if (keepDays > 0 && endMs !== undefined && keptMs >= endMs) return;
      await this.entitlements.update(tx, String(id), (e) => ({
        ...e,
        reason,
        ...(keepDays === 0 ? { status: 'REVOKED' } : { endsAt: new Date(keptMs) }),
      }));
      if (endMs === undefined) return;
      const unusedMs = endMs - Math.max(keptMs, this.store.now().getTime());
      if (unusedMs <= 0) return;
      const following = this.entitlements
        .rows(tx)
        .filter((e) => keyOf(e) === keyOf(before) && e.id !== id && e.status === 'ACTIVE')
        .filter((e) => e.startsAt.getTime() >= endMs);
      for (const { id: nextId, endsAt } of following) {
        if (!endsAt) continue;
        await this.entitlements.update(tx, String(nextId), (e) => ({
          ...e,
          startsAt: new Date(e.startsAt.getTime() - unusedMs),
          endsAt: new Date(endsAt.getTime() - unusedMs),
        }));
      }
    });
  }

  override check(access: Access): Promise<AccessState> {
    return this.store.statement('entitlement.check', undefined, async () => this.stateOf(access));
  }

  override checkAll(accesses: readonly Access[]): Promise<readonly AccessState[]> {
    return this.store.statement('entitlement.checkAll', undefined, async () => accesses.map((a) => this.stateOf(a)));
  }

  override list(
    userId: string,
    status: EntitlementStatus | undefined,
    belowId: bigint | undefined,
    limit: number,
  ): Promise<readonly Entitlement[]> {
    return this.store.statement('entitlement.list', undefined, async () =>
      this.entitlements
        .rows()
        .filter((e) => e.userId === userId && (status === undefined || e.status === status))
        .filter((e) => belowId === undefined || e.id < belowId)
        .sort((a, b) => Number(b.id - a.id))
        .slice(0, limit)
        .map(entitlementOf),
    );
  }

  override expire(limit: number): Promise<number> {
    return this.store.statement('entitlement.expire', undefined, async (tx) => {
      const nowMs = this.store.now().getTime();
      const due = this.entitlements
        .rows(tx)
        .filter((e) => e.status === 'ACTIVE' && e.endsAt !== undefined && e.endsAt.getTime() < nowMs)
        .slice(0, limit);
      let expired = 0;
      for (const { id } of due) {
        if (!this.entitlements.tryLock(tx, String(id))) continue;
        await this.entitlements.update(tx, String(id), (e) => ({ ...e, status: 'EXPIRED' }));
        expired++;
      }
      return expired;
    });
  }

  override setTitle(
    { contentId, version, title }: { readonly contentId: bigint; readonly version: bigint; readonly title: string },
    afterId: bigint,
    limit: number,
  ): Promise<TitleUpdate> {
    return this.store.statement('entitlement.setTitle', undefined, async (tx) => {
      const part = this.entitlements
        .rows(tx)
        .filter((e) => e.contentId === contentId && e.id > afterId)
        .sort((a, b) => Number(a.id - b.id))
        .slice(0, limit);
      let updated = 0;
      for (const { id } of part) {
        const changed = await this.entitlements.update(tx, String(id), (e) =>
          e.contentVersion < version ? { ...e, contentTitle: title, contentVersion: version } : undefined,
        );
        if (changed) updated++;
      }
      return { updated, lastId: part.length < limit ? undefined : part.at(-1)?.id };
    });
  }

  private stateOf(access: Access): AccessState {
    const nowMs = this.store.now().getTime();
    const valid = this.entitlements
      .rows()
      .filter((e) => keyOf(e) === keyOf(access) && e.status === 'ACTIVE')
      .filter((e) => e.endsAt === undefined || e.endsAt.getTime() > nowMs);
    if (!valid.some((e) => e.startsAt.getTime() <= nowMs)) return { hasAccess: false };
    if (valid.some((e) => e.endsAt === undefined)) return { hasAccess: true, until: undefined };
    return { hasAccess: true, until: new Date(Math.max(...valid.map((e) => e.endsAt?.getTime() ?? 0))) };
  }
}

function keyOf({ userId, contentId }: Access): string {
  return `${userId} ${contentId}`;
}

function entitlementOf({ requestId: _, contentVersion: _version, ...entitlement }: EntitlementRow): Entitlement {
  return entitlement;
}
