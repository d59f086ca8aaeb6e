import { invalidArgument } from '../../gen/common/v1/errors.js';
import {
  isSaleUnavailable,
  saleExists,
  saleNotFound,
  saleStatusConflict,
  saleUnavailable,
} from '../../gen/seckill/v1/errors.js';
import type { Admission } from './admission.js';
import type { IdGenerator } from './id-generator.js';
import { type Page, type PageRequest, pageOf } from './page.js';
import type { ProductUsecase } from './product.js';
import { belongsTo, type PurchaseStream, parseEntry } from './purchase-stream.js';
import type { PayMode, Sale, SaleRepo, SaleStatus } from './sale-state.js';
import type { TransactionRunner } from './transaction.js';

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
}

/** A sale and what admission knows of it. */
export interface SaleView {
  readonly sale: Sale;
  /** Units that admission can still give out; 0 while it is not open. */
  readonly remaining: bigint;
  /** The clock that the window is judged by. */
  readonly serverTime: Date;
}

export interface SalePolicy {
  /** How long a buyer has to pay where the sale does not say. */
  readonly payTimeoutMs: number;
  /** Entries a sale's stream may hold before admission closes. */
  readonly backlogLimit: number;
}

/*
 * SCHEDULED → OPEN    open(): a new epoch in PostgreSQL, then admission is loaded under it
 * OPEN      → OPEN    open() again: nothing where admission has the sale's epoch, else a new epoch and a new load
 * SCHEDULED, OPEN → CLOSED  close(): PostgreSQL first, then admission. What was admitted still becomes orders
 *
 * A load: admission is shut, so that the stream gets no further entry of an older epoch; the stream's waiting entries
 * are read; one transaction takes the next epoch and reads, under the sale's lock, what is sold and which of those
 * entries have their outcome; total - sold - waiting is what admission may give out. Units that come back before that
 * transaction carry an older epoch and are part of `sold`; those after it carry the new one.
 */
export class SaleUsecase {
  constructor(
    private readonly transactions: TransactionRunner,
    private readonly ids: IdGenerator,
    private readonly products: ProductUsecase,
    private readonly sales: SaleRepo,
    private readonly admission: Admission,
    private readonly stream: PurchaseStream,
    private readonly policy: SalePolicy,
  ) {}

  /** @throws PRODUCT_NOT_FOUND, SALE_EXISTS, INVALID_ARGUMENT window */
  async create(wanted: CreateSale): Promise<SaleView> {
    const item = await this.products.get(wanted.itemId);
    const startsAt = wanted.startsAt ?? new Date();
    if (wanted.endsAt !== undefined && wanted.endsAt <= startsAt) {
      throw invalidArgument('ends_at must be after starts_at', {
        violations: [{ field: 'ends_at', description: 'must be after starts_at' }],
      });
    }
    const sale = await this.sales.insert({
      id: this.ids.nextId(),
      itemId: item.id,
      name: wanted.name === '' ? item.name : wanted.name,
      startsAt,
      endsAt: wanted.endsAt,
      total: wanted.total,
      priceFen: wanted.priceFen ?? item.priceFen,
      payMode: wanted.payMode,
      payTimeoutMs: wanted.payTimeoutMs ?? this.policy.payTimeoutMs,
      defaultLimit: wanted.defaultLimit ?? 1,
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
    const state = sale.status === 'OPEN' ? await this.admission.state(itemId) : undefined;
    if (state !== undefined && state.epoch === sale.epoch) return this.viewOf(sale);
    await this.load(itemId);
    return this.get(itemId);
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
   * Makes admission's state from PostgreSQL's, under a new epoch.
   * @throws SALE_UNAVAILABLE, also while somebody else loads it; SALE_STATUS_CONFLICT
   */
  async load(itemId: bigint): Promise<void> {
    const release = await this.admission.reserveLoad(itemId);
    if (!release) throw saleUnavailable(`the sale of item ${itemId} is being loaded; try again shortly`);
    try {
      await this.admission.shut(itemId);
      const waiting = await this.stream.waiting(itemId);
      const { sale, snapshot } = await this.transactions.run(async (tx) => {
        const live = await this.sales.lockLive(tx, itemId);
        if (!live) throw closed(await this.current(itemId));
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

  private async current(itemId: bigint): Promise<Sale> {
    const sale = await this.sales.findCurrent(itemId);
    if (!sale) throw saleNotFound(`item ${itemId} has no sale`, { metadata: { item_id: String(itemId) } });
    return sale;
  }

  private async viewOf(sale: Sale): Promise<SaleView> {
    // A sale can be looked at while admission is away.
    const state = sale.status === 'OPEN' ? await this.admission.state(sale.itemId).catch(ifAway) : undefined;
    const known = state !== undefined && state.epoch === sale.epoch;
    return { sale, remaining: known ? state.remaining : 0n, serverTime: state?.now ?? new Date() };
  }
}

function ifAway(err: unknown): undefined {
  if (!isSaleUnavailable(err)) throw err;
}

function closed(sale: Sale) {
  return saleStatusConflict(`the sale of item ${sale.itemId} is closed`, {
    metadata: { item_id: String(sale.itemId), status: sale.status },
  });
}
