import { isSaleStatusConflict } from '../../../gen/seckill/v1/errors.js';
import type { Admission } from './admission.js';
import type { SaleUsecase } from './sale.js';
import {
  type Drift,
  type DriftKind,
  DriftLog,
  driftOf,
  isStillOpen,
  needsLoad,
  type SaleUnitsComparison,
} from './sale-drift.js';
import type { LoadResult, SaleLoader } from './sale-load.js';
import type { ClosedSale, Sale, SaleRepo } from './sale-state.js';
import type { SaleStock } from './sale-stock.js';

/** What a round of `reconcile` did. */
export interface ReconcileResult {
  readonly opened: number;
  readonly closed: number;
  /** Closed sales of goods whose unsold units went back to their sku. */
  readonly released: number;
  /** Sales that were loaded anew, with what was wrong. */
  readonly reloaded: readonly ItemDrift[];
  /** Units that went from one segment of a sale to another. */
  readonly spread: bigint;
  /** Sales whose admission was told of settings, or of the end, that it had missed. */
  readonly propagated: number;
  /** Items that another process was loading. */
  readonly leased: readonly bigint[];
  /** Differences that were found and are not mended yet. */
  readonly drifts: readonly ItemDrift[];
  /** Sales that differ as far as this replica knows, by kind. */
  readonly drifting: ReadonlyMap<DriftKind, number>;
  /** itemId undefined: of no single sale. */
  readonly failures: readonly { readonly itemId: bigint | undefined; readonly cause: unknown }[];
}

export interface ItemDrift extends Drift {
  readonly itemId: bigint;
}

/** How long before its time a sale is opened, so that its first buyers find it open; the window keeps them out. */
const OPEN_LEAD_MS = 5_000;
/** Sales that are worked on side by side, so that a slow one holds up no other. */
const SIDE_BY_SIDE = 16;
/** Rounds in a row after which a difference is no delay but damage: then the sale is loaded anew. */
const PERSISTENT_ROUNDS = 3;
/** Sales whose units are counted in one round; all of them in turn. */
const COUNTED_PER_ROUND = 20;
/** A sale's units are counted in one of so many rounds, unless they differed the last time. */
const COUNT_EVERY = 4;

const BY_STATE: ReadonlySet<DriftKind> = new Set<DriftKind>([
  'UNREADABLE',
  'NOT_LOADED',
  'STREAM_EXHAUSTED',
  'SETTINGS',
  'LIMIT',
  'ADMIT_RATE',
  'WINDOW',
  'TOTAL',
  'NOT_CLOSED',
]);
const BY_COUNT: ReadonlySet<DriftKind> = new Set<DriftKind>(['BALANCE', 'BUYERS']);

type Round = { -readonly [K in 'opened' | 'closed' | 'released' | 'propagated']: number } & {
  spread: bigint;
  readonly reloaded: ItemDrift[];
  readonly leased: bigint[];
  readonly drifts: ItemDrift[];
  readonly failures: { readonly itemId: bigint | undefined; readonly cause: unknown }[];
};

/**
 * What happens to sales by themselves. Any number of these may run side by side: what one has done the others find done,
 * and a load has one holder at a time. Each sale is looked at by itself, so that one that fails stops no other.
 */
export class SaleSchedule {
  private readonly log = new DriftLog();
  /** Of the sale that was counted last. */
  private countedId = 0n;

  constructor(
    private readonly sales: SaleUsecase,
    private readonly repo: SaleRepo,
    private readonly stock: SaleStock,
    private readonly admission: Admission,
    private readonly loader: SaleLoader,
    private readonly units: SaleUnitsComparison,
  ) {}

  /**
   * Opens what is due, closes what is over, and brings admission back to what PostgreSQL has.
   * @throws UNAVAILABLE when the database is away
   */
  async reconcile(): Promise<ReconcileResult> {
    const round: Round = {
      ...{ opened: 0, closed: 0, released: 0, propagated: 0, spread: 0n },
      ...{ reloaded: [], leased: [], drifts: [], failures: [] },
    };
    const due = await this.repo.findDue(OPEN_LEAD_MS);
    this.log.retain(new Set([...due.open, ...due.closed].map((s) => s.id)));
    await this.forEach(round, due.toClose, async ({ itemId }) => {
      if (await this.sales.closeIfOver(itemId)) round.closed++;
    });
    await this.forEach(round, due.closed, (sale) => this.enforceClose(sale, round));
    await this.forEach(round, await this.stock.unreleased(), async (sale) => {
      if (await this.stock.release(sale)) round.released++;
    });
    await this.forEach(round, due.toOpen, async ({ itemId }) => {
      if (this.took(await this.loader.ensureLoaded(itemId), itemId, round)) round.opened++;
    });
    await this.checkOpen(due.open, round);
    return { ...round, drifting: this.log.counts() };
  }

