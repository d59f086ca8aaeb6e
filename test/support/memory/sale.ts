import { soldQuantity } from '../../../internal/biz/order/order-state.js';
import type { Page, PageRequest } from '../../../internal/biz/page.js';
import { type AccountQuery, type SaleAccount, SaleAccounts } from '../../../internal/biz/seckill/sale-account.js';
import {
  type DueSales,
  type NewSale,
  type Sale,
  type SalePatch,
  SaleRepo,
  type SaleSnapshot,
  type SaleStatus,
  type SaleSummary,
  type UserOfSale,
} from '../../../internal/biz/seckill/sale-state.js';
import { TOPIC_SECKILL_RETURN, tryDecodeUnitsReturn } from '../../../internal/biz/seckill/seckill-return.js';
import type { Transaction } from '../../../internal/biz/transaction.js';
import type { MemoryOrderRepo } from './order.js';
import type { MemoryOutbox } from './outbox.js';
import type { MemorySale, MemorySaleUnitsRepo } from './sale-units.js';
import type { MemoryStore } from './store.js';
import type { MemoryVipLimitRepo } from './vip-limit.js';

export class MemorySaleRepo extends SaleRepo {
  private lastEpoch = 0n;

  constructor(
    protected readonly store: MemoryStore,
    protected readonly units: MemorySaleUnitsRepo,
    protected readonly orders: MemoryOrderRepo,
    private readonly vipLimits: MemoryVipLimitRepo,
  ) {
    super();
  }

  override insert(tx: Transaction, sale: NewSale): Promise<Sale | undefined> {
    return this.store.statement('sale.insert', tx, async () => {
      await this.store.lock(tx, `live sale ${sale.itemId}`);
      if (this.live(sale.itemId, tx)) return undefined;
      const counters = { sold: 0n, returned: 0n, epoch: 0n, firstEpoch: 0n, version: 1n, settingsVersion: 1n };
      const row: MemorySale = { ...sale, ...counters, status: 'SCHEDULED', released: false, confirmed: false };
      await this.units.sales.insert(tx, row);
      return saleOf(row);
    });
  }

  override findCurrent(itemId: bigint): Promise<SaleSummary | undefined> {
    return this.store.statement('sale.findCurrent', undefined, async () => {
      const ofItem = this.units.sales.rows().filter((s) => s.itemId === itemId);
      const last = ofItem.sort((a, b) => (a.id < b.id ? 1 : -1))[0];
      const found = ofItem.find((s) => s.status !== 'CLOSED') ?? last;
      return found && this.summaryOf(found);
    });
  }

  override list({ offset, limit }: PageRequest, status: SaleStatus | undefined): Promise<Page<SaleSummary>> {
    return this.store.statement('sale.list', undefined, async () => {
      const found = this.units.sales
        .rows()
        .filter((s) => status === undefined || s.status === status)
        .sort((a, b) => (a.id < b.id ? 1 : -1));
      const items = found.slice(offset, offset + limit).map((s) => this.summaryOf(s));
      return { items, total: BigInt(found.length) };
    });
  }

  override lockLive(tx: Transaction, itemId: bigint): Promise<Sale | undefined> {
    return this.store.statement('sale.lockLive', tx, async () => {
      const live = this.live(itemId, tx);
      const locked = live && (await this.units.sales.lock(tx, String(live.id)));
      // It may have been closed while this transaction waited for the lock.
      return locked && locked.status !== 'CLOSED' ? saleOf(locked) : undefined;
    });
  }

  override async lockOver(tx: Transaction, itemId: bigint): Promise<Sale | undefined> {
    const live = await this.lockLive(tx, itemId);
    return live?.endsAt && live.endsAt <= this.store.now() ? live : undefined;
  }

  override open(tx: Transaction, saleId: bigint): Promise<Sale> {
    return this.store.statement('sale.open', tx, () => {
      const epoch = ++this.lastEpoch;
      return this.change(tx, saleId, (s) => ({
        ...{ ...s, status: 'OPEN', epoch, version: s.version + 1n },
        firstEpoch: s.firstEpoch === 0n ? epoch : s.firstEpoch,
      }));
    });
  }

  override close(tx: Transaction, saleId: bigint): Promise<Sale> {
    return this.store.statement('sale.close', tx, () =>
      this.change(tx, saleId, (s) => ({ ...s, status: 'CLOSED', version: s.version + 1n })),
    );
  }

  override confirmClosed(saleId: bigint): Promise<void> {
    return this.store.statement('sale.confirmClosed', undefined, async (tx) => {
      await this.units.sales.update(tx, String(saleId), (s) => ({ ...s, confirmed: true }));
    });
  }

  override findUnreleased(): Promise<readonly Sale[]> {
    return this.store.statement('sale.findUnreleased', undefined, async () =>
      this.units.sales
        .rows()
        .filter((s) => s.status === 'CLOSED' && s.orderType === 'GOODS' && !s.released)
        .map(saleOf),
    );
  }

  override release(tx: Transaction, saleId: bigint): Promise<Sale | undefined> {
    return this.units.release(tx, saleId);
  }

