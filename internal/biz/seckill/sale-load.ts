import { isUnavailable } from '../../../gen/common/v1/errors.js';
import { isSaleUnavailable, saleStatusConflict, saleUnavailable } from '../../../gen/seckill/v1/errors.js';
import type { TransactionRunner } from '../transaction.js';
import type { Admission, CountedEntries, LoadLease } from './admission.js';
import { belongsTo, type PurchaseStream, parseEntry, reusedStreamId, type StreamEntry } from './purchase-stream.js';
import { driftOf, needsLoad } from './sale-drift.js';
import type { Sale, SalePolicy, SaleRepo } from './sale-state.js';
import { segmentOf, segmentsOf } from './segment.js';
import type { VipLimitRepo } from './vip-limit.js';

/** VIP limits of one call of `configure`. */
const LIMITS_PER_CALL = 1_000;
/** Tries to tell admission of changed settings while others tell it, too. */
const PROPAGATE_ATTEMPTS = 10;

/** LEASED: another process loads the sale at this moment. SUPERSEDED: a later load or a close came first. */
export type LoadResult = 'LOADED' | 'LEASED' | 'SUPERSEDED';

/*
 * Brings admission to what PostgreSQL says of a sale, in three ways. Each starts from what is committed, so any of them may
 * be repeated, and may fail at any point: the schedule compares the two sides and begins anew.
 *
 *   load       all of it, under a new epoch
 *   propagate  the settings that changed since the version that admission has
 *   close      the end; it outlasts loads that are under way
 *
 * A load: admission is suspended, so that the stream gets no further entry of an older epoch; the stream's waiting entries
 * are read; one transaction takes the next epoch and reads, under the sale's lock, what is sold and which of those
 * entries have their outcome; total - sold - waiting is what admission may give out. Units that come back before that
 * transaction carry an older epoch and are part of `sold`; those after it carry the new one.
 */
export class SaleLoader {
  constructor(
    private readonly transactions: TransactionRunner,
    private readonly sales: SaleRepo,
    private readonly vipLimits: VipLimitRepo,
    private readonly admission: Admission,
    private readonly stream: PurchaseStream,
    private readonly policy: SalePolicy,
  ) {}

  /**
   * Loads the sale where admission does not have it, or not in a state that it can work with.
   * @throws SALE_UNAVAILABLE, SALE_STATUS_CONFLICT when the item has no live sale
   */
  async ensureLoaded(itemId: bigint): Promise<LoadResult | 'THERE'> {
    if (await this.isLoaded(itemId)) return 'THERE';
    return this.load(itemId, async () => !(await this.isLoaded(itemId)));
  }

  /**
   * Makes admission's state from PostgreSQL's, under a new epoch.
   * @param isNeeded asked once no other process can load the sale; false: a load meanwhile made this one needless
   * @throws SALE_UNAVAILABLE, SALE_STATUS_CONFLICT when the item has no live sale
   */
  async load(itemId: bigint, isNeeded: () => Promise<boolean> = async () => true): Promise<LoadResult> {
    const segments = (await this.sales.findCurrent(itemId))?.segments ?? 1;
    const lease = await this.admission.leaseLoad(itemId, segments);
    if (!lease) return 'LEASED';
    try {
      return (await isNeeded()) ? await this.loadLeased(itemId, segments, lease) : 'SUPERSEDED';
    } finally {
      await lease.release();
    }
  }

  /**
   * Tells admission what changed of a sale's settings since it was last told.
   * @returns whether admission has the current settings now; false where it has not loaded the sale, and a load brings them
   * @throws SALE_UNAVAILABLE
   */
  async propagate(itemId: bigint): Promise<boolean> {
    for (let attempt = 0; attempt < PROPAGATE_ATTEMPTS; attempt++) {
      const segments = (await this.sales.findCurrent(itemId))?.segments;
      const { loaded } = await this.admission.state(itemId, segments);
      // Read after admission's version, so that it is not older than what another process told meanwhile.
      const sale = await this.sales.findCurrent(itemId);
      if (sale?.status !== 'OPEN' || loaded?.epoch !== sale.epoch) return false;
      const from = loaded.settingsVersion;
      if (from >= sale.settingsVersion) return true;
      const { vipLimits, upTo } = await this.vipLimits.findChanged(sale, from, LIMITS_PER_CALL);
      const { total, endsAt, defaultLimit, admitRate } = sale;
      // Where another process was faster, its version is the one to start from.
      const change = { from, to: upTo, total, endsAt, defaultLimit, admitRate, vipLimits };
      if ((await this.admission.configure(sale, change)) && upTo >= sale.settingsVersion) return true;
    }
    return false;
  }

