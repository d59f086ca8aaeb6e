import { setTimeout as sleep } from 'node:timers/promises';
import { invalidArgument } from '../../../gen/common/v1/errors.js';
import { productNotFound } from '../../../gen/product/v1/errors.js';
import {
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
import { checkChange, isAs, totalTooLow } from './sale-change.js';
import { ifAway, type SaleLoader } from './sale-load.js';
import type { PayMode, Sale, SalePatch, SalePolicy, SaleRepo, SaleStatus, SaleSummary } from './sale-state.js';
import type { SaleStock } from './sale-stock.js';
import type { VipLimitRepo } from './vip-limit.js';

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
  /** Users that the waiting room admits each second; 0: no waiting room. */
  readonly admitRate?: number;
  /** 1 to 64; undefined: 1. */
  readonly segments?: number;
}

/** Whether buyers get something now. */
export type Availability = 'NOT_STARTED' | 'AVAILABLE' | 'NONE_LEFT_NOW' | 'SOLD_OUT' | 'ENDED';

/** A sale and what admission knows of it. */
export interface SaleView {
  readonly sale: Sale;
  /** Units that admission can still give out, as far as it answers; 0 while it is not open. */
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

const NAME_MAX = 128;
/** How often a load by another process is looked at. */
const LOOK_INTERVAL_MS = 50;

/*
 * SCHEDULED → OPEN          open(), or the schedule a moment before starts_at: a new epoch, then admission is loaded under it
 * OPEN      → OPEN          open() again: nothing where admission has the sale's epoch, else a new epoch and a new load
 * SCHEDULED, OPEN → CLOSED  close(), or the schedule after ends_at: PostgreSQL first, then admission. What was admitted still
 *                           becomes orders; when it all has, a sale of goods gives its unsold units back to the sku
 *
 * What admission has to be told is told after the commit, and at once where Redis answers. Where it does not the call
 * succeeds all the same: the schedule compares the two sides and tells admission until it knows.
 */
export class SaleUsecase {
  constructor(
    private readonly transactions: TransactionRunner,
    private readonly ids: IdGenerator,
    private readonly items: ItemDirectory,
    private readonly sales: SaleRepo,
    private readonly vipLimits: VipLimitRepo,
    private readonly stock: SaleStock,
    private readonly admission: Admission,
    private readonly loader: SaleLoader,
    private readonly policy: SalePolicy,
  ) {}

