import type { Admission, AdmissionState, LoadedSale } from './admission.js';
import { outcomeIdsOf, type PurchaseStream } from './purchase-stream.js';
import type { SaleAccounts } from './sale-account.js';
import { type ExplainedDifference, explainedBy } from './sale-balance.js';
import type { Sale } from './sale-state.js';

/** How admission differs from PostgreSQL. */
export type DriftKind =
  /** A key holds something else than it should. */
  | 'UNREADABLE'
  /** Not loaded, under another epoch, or on another server than the one that was loaded. */
  | 'NOT_LOADED'
  /** The stream takes no further entry. */
  | 'STREAM_EXHAUSTED'
  /** Admission was not told of all changes yet. */
  | 'SETTINGS'
  | 'LIMIT'
  | 'ADMIT_RATE'
  | 'WINDOW'
  | 'TOTAL'
  /** Units in Redis, sold and waiting do not make the total. */
  | 'BALANCE'
  /** A user's units differ. */
  | 'BUYERS'
  /** The sale is closed, and admission is not. */
  | 'NOT_CLOSED';

export interface Drift {
  readonly kind: DriftKind;
  readonly detail: string;
}

/** Of each side, at each comparison. */
const SAMPLED_BUYERS = 50;
/** With more entries than this a sale is too busy to be counted. */
const MAX_BACKLOG = 2_000;

/** What is wrong with the admission of an open sale, as far as its state and the sale tell. */
export function driftOf(sale: Sale, state: AdmissionState): readonly Drift[] {
  if (state.unreadable.length > 0) {
    return [{ kind: 'UNREADABLE', detail: `Redis holds something else as ${state.unreadable.join(', ')}` }];
  }
  const { loaded } = state;
  if (!loaded) return [{ kind: 'NOT_LOADED', detail: 'Redis does not have it' }];
  if (loaded.epoch !== sale.epoch) {
    return [{ kind: 'NOT_LOADED', detail: `Redis has epoch ${loaded.epoch}, not ${sale.epoch}` }];
  }
  if (loaded.server !== state.server) return [{ kind: 'NOT_LOADED', detail: 'another Redis server took over' }];
  const drifts: Drift[] = [];
  if (state.streamExhausted) drifts.push({ kind: 'STREAM_EXHAUSTED', detail: 'the greatest stream id is used' });
  if (loaded.settingsVersion < sale.settingsVersion) {
    const detail = `Redis has settings ${loaded.settingsVersion}, not ${sale.settingsVersion}`;
    drifts.push({ kind: 'SETTINGS', detail });
  } else drifts.push(...settingsDrift(sale, loaded));
  return drifts;
}

/** Whether only a load can mend it. An exhausted stream is replaced as soon as it is empty. */
export function needsLoad(drifts: readonly Drift[], { backlog }: AdmissionState): boolean {
  return drifts.some(
    ({ kind }) => kind === 'UNREADABLE' || kind === 'NOT_LOADED' || (kind === 'STREAM_EXHAUSTED' && backlog === 0),
  );
}

/** Settings that differ although admission was told of them. */
export function settingsDrift(sale: Sale, loaded: LoadedSale): readonly Drift[] {
  const drifts: Drift[] = [];
  const compare = (kind: DriftKind, name: string, has: unknown, wanted: unknown) => {
    if (has !== wanted) drifts.push({ kind, detail: `${name} is ${has} in Redis, ${wanted} in PostgreSQL` });
  };
  compare('LIMIT', 'the limit', loaded.defaultLimit, sale.defaultLimit);
  compare('ADMIT_RATE', 'the admit rate', loaded.admitRate, sale.admitRate);
  compare('TOTAL', 'the total', loaded.total, sale.total);
  compare('WINDOW', 'the start', loaded.startsAt.toISOString(), sale.startsAt.toISOString());
  compare('WINDOW', 'the end', loaded.endsAt?.toISOString(), sale.endsAt?.toISOString());
  return drifts;
}

/** Whether a closed sale still admits: under one of its epochs, or with keys that tell nothing. */
export function isStillOpen(sale: Sale, { admitting }: AdmissionState): boolean {
  return admitting.some((epoch) => sale.firstEpoch <= epoch && epoch <= sale.epoch);
}

/** Counts the units of open sales in Redis and in PostgreSQL. */
export class SaleUnitsComparison {
  /** By sale: the last buyer of the last sample, so that all of them come to be compared. */
  private readonly sampledTo = new Map<bigint, string>();

  constructor(
    private readonly admission: Admission,
    private readonly stream: PurchaseStream,
    private readonly accounts: SaleAccounts,
  ) {}

