import { invalidArgument, isUnavailable } from '../../../gen/common/v1/errors.js';
import { productNotFound } from '../../../gen/product/v1/errors.js';
import {
  isSaleStatusConflict,
  isSaleUnavailable,
  saleExists,
  saleNotFound,
  saleStatusConflict,
  saleUnavailable,
  saleVersionConflict,
} from '../../../gen/seckill/v1/errors.js';
import type { ItemDirectory } from '../catalog/item.js';
import type { IdGenerator } from '../id-generator.js';
import { type Page, type PageRequest, pageOf } from '../page.js';
import type { Transaction, TransactionRunner } from '../transaction.js';
import type { Admission } from './admission.js';
import { belongsTo, type PurchaseStream, parseEntry } from './purchase-stream.js';
import type { PayMode, Sale, SalePatch, SaleRepo, SaleStatus, SaleSummary } from './sale-state.js';
import type { SaleStock } from './sale-stock.js';

/** What `create` is asked for; undefined fields take the item's or the shop's value. */
export interface CreateSale {
  readonly itemId: bigint;
  readonly name: string;
  readonly startsAt: Date | undefined;
  readonly endsAt: Date | undefined;
  readonly total: bigint;
  readonly priceFen: bigint | undefined;
  readonly payMode: PayMode;
  readonly payTimeoutMs: number | undefined;
  readonly defaultLimit: number | undefined;
  readonly requireToken?: boolean;
  /** Users let in each second; 0: no line. */
  readonly admitRate?: number;
}

/** Whether buyers get something now. */
export type Availability = 'NOT_STARTED' | 'AVAILABLE' | 'NONE_LEFT_NOW' | 'SOLD_OUT' | 'ENDED';

/** A sale and what admission knows of it. */
export interface SaleView {
  readonly sale: Sale;
  /** Units that admission can still give out; 0 while it is not open. */
  readonly remaining: bigint;
  /** The clock that the window is judged by. */
  readonly serverTime: Date;
  readonly availability: Availability;
}

export interface SetVipLimit {
  readonly itemId: bigint;
  readonly userId: string;
  readonly limit: number;
  /** That the caller saw; 0 for none yet. */
  readonly version: bigint;
}

export interface VipLimitView {
  readonly limit: number;
  /** Units of it that are not taken. */
  readonly left: number;
  /** 0: it is the sale's default. */
  readonly version: bigint;
}

/** What a round of `reconcile` did. */
export interface ReconcileResult {
  readonly opened: number;
  readonly closed: number;
  /** Closed sales of goods whose unsold units went back to their sku. */
  readonly released: number;
  readonly reloaded: number;
  readonly failures: readonly { readonly itemId: bigint; readonly cause: unknown }[];
}

/** How long before its time a sale is opened, so that its first buyers find it open; the window keeps them out. */
const OPEN_LEAD_MS = 5_000;
const PROPAGATE_ATTEMPTS = 10;
const NAME_MAX = 128;

export interface SalePolicy {
  /** How long a buyer has to pay where the sale does not say. */
  readonly payTimeoutMs: number;
  /** Entries a sale's stream may hold before admission closes. */
  readonly backlogLimit: number;
}

/*
 * SCHEDULED → OPEN    open(), by itself a moment before starts_at: a new epoch in PostgreSQL, then admission is loaded under it
 * OPEN      → OPEN    open() again: nothing where admission has the sale's epoch, else a new epoch and a new load
 * SCHEDULED, OPEN → CLOSED  close(), by itself after ends_at: PostgreSQL first, then admission. What was admitted still becomes orders;
 *                           when it all has, a sale of goods gives its unsold units back to the sku
 *
 * A load: admission is suspended, so that the stream gets no further entry of an older epoch; the stream's waiting entries
 * are read; one transaction takes the next epoch and reads, under the sale's lock, what is sold and which of those
 * entries have their outcome; total - sold - waiting is what admission may give out. Units that come back before that
 * transaction carry an older epoch and are part of `sold`; those after it carry the new one.
 */
export class SaleUsecase {
  constructor(
    private readonly transactions: TransactionRunner,
    private readonly ids: IdGenerator,
    private readonly items: ItemDirectory,
    private readonly sales: SaleRepo,
    private readonly stock: SaleStock,
    private readonly admission: Admission,
    private readonly stream: PurchaseStream,
    private readonly policy: SalePolicy,
  ) {}