  override update(tx: Transaction, saleId: bigint, version: bigint, patch: SalePatch): Promise<Sale | undefined> {
    return this.store.statement('sale.update', tx, async () => {
      const { endsAt, ...others } = patch;
      const end = endsAt === undefined ? {} : { endsAt: endsAt ?? undefined };
      const updated = await this.units.sales.update(tx, String(saleId), (s) =>
        s.version === version
          ? { ...s, ...others, ...end, version: s.version + 1n, settingsVersion: s.settingsVersion + 1n }
          : undefined,
      );
      return updated && saleOf(updated);
    });
  }

  override countUnits({ saleId, userId }: UserOfSale): Promise<number> {
    return this.store.statement('sale.countUnits', undefined, async () => this.liveUnits(saleId).get(userId) ?? 0);
  }

  override findDue(leadMs: number): Promise<DueSales> {
    return this.store.statement('sale.findDue', undefined, async () => {
      const nowMs = this.store.now().getTime();
      const rows = this.units.sales.rows().sort((a, b) => (a.id < b.id ? -1 : 1));
      const isOver = (s: Sale) => s.endsAt !== undefined && s.endsAt.getTime() <= nowMs;
      const open = rows.filter((s) => s.status === 'OPEN');
      const scheduled = rows.filter((s) => s.status === 'SCHEDULED' && s.startsAt.getTime() <= nowMs + leadMs);
      return {
        toOpen: scheduled.filter((s) => !isOver(s)).map(saleOf),
        toClose: [...scheduled.filter(isOver), ...open.filter(isOver)].map(saleOf),
        open: open.filter((s) => !isOver(s)).map(saleOf),
        closed: rows
          .filter((s) => s.status === 'CLOSED' && s.epoch > 0n)
          .map((s) => ({ ...saleOf(s), confirmed: s.confirmed })),
      };
    });
  }

  override snapshot(tx: Transaction, sale: Sale, streamIds: readonly string[]): Promise<SaleSnapshot> {
    return this.store.statement('sale.snapshot', tx, async () => ({
      buyers: [...this.liveUnits(sale.id, tx)].map(([userId, units]) => ({ userId, units })),
      vipLimits: this.vipLimits.table
        .rows(tx)
        .filter((v) => v.saleId === sale.id)
        .map(({ userId, units }) => ({ userId, units })),
      settled: new Map(
        this.orders.inbox
          .rows(tx)
          .filter((row) => row.itemId === sale.itemId && streamIds.includes(row.streamId))
          .map((row) => [row.streamId, row.userId]),
      ),
    }));
  }

  /** Units of live orders, by user. */
  liveUnits(saleId: bigint, tx?: Transaction): Map<string, number> {
    const units = new Map<string, number>();
    for (const o of this.orders.orders.rows(tx)) {
      const sold = o.saleId === saleId ? soldQuantity(o) : 0;
      if (sold > 0) units.set(o.userId, (units.get(o.userId) ?? 0) + sold);
    }
    return units;
  }

  private live(itemId: bigint, tx: Transaction): MemorySale | undefined {
    return this.units.sales.rows(tx).find((s) => s.itemId === itemId && s.status !== 'CLOSED');
  }

  private summaryOf(sale: MemorySale): SaleSummary {
    const unpaid = this.orders.orders.rows().some((o) => o.saleId === sale.id && o.status === 'PENDING');
    return { ...saleOf(sale), unpaid };
  }

  private async change(tx: Transaction, saleId: bigint, change: (sale: MemorySale) => MemorySale): Promise<Sale> {
    const changed = await this.units.sales.update(tx, String(saleId), change);
    if (!changed) throw new Error(`no sale ${saleId}`);
    return saleOf(changed);
  }
}

export class MemorySaleAccounts extends SaleAccounts {
  constructor(
    private readonly store: MemoryStore,
    private readonly units: MemorySaleUnitsRepo,
    private readonly orders: MemoryOrderRepo,
    private readonly sales: MemorySaleRepo,
    private readonly outbox: MemoryOutbox,
  ) {
    super();
  }

  override read({ saleId, streamIds, userIds, sampleAfter, sample }: AccountQuery): Promise<SaleAccount | undefined> {
    return this.store.statement('account.read', undefined, async () => {
      const sale = this.units.sales.find(String(saleId));
      if (sale?.status !== 'OPEN') return undefined;
      const live = this.sales.liveUnits(saleId);
      const sampled = [...live.keys()]
        .sort()
        .filter((userId) => userId > (sampleAfter ?? ''))
        .slice(0, sample);
      const rows = this.orders.inbox.rows().filter((r) => r.itemId === sale.itemId && streamIds.includes(r.streamId));
      const waiting = this.outbox.table
        .rows()
        .filter((r) => r.topic === TOPIC_SECKILL_RETURN && r.publishedAt === undefined)
        .flatMap((r) => tryDecodeUnitsReturn(Buffer.from(r.payload ?? []).toString()) ?? []);
      return {
        sale: saleOf(sale),
        outcomes: new Map(rows.map(({ itemId: _, ...row }) => [row.streamId, row])),
        returns: waiting.filter((r) => r.itemId === sale.itemId && r.epoch === sale.epoch),
        buyers: new Map([...userIds, ...sampled].map((userId) => [userId, live.get(userId) ?? 0])),
        lastSampled: sampled.length < sample ? undefined : sampled.at(-1),
      };
    });
  }
}

function saleOf({ released: _released, confirmed: _confirmed, ...sale }: MemorySale): Sale {
  return sale;
}