  /**
   * Compares "Redis + sold + waiting" with the total, and some buyers' units.
   * @returns undefined where the sale sells so fast that the two sides cannot be read at one moment
   * @throws SALE_UNAVAILABLE, UNAVAILABLE
   */
  async drift(sale: Sale): Promise<readonly Drift[] | undefined> {
    const { itemId, segments } = sale;
    const before = await this.admission.state(itemId, segments);
    const { loaded } = before;
    if (loaded?.epoch !== sale.epoch || before.backlog > MAX_BACKLOG) return undefined;
    const entries = await this.stream.waiting(itemId, segments);
    const sampled = await this.admission.sampleBuyers(itemId, SAMPLED_BUYERS, segments);
    const account = await this.accounts.read({
      saleId: sale.id,
      streamIds: entries.flatMap(outcomeIdsOf),
      userIds: [...sampled.keys()],
      sample: SAMPLED_BUYERS,
      sampleAfter: this.sampledTo.get(sale.id),
    });
    if (account?.sale.epoch !== sale.epoch || account.sale.total !== loaded.total) return undefined;
    if (account.lastSampled === undefined) this.sampledTo.delete(sale.id);
    else this.sampledTo.set(sale.id, account.lastSampled);
    const [units, returned, after] = await Promise.all([
      this.admission.unitsOf(itemId, [...account.buyers.keys()], segments),
      this.admission.findReturned(
        itemId,
        account.returns.map((r) => r.returnId),
        segments,
      ),
      this.admission.state(itemId, segments),
    ]);
    if (after.mark !== before.mark) return undefined;
    const { epoch, stock, counted } = loaded;
    const explained: ExplainedDifference[] = [
      ...explainedBy(account.sale, { epoch, stock, counted, entries }, account.outcomes),
      ...account.returns
        .filter((r) => !returned.has(r.returnId))
        .map(({ userId, quantity }) => ({ userId, stockUnits: quantity, buyerUnits: quantity })),
    ];
    return [...balanceDrift(account.sale, stock, explained), ...buyersDrift(account.buyers, units, explained)];
  }
}

function balanceDrift({ total, sold }: Sale, stock: bigint, explained: readonly ExplainedDifference[]): Drift[] {
  const waiting = explained.reduce((sum, e) => sum + BigInt(e.stockUnits), 0n);
  const sum = stock + sold + waiting;
  if (sum === total) return [];
  const detail = `${stock} in Redis, ${sold} sold, ${waiting} waiting or being returned: ${sum} of ${total}`;
  return [{ kind: 'BALANCE', detail }];
}

function buyersDrift(
  live: ReadonlyMap<string, number>,
  inRedis: ReadonlyMap<string, number>,
  explained: readonly ExplainedDifference[],
): Drift[] {
  const difference = new Map<string, number>();
  for (const { userId, buyerUnits } of explained) {
    difference.set(userId, (difference.get(userId) ?? 0) + buyerUnits);
  }
  const wrong = [...live].filter(([user, units]) => (inRedis.get(user) ?? 0) !== units + (difference.get(user) ?? 0));
  const [first] = wrong;
  if (!first) return [];
  const [user, units] = first;
  const wanted = units + (difference.get(user) ?? 0);
  const detail = `user ${user} has ${inRedis.get(user) ?? 0} units in Redis, ${wanted} by orders and entries`;
  return [{ kind: 'BUYERS', detail: wrong.length === 1 ? detail : `${detail}; ${wrong.length} users of the sample` }];
}

/** How often in a row each sale differed in the same way. */
export class DriftLog {
  private readonly series = new Map<bigint, ReadonlyMap<DriftKind, number>>();

  /**
   * @param compared what was compared; other kinds keep their count
   * @returns the longest series of those that differ now
   */
  note(saleId: bigint, compared: ReadonlySet<DriftKind>, drifts: readonly Drift[]): number {
    const differing = new Set(drifts.map((d) => d.kind));
    const before = this.series.get(saleId) ?? new Map<DriftKind, number>();
    const now = new Map([...before].filter(([kind]) => !compared.has(kind)));
    for (const kind of differing) now.set(kind, (before.get(kind) ?? 0) + 1);
    if (now.size === 0) this.series.delete(saleId);
    else this.series.set(saleId, now);
    return Math.max(0, ...[...differing].map((kind) => now.get(kind) ?? 0));
  }

  has(saleId: bigint, kinds: ReadonlySet<DriftKind>): boolean {
    return [...(this.series.get(saleId)?.keys() ?? [])].some((kind) => kinds.has(kind));
  }

  /** Sales that differ, by kind. */
  counts(): ReadonlyMap<DriftKind, number> {
    const counts = new Map<DriftKind, number>();
    for (const kinds of this.series.values()) {
      for (const kind of kinds.keys()) counts.set(kind, (counts.get(kind) ?? 0) + 1);
    }
    return counts;
  }

  forget(saleId: bigint): void {
    this.series.delete(saleId);
  }

  /** Forgets all other sales. */
  retain(saleIds: ReadonlySet<bigint>): void {
    for (const saleId of this.series.keys()) if (!saleIds.has(saleId)) this.series.delete(saleId);
  }
}