  /**
   * Plans a sale; one of a sku takes its units out of the free stock at once.
   * @throws PRODUCT_NOT_FOUND, SALE_EXISTS, INVALID_ARGUMENT window, total beyond the free stock
   */
  async create(wanted: CreateSale): Promise<SaleView> {
    const item = await this.items.find(wanted.itemId);
    if (!item) {
      throw productNotFound(`no product and no sku ${wanted.itemId}`, {
        metadata: { product_id: String(wanted.itemId) },
      });
    }
    const startsAt = wanted.startsAt ?? new Date();
    if (wanted.endsAt !== undefined && wanted.endsAt <= startsAt) {
      throw invalidArgument('ends_at must be after starts_at', {
        violations: [{ field: 'ends_at', description: 'must be after starts_at' }],
      });
    }
    const planned = {
      id: this.ids.nextId(),
      itemId: item.id,
      orderType: item.orderType,
      name: wanted.name === '' ? [...item.name].slice(0, NAME_MAX).join('') : wanted.name,
      startsAt,
      endsAt: wanted.endsAt,
      total: wanted.total,
      priceFen: wanted.priceFen ?? item.priceFen,
      payMode: wanted.payMode,
      payTimeoutMs: wanted.payTimeoutMs ?? this.policy.payTimeoutMs,
      defaultLimit: wanted.defaultLimit ?? 1,
      requireToken: wanted.requireToken ?? false,
      admitRate: wanted.admitRate ?? 0,
    };
    const sale = await this.transactions.run(async (tx) => {
      const inserted = await this.sales.insert(tx, planned);
      if (inserted?.orderType === 'GOODS') await this.stock.hold(tx, inserted);
      return inserted;
    });
    if (!sale) {
      throw saleExists(`item ${item.id} has a sale that is not closed`, { metadata: { item_id: String(item.id) } });
    }
    return this.viewOf(sale);
  }

  /**
   * Opens admission. Repeating it, also after it failed midway, is safe.
   * @throws SALE_NOT_FOUND, SALE_STATUS_CONFLICT when it is closed, SALE_UNAVAILABLE when admission could not be loaded
   */
  async open(itemId: bigint): Promise<SaleView> {
    const sale = await this.current(itemId);
    if (sale.status === 'CLOSED') throw closed(sale);
    if (sale.status !== 'OPEN' || !(await this.isLoaded(sale))) await this.load(itemId);
    return this.get(itemId);
  }

  /** @throws SALE_NOT_FOUND, SALE_STATUS_CONFLICT when it is closed, SALE_VERSION_CONFLICT, SALE_UNAVAILABLE */
  async update(itemId: bigint, version: bigint, patch: SalePatch): Promise<SaleView> {
    const changed = await this.changeLive(itemId, async (tx, live) => {
      const updated = await this.sales.update(tx, live.id, version, patch);
      // Repeating a change that was made and could not be told to admission is no conflict.
      if (!updated && !isAs(live, patch)) throw versionConflict(itemId, live.version);
      return updated ?? live;
    });
    if (changed.status === 'OPEN' && patch.defaultLimit !== undefined) {
      await this.propagate(async () => {
        const { defaultLimit } = await this.current(itemId);
        return { value: defaultLimit, set: () => this.admission.setLimit(changed, undefined, defaultLimit) };
      });
    }
    if (changed.status === 'OPEN' && patch.admitRate !== undefined) {
      await this.propagate(async () => {
        const { admitRate } = await this.current(itemId);
        return { value: admitRate, set: () => this.admission.setAdmitRate(changed, admitRate) };
      });
    }
    return this.get(itemId);
  }

  /** The same as `update` throws. */
  async setVipLimit(wanted: SetVipLimit): Promise<VipLimitView> {
    const { itemId, userId, limit, version } = wanted;
    const sale = await this.changeLive(itemId, async (tx, live) => {
      if (await this.sales.setVipLimit(tx, { saleId: live.id, userId }, limit, version)) return live;
      const there = await this.sales.findVipLimit(live.id, userId, tx);
      if (there?.units !== limit) throw versionConflict(itemId, there?.version ?? 0n);
      return live;
    });
    const find = async () => (await this.sales.findVipLimit(sale.id, userId)) ?? { units: limit, version: 0n };
    if (sale.status === 'OPEN') {
      await this.propagate(async () => {
        const { units } = await find();
        return { value: units, set: () => this.admission.setLimit(sale, userId, units) };
      });
    }
    return this.leftOf(sale, userId);
  }