  private async checkOpen(open: readonly Sale[], round: Round): Promise<void> {
    if (open.length === 0) return;
    try {
      await this.admission.ping();
    } catch (cause) {
      // Redis is away, so none of them can be looked at.
      round.failures.push({ itemId: undefined, cause });
      return;
    }
    const toCount = this.chooseToCount(open);
    await this.forEach(round, open, async (sale) => {
      if (await this.checkState(sale, round)) return;
      if (sale.segments > 1) round.spread += await this.admission.spread(sale);
      if (toCount.has(sale.id)) await this.countUnits(sale, round);
    });
  }

  /** @returns whether the sale was found wanting, so that there is no use in counting its units */
  private async checkState(sale: Sale, round: Round): Promise<boolean> {
    const state = await this.admission.state(sale.itemId, sale.segments);
    const drifts = driftOf(sale, state);
    const rounds = this.log.note(sale.id, BY_STATE, drifts);
    const [first] = drifts;
    if (!first) return false;
    if (needsLoad(drifts, state)) await this.reload(sale, first, round, () => this.loader.ensureLoaded(sale.itemId));
    else if (first.kind === 'SETTINGS') {
      if (await this.loader.propagate(sale.itemId)) round.propagated++;
      else round.drifts.push({ itemId: sale.itemId, ...first });
    } else if (first.kind !== 'STREAM_EXHAUSTED' && rounds >= PERSISTENT_ROUNDS) await this.replace(sale, first, round);
    else round.drifts.push(...drifts.map((d) => ({ itemId: sale.itemId, ...d })));
    return true;
  }

  private async countUnits(sale: Sale, round: Round): Promise<void> {
    const drifts = await this.units.drift(sale);
    if (!drifts) return;
    const rounds = this.log.note(sale.id, BY_COUNT, drifts);
    const [first] = drifts;
    if (!first) return;
    if (rounds >= PERSISTENT_ROUNDS) await this.replace(sale, first, round);
    else round.drifts.push(...drifts.map((d) => ({ itemId: sale.itemId, ...d })));
  }

  /** Loads a sale whose difference persists, unless another process has done so since it was looked at. */
  private replace(sale: Sale, drift: Drift, round: Round): Promise<void> {
    return this.reload(sale, drift, round, () =>
      this.loader.load(sale.itemId, async () => {
        const { loaded } = await this.admission.state(sale.itemId, sale.segments);
        return loaded?.epoch === sale.epoch;
      }),
    );
  }

  private async reload(
    { id, itemId }: Sale,
    drift: Drift,
    round: Round,
    load: () => Promise<LoadResult | 'THERE'>,
  ): Promise<void> {
    const result = await load();
    if (this.took(result, itemId, round)) round.reloaded.push({ itemId, ...drift });
    if (result === 'LEASED') round.drifts.push({ itemId, ...drift });
    else this.log.forget(id);
  }

  private async enforceClose(sale: ClosedSale, round: Round): Promise<void> {
    const isOpen = isStillOpen(sale, await this.admission.state(sale.itemId, sale.segments));
    const drift: Drift = { kind: 'NOT_CLOSED', detail: 'it is closed in PostgreSQL, and Redis admits to it' };
    const isMissed = isOpen && sale.confirmed;
    this.log.note(sale.id, BY_STATE, isMissed ? [drift] : []);
    if (!isOpen && sale.confirmed) return;
    await this.loader.close(sale);
    round.propagated++;
  }

  private took(result: LoadResult | 'THERE', itemId: bigint, round: Round): boolean {
    if (result === 'LEASED') round.leased.push(itemId);
    return result === 'LOADED';
  }

  /** A share of the sales in turn, and those whose units differed the last time. */
  private chooseToCount(open: readonly Sale[]): ReadonlySet<bigint> {
    const inOrder = [...open].sort((a, b) => (a.id < b.id ? -1 : 1));
    const next = [...inOrder.filter((s) => s.id > this.countedId), ...inOrder.filter((s) => s.id <= this.countedId)];
    const share = next.slice(0, Math.min(COUNTED_PER_ROUND, Math.ceil(open.length / COUNT_EVERY)));
    this.countedId = share.at(-1)?.id ?? 0n;
    const suspects = open.filter((s) => this.log.has(s.id, BY_COUNT)).slice(0, COUNTED_PER_ROUND);
    return new Set([...share, ...suspects].map((s) => s.id));
  }

  private async forEach<S extends Sale>(
    round: Round,
    sales: readonly S[],
    work: (sale: S) => Promise<void>,
  ): Promise<void> {
    const queue = [...sales];
    const lane = async () => {
      for (let sale = queue.shift(); sale !== undefined; sale = queue.shift()) {
        try {
          await work(sale);
        } catch (cause) {
          // Closed by another process since it was looked at.
          if (!isSaleStatusConflict(cause)) round.failures.push({ itemId: sale.itemId, cause });
        }
      }
    };
    await Promise.all(Array.from({ length: Math.min(SIDE_BY_SIDE, sales.length) }, lane));
  }
}