  /**
   * Plans a sale; one of a sku takes its units out of the free stock at once.
   * @throws PRODUCT_NOT_FOUND, SALE_EXISTS, INVALID_ARGUMENT window, total beyond the free stock
   */
  async create(wanted: CreateSale): Promise<SaleView> {
    const item = await this.items.find(wanted.itemId);
    if (!item) {
      throw productNotFound(`no product, sku or content ${wanted.itemId}`, {
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
      segments: wanted.segments ?? 1,
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
   * @param waitMs how long to wait for another process that loads the sale, which the sale keeper does when a sale starts
   * @throws SALE_NOT_FOUND, SALE_STATUS_CONFLICT when it is closed, SALE_UNAVAILABLE when admission could not be loaded
   */
  async open(itemId: bigint, waitMs = 0): Promise<SaleView> {
    const sale = await this.current(itemId);
    if (sale.status === 'CLOSED') throw closed(sale);
    const giveUpAtMs = performance.now() + waitMs;
    while ((await this.loader.ensureLoaded(itemId)) === 'LEASED') {
      if (performance.now() >= giveUpAtMs) {
        throw saleUnavailable(`the sale of item ${itemId} is being loaded; try again shortly`);
      }
      await sleep(LOOK_INTERVAL_MS);
    }
    return this.get(itemId);
  }

  /**
   * Changes a sale that is not closed. Start and price are fixed once it is open. A sale of a sku takes more units out of
   * its free stock, and gives fewer back to it.
   * @throws SALE_NOT_FOUND, SALE_STATUS_CONFLICT when it is closed, SALE_VERSION_CONFLICT, INVALID_ARGUMENT window, total
   * beyond the free stock or below what is sold or being sold, SALE_UNAVAILABLE when a lower total cannot be agreed with
   * admission
   */
  async update(itemId: bigint, version: bigint, patch: SalePatch): Promise<SaleView> {
    const sale = await this.changeLive(itemId, async (tx, live) => {
      // Repeating a change whose reply was lost is no conflict.
      if (live.version !== version && isAs(live, patch)) return live;
      if (live.version !== version) throw versionConflict(itemId, live.version);
      return this.change(tx, live, patch);
    });
    if (sale.status === 'OPEN') await this.loader.propagate(itemId).catch(ifAway);
    return this.get(itemId);
  }

  private async change(tx: Transaction, live: Sale, patch: SalePatch): Promise<Sale> {
    checkChange(live, patch, new Date());
    const updated = await this.sales.update(tx, live.id, live.version, patch);
    if (!updated) throw versionConflict(live.itemId, live.version);
    if (live.orderType === 'GOODS') await this.stock.resize(tx, live, updated.total);
    // Last, so that hardly anything can fail between the two sides.
    if (live.status === 'OPEN' && updated.total < live.total) await this.withdraw(live, updated.total);
    return updated;
  }

  /** Takes units out of admission before they go, so that no purchase is admitted to them and rejected later. */
  private async withdraw(live: Sale, total: bigint): Promise<void> {
    const withdrawal = await this.admission.withdraw(live, total);
    if (withdrawal.kind === 'SHORT') {
      throw totalTooLow(live.total - (withdrawal.stock > 0n ? withdrawal.stock : 0n));
    }
    if (withdrawal.kind === 'OTHER') {
      throw saleUnavailable(`the sale of item ${live.itemId} is being loaded or told of a change; try again shortly`);
    }
  }

  /** The same as `update` throws. */
  async setVipLimit(wanted: SetVipLimit): Promise<VipLimitView> {
    const { itemId, userId, limit, version } = wanted;
    const sale = await this.changeLive(itemId, async (tx, live) => {
      if (await this.vipLimits.set(tx, { saleId: live.id, userId }, limit, version)) return live;
      const there = await this.vipLimits.find({ saleId: live.id, userId }, tx);
      if (there?.units !== limit) throw versionConflict(itemId, there?.version ?? 0n);
      return live;
    });
    if (sale.status === 'OPEN') await this.loader.propagate(itemId).catch(ifAway);
    return this.leftOf(sale, userId);
  }

  /** The VIP limits of the item's sale, in the order of their users' ids. @throws SALE_NOT_FOUND */
  async listVipLimits(itemId: bigint, page: PageRequest): Promise<Page<VipLimitView & { readonly userId: string }>> {
    const { id } = await this.current(itemId);
    const { items, total } = await this.vipLimits.list(id, pageOf(page));
    const views = items.map(({ userId, units, taken, version }) => {
      return { userId, limit: units, left: Math.max(0, units - taken), version };
    });
    return { items: views, total };
  }

  /** What a user may have of the item's sale. @throws SALE_NOT_FOUND */
  async limitOf(itemId: bigint, userId: string): Promise<VipLimitView> {
    return this.leftOf(await this.current(itemId), userId);
  }

  /** Ends admission for good; of a closed sale it changes nothing. @throws SALE_NOT_FOUND */
  async close(itemId: bigint): Promise<SaleView> {
    const sale = await this.closeLocked((tx) => this.sales.lockLive(tx, itemId));
    const ended = sale ?? (await this.current(itemId));
    await this.tellClosed(ended);
    return this.viewOf(ended);
  }

  /** Closes the item's sale if its end has passed: it may have been moved since. @returns whether it was closed now */
  async closeIfOver(itemId: bigint): Promise<boolean> {
    const sale = await this.closeLocked((tx) => this.sales.lockOver(tx, itemId));
    if (sale) await this.tellClosed(sale);
    return sale !== undefined;
  }

  private closeLocked(lock: (tx: Transaction) => Promise<Sale | undefined>): Promise<Sale | undefined> {
    return this.transactions.run(
      async (tx) => {
        const live = await lock(tx);
        return live && this.sales.close(tx, live.id);
      },
      { idempotent: true },
    );
  }

  private async tellClosed(sale: Sale): Promise<void> {
    await this.loader.close(sale).catch(ifAway);
    // Units that cannot be given back yet are looked at again by the schedule.
    if (sale.orderType === 'GOODS') await this.stock.release(sale).catch(ifAway);
  }

  /** @throws SALE_NOT_FOUND */
  async get(itemId: bigint): Promise<SaleView> {
    return this.viewOf(await this.current(itemId));
  }

  async list(page: PageRequest, status: SaleStatus | undefined): Promise<Page<SaleView>> {
    const { items, total } = await this.sales.list(pageOf(page), status);
    return { items: await Promise.all(items.map((sale) => this.viewOf(sale))), total };
  }

  private async leftOf(sale: Sale, userId: string): Promise<VipLimitView> {
    const own = await this.vipLimits.find({ saleId: sale.id, userId });
    const limit = own?.units ?? sale.defaultLimit;
    const taken = await this.sales.countUnits({ saleId: sale.id, userId });
    return { limit, left: Math.max(0, limit - taken), version: own?.version ?? 0n };
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

  private async current(itemId: bigint): Promise<SaleSummary> {
    const sale = await this.sales.findCurrent(itemId);
    if (!sale) throw saleNotFound(`item ${itemId} has no sale`, { metadata: { item_id: String(itemId) } });
    return sale;
  }

  private async viewOf(sale: Sale | SaleSummary): Promise<SaleView> {
    // A sale can be looked at while admission is away.
    const left = sale.status === 'OPEN' ? await this.admission.unitsLeft(sale).catch(ifAway) : undefined;
    const { units: remaining, now: serverTime, complete } = left ?? { units: 0n, now: new Date(), complete: false };
    const availability = availabilityOf(sale, complete, remaining, serverTime);
    return { sale, remaining, serverTime, availability };
  }
}

/** Whether units may come back to a sale whose units are all taken. */
export function mayReturn(sale: SaleSummary): boolean {
  return sale.sold < sale.total || sale.unpaid;
}

/** @param complete whether `remaining` counts all of the sale, without which it is not known to be sold out */
function availabilityOf(sale: Sale | SaleSummary, complete: boolean, remaining: bigint, now: Date): Availability {
  if (sale.status === 'CLOSED' || (sale.endsAt !== undefined && sale.endsAt <= now)) return 'ENDED';
  if (sale.status === 'SCHEDULED' || sale.startsAt > now) return 'NOT_STARTED';
  if (remaining > 0n) return 'AVAILABLE';
  return complete && 'unpaid' in sale && !mayReturn(sale) ? 'SOLD_OUT' : 'NONE_LEFT_NOW';
}

function versionConflict(itemId: bigint, version: bigint) {
  return saleVersionConflict(`it is at version ${version}`, {
    metadata: { item_id: String(itemId), version: String(version) },
  });
}

function closed(sale: Sale) {
  return saleStatusConflict(`the sale of item ${sale.itemId} is closed`, {
    metadata: { item_id: String(sale.itemId), status: sale.status },
  });
}