  /** What a user may have of the item's sale. @throws SALE_NOT_FOUND */
  async limitOf(itemId: bigint, userId: string): Promise<VipLimitView> {
    return this.leftOf(await this.current(itemId), userId);
  }

  /** Ends admission for good; of a closed sale it changes nothing. @throws SALE_NOT_FOUND */
  async close(itemId: bigint): Promise<SaleView> {
    const sale = await this.transactions.run(
      async (tx) => {
        const live = await this.sales.lockLive(tx, itemId);
        return live && this.sales.close(tx, live.id);
      },
      { idempotent: true },
    );
    const ended = sale ?? (await this.current(itemId));
    if (ended.epoch > 0n) await this.admission.close(ended);
    // What cannot be given back yet is looked at again by `reconcile`.
    if (ended.orderType === 'GOODS') await this.stock.release(ended).catch(ifAway);
    return this.viewOf(ended);
  }

  /** @throws SALE_NOT_FOUND */
  async get(itemId: bigint): Promise<SaleView> {
    return this.viewOf(await this.current(itemId));
  }

  async list(page: PageRequest, status: SaleStatus | undefined): Promise<Page<SaleView>> {
    const { items, total } = await this.sales.list(pageOf(page), status);
    return { items: await Promise.all(items.map((sale) => this.viewOf(sale))), total };
  }

  /**
   * Opens what is due, closes what is over, and loads what admission has lost. Any number of these may run side by side.
   * @returns how many sales it changed
   */
  async reconcile(): Promise<ReconcileResult> {
    const due = await this.sales.findDue(OPEN_LEAD_MS);
    const loaded =
      due.open.length === 0 ? new Map<bigint, bigint>() : await this.admission.epochs(due.open.map((s) => s.itemId));
    const lost = due.open.filter((s) => loaded.get(s.itemId) !== s.epoch);
    const kept = {
      opened: 0,
      closed: 0,
      released: 0,
      reloaded: 0,
      failures: [] as ReconcileResult['failures'][number][],
    };
    const attempt = async (itemId: bigint, work: () => Promise<unknown>, done: () => void) => {
      try {
        await work();
        done();
      } catch (err) {
        // Somebody else does it at this moment, or did it a moment ago.
        if (!isSaleUnavailable(err) && !isSaleStatusConflict(err)) kept.failures.push({ itemId, cause: err });
      }
    };
    for (const itemId of due.toClose)
      await attempt(
        itemId,
        () => this.close(itemId),
        () => kept.closed++,
      );
    for (const sale of await this.stock.unreleased())
      await attempt(
        sale.itemId,
        async () => {
          if (await this.stock.release(sale)) kept.released++;
        },
        () => {},
      );
    for (const itemId of due.toOpen)
      await attempt(
        itemId,
        () => this.open(itemId),
        () => kept.opened++,
      );
    for (const { itemId } of lost)
      await attempt(
        itemId,
        () => this.open(itemId),
        () => kept.reloaded++,
      );
    return kept;
  }

  /**
   * Makes admission's state from PostgreSQL's, under a new epoch.
   * @throws SALE_UNAVAILABLE, also while somebody else loads it; SALE_STATUS_CONFLICT
   */
  async load(itemId: bigint): Promise<void> {
    const release = await this.admission.reserveLoad(itemId);
    if (!release) throw saleUnavailable(`the sale of item ${itemId} is being loaded; try again shortly`);
    try {
      await this.admission.suspend(itemId);
      const waiting = await this.stream.waiting(itemId);
      const { sale, snapshot } = await this.changeLive(itemId, async (tx, live) => {
        const sale = await this.sales.open(tx, live.id);
        const ids = waiting.entries.map((e) => e.streamId);
        return { sale, snapshot: await this.sales.snapshot(tx, sale, ids) };
      });
      const buyers = new Map(snapshot.buyers.map((b) => [b.userId, b.units]));
      let left = sale.total - sale.sold;
      for (const entry of waiting.entries) {
        if (snapshot.settled.has(entry.streamId)) continue;
        const parsed = parseEntry(entry);
        if (parsed.kind === 'malformed' || !belongsTo(parsed, sale)) continue;
        left -= BigInt(parsed.quantity);
        buyers.set(parsed.userId, (buyers.get(parsed.userId) ?? 0) + parsed.quantity);
      }
      await this.admission.load({
        sale,
        stock: left < 0n ? 0n : left,
        fence: waiting.fence,
        buyers,
        vipLimits: snapshot.vipLimits,
        backlogLimit: this.policy.backlogLimit,
      });
    } finally {
      await release();
    }
  }