  /** Ends admission of a closed sale. @throws SALE_UNAVAILABLE */
  async close(sale: Sale): Promise<void> {
    if (sale.epoch === 0n) return;
    await this.admission.close(sale);
    await this.sales.confirmClosed(sale.id);
  }

  private async isLoaded(itemId: bigint): Promise<boolean> {
    const sale = await this.sales.findCurrent(itemId);
    if (sale?.status !== 'OPEN') return false;
    const state = await this.admission.state(itemId, sale.segments);
    return !needsLoad(driftOf(sale, state), state);
  }

  private async loadLeased(itemId: bigint, segments: number, lease: LoadLease): Promise<LoadResult> {
    await lease.suspend();
    const entries = await this.stream.waiting(itemId, segments);
    const opened = await this.transactions.run(async (tx) => {
      const live = await this.sales.lockLive(tx, itemId);
      if (!live) return undefined;
      if (live.segments !== segments) throw saleUnavailable(`item ${itemId} has another sale now; try again`);
      const sale = await this.sales.open(tx, live.id);
      const ids = entries.map((e) => e.streamId);
      const snapshot = await this.sales.snapshot(tx, sale, ids);
      // An outcome of another user is that of another purchase: the stream id was given twice.
      const reused = entries.flatMap((entry) => {
        const purchase = parseEntry(entry);
        const { streamId } = entry;
        const isOther = purchase.kind === 'purchase' && snapshot.settled.get(streamId) !== purchase.userId;
        return isOther && snapshot.settled.has(streamId) ? [reusedStreamId(streamId, purchase.userId)] : [];
      });
      const settledAgain = reused.length > 0 ? (await this.sales.snapshot(tx, sale, reused)).settled : undefined;
      return { sale, snapshot, settledAgain };
    });
    if (!opened) throw notLive(itemId);
    const { sale, snapshot, settledAgain } = opened;
    const buyers = new Map(snapshot.buyers.map((b) => [b.userId, b.units]));
    let stock = sale.total - sale.sold;
    for (const entry of entries) {
      const purchase = parseEntry(entry);
      if (purchase.kind === 'malformed' || !belongsTo(purchase, sale)) continue;
      if (snapshot.settled.get(entry.streamId) === purchase.userId) continue;
      if (settledAgain?.has(reusedStreamId(entry.streamId, purchase.userId))) continue;
      stock -= BigInt(purchase.quantity);
      buyers.set(purchase.userId, (buyers.get(purchase.userId) ?? 0) + purchase.quantity);
    }
    const { vipLimits } = snapshot;
    const { backlogLimit } = this.policy;
    const loaded = await lease.load({
      sale,
      stock,
      counted: rangesOf(entries, segments),
      buyers,
      vipLimits,
      backlogLimit,
    });
    if (loaded === 'LOADED') await this.closeIfOver(sale);
    return loaded === 'LOADED' ? 'LOADED' : 'SUPERSEDED';
  }

  /** The sale may have been closed since its epoch was taken, and Redis may have lost the marker that says so. */
  private async closeIfOver(sale: Sale): Promise<void> {
    const now = await this.sales.findCurrent(sale.itemId);
    if (now?.id !== sale.id || now.status === 'CLOSED') await this.admission.close(sale);
  }
}

/** What entries that are read in the order of their ids span in each segment. */
function rangesOf(entries: readonly StreamEntry[], segments: number): readonly CountedEntries[] {
  return segmentsOf(segments).map((segment) => {
    const ids = entries.flatMap(({ streamId }) => (segmentOf(streamId) === segment ? [streamId] : []));
    return { from: ids[0] ?? '0-0', to: ids.at(-1) ?? '0-0' };
  });
}

function notLive(itemId: bigint) {
  return saleStatusConflict(`the sale of item ${itemId} is closed`, {
    metadata: { item_id: String(itemId), status: 'CLOSED' },
  });
}

/** Swallows that a server is away, where the work is repeated later. */
export function ifAway(err: unknown): undefined {
  if (!isSaleUnavailable(err) && !isUnavailable(err)) throw err;
}