  private async leftOf(sale: Sale, userId: string): Promise<VipLimitView> {
    const own = await this.sales.findVipLimit(sale.id, userId);
    const limit = own?.units ?? sale.defaultLimit;
    const taken = await this.sales.countUnits({ saleId: sale.id, userId });
    return { limit, left: Math.max(0, limit - taken), version: own?.version ?? 0n };
  }

  private async isLoaded(sale: Sale): Promise<boolean> {
    return (await this.admission.epochs([sale.itemId])).get(sale.itemId) === sale.epoch;
  }

  /** Runs `work` on the item's sale, locked. @throws SALE_NOT_FOUND, SALE_STATUS_CONFLICT when it is closed */
  private async changeLive<T extends object>(
    itemId: bigint,
    work: (tx: Transaction, live: Sale) => Promise<T>,
  ): Promise<T> {
    const result = await this.transactions.run(async (tx) => {
      const live = await this.sales.lockLive(tx, itemId);
      return live && work(tx, live);
    });
    return result ?? Promise.reject(closed(await this.current(itemId)));
  }

  /** Tells admission a value that PostgreSQL has, until what it was told is what is there: others may change it too. */
  private async propagate(read: () => Promise<{ value: number; set: () => Promise<boolean> }>): Promise<void> {
    let told = await read();
    for (let attempt = 0; attempt < PROPAGATE_ATTEMPTS; attempt++) {
      if (!(await told.set())) throw saleUnavailable('the sale is being loaded; repeat the change shortly');
      const now = await read();
      if (now.value === told.value) return;
      told = now;
    }
    throw saleUnavailable('the sale is being changed by others; repeat the change shortly');
  }

  private async current(itemId: bigint): Promise<SaleSummary> {
    const sale = await this.sales.findCurrent(itemId);
    if (!sale) throw saleNotFound(`item ${itemId} has no sale`, { metadata: { item_id: String(itemId) } });
    return sale;
  }

  private async viewOf(sale: Sale | SaleSummary): Promise<SaleView> {
    // A sale can be looked at while admission is away.
    const state = sale.status === 'OPEN' ? await this.admission.state(sale.itemId).catch(ifAway) : undefined;
    const known = state !== undefined && state.epoch === sale.epoch;
    const remaining = known ? state.remaining : 0n;
    const serverTime = state?.now ?? new Date();
    return { sale, remaining, serverTime, availability: availabilityOf(sale, known, remaining, serverTime) };
  }
}

/** Whether units may come back to a sale whose units are all taken. */
export function mayReturn(sale: SaleSummary): boolean {
  return sale.sold < sale.total || sale.unpaid;
}

function availabilityOf(sale: Sale | SaleSummary, loaded: boolean, remaining: bigint, now: Date): Availability {
  if (sale.status === 'CLOSED' || (sale.endsAt !== undefined && sale.endsAt <= now)) return 'ENDED';
  if (sale.status === 'SCHEDULED' || sale.startsAt > now) return 'NOT_STARTED';
  if (remaining > 0n) return 'AVAILABLE';
  return loaded && 'unpaid' in sale && !mayReturn(sale) ? 'SOLD_OUT' : 'NONE_LEFT_NOW';
}

function isAs(sale: Sale, patch: SalePatch): boolean {
  const { defaultLimit, requireToken, admitRate } = { ...sale, ...patch };
  return defaultLimit === sale.defaultLimit && requireToken === sale.requireToken && admitRate === sale.admitRate;
}

function versionConflict(itemId: bigint, version: bigint) {
  return saleVersionConflict(`it is at version ${version}`, {
    metadata: { item_id: String(itemId), version: String(version) },
  });
}

function ifAway(err: unknown): undefined {
  if (!isSaleUnavailable(err) && !isUnavailable(err)) throw err;
}

function closed(sale: Sale) {
  return saleStatusConflict(`the sale of item ${sale.itemId} is closed`, {
    metadata: { item_id: String(sale.itemId), status: sale.status },
  });
}
