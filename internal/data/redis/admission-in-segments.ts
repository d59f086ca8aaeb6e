import { isSaleUnavailable } from '../../../gen/seckill/v1/errors.js';
import { Batcher } from '../../biz/batcher.js';
import {
  Admission,
  type AdmissionResult,
  type AdmissionState,
  type EpochOfItem,
  type LoadLease,
  type PurchaseRequest,
  type SettingsChange,
  type UnitsLeft,
  type UnitsReturn,
  type Withdrawal,
} from '../../biz/seckill/admission.js';
import type { Sale } from '../../biz/seckill/sale-state.js';
import { homeSegment, segmentsOf, shareOf } from '../../biz/seckill/segment.js';
import type { Pace } from './pace.js';
import { MAX_BATCH, MAX_WAITING, SOLD_OUT_MS } from './segment-admission.js';
import { SegmentRefill } from './segment-refill.js';
import { askHomes, asOneState, isSold, partOf, UNCONFIRMED, unitsInAll } from './segmented-sale.js';
import { stockOf, type UnitMoves } from './unit-moves.js';
import { unitsLeft } from './units-left.js';

/** How long a look at a sale waits for segments that do not answer. */
const LOOK_MS = 300;
/** Number of idle segments whose refills are kept. */
const MAX_REFILLS = 10_000;

interface Refill {
  readonly epoch: bigint;
  readonly batcher: Batcher<PurchaseRequest, AdmissionResult>;
}

/** What a sale asks of one of its segments. */
export type Segment = Omit<Admission, 'unitsLeft' | 'spread'>;

/**
 * Admission to sales whose units lie in segments. A sale of one segment is that segment's; of a sale of several, each
 * segment has the users whose home it is, and what is asked of the sale is asked of all.
 */
export class AdmissionInSegments extends Admission {
  private readonly first: Segment;
  private readonly segments: Segment[];
  private readonly refill: SegmentRefill;
  private readonly refills = new Map<string, Refill>();
  /** By item: the epoch that is sold out, and by `pace.now()` until when that is known. */
  private readonly soldOut = new Map<bigint, { readonly epoch: bigint; readonly untilMs: number }>();

  constructor(
    private readonly newSegment: (segment: number) => Segment,
    private readonly moves: UnitMoves,
    private readonly pace: Pace,
  ) {
    super();
    this.first = newSegment(0);
    this.segments = [this.first];
    this.refill = new SegmentRefill(moves, pace);
  }

  override admit(sale: EpochOfItem, request: PurchaseRequest): Promise<AdmissionResult> {
    if ((sale.segments ?? 1) === 1) return this.first.admit(sale, request);
    return this.admitAtHome(sale, request);
  }

  override async admitAll(
    sale: EpochOfItem,
    requests: readonly PurchaseRequest[],
  ): Promise<readonly AdmissionResult[]> {
    const { segments = 1 } = sale;
    if (segments === 1) return this.first.admitAll(sale, requests);
    return askHomes(requests, segments, (home, own) => this.admitAllAtHome(sale, home, own));
  }

  override async findAdmitted(
    itemId: bigint,
    requests: readonly PurchaseRequest[],
    segments = 1,
  ): Promise<readonly AdmissionResult[]> {
    if (segments === 1) return this.first.findAdmitted(itemId, requests);
    return askHomes(requests, segments, (home, own) => this.at(home).findAdmitted(itemId, own));
  }

  override async state(itemId: bigint, segments = 1): Promise<AdmissionState> {
    if (segments === 1) return this.first.state(itemId);
    const states = await this.each(segments, (segment) => segment.state(itemId));
    const epoch = states[0]?.loaded?.epoch;
    const sale = { itemId, epoch: epoch ?? 0n, segments };
    const levels = epoch === undefined ? undefined : await this.moves.levels(sale);
    const underWay = levels?.flatMap((level) => level.moves) ?? [];
    const arrived = await Promise.all(underWay.map((move) => this.moves.hasArrived(sale, move)));
    return asOneState(
      states,
      levels,
      underWay.filter((_, i) => !arrived[i]),
    );
  }

  override async unitsLeft(sale: EpochOfItem): Promise<UnitsLeft> {
    const { segments = 1, itemId, epoch } = sale;
    if (segments > 1)
      return unitsLeft(
        sale,
        segmentsOf(segments).map((k) => this.at(k)),
        this.moves,
        (work) => this.pace.waitFor(work, LOOK_MS),
      );
    const { now, loaded, unreadable } = await this.first.state(itemId);
    const isWhole = unreadable.length === 0 && loaded?.epoch === epoch;
    return { now, units: isWhole && loaded.stock > 0n ? loaded.stock : 0n, complete: isWhole };
  }

  override ping(): Promise<void> {
    return this.first.ping();
  }

  override async unitsOf(
    itemId: bigint,
    userIds: readonly string[],
    segments = 1,
  ): Promise<ReadonlyMap<string, number>> {
    if (segments === 1) return this.first.unitsOf(itemId, userIds);
    const counts = await this.each(segments, (segment) => segment.unitsOf(itemId, userIds));
    return new Map(userIds.map((userId) => [userId, unitsInAll(counts.map((count) => count.get(userId) ?? 0))]));
  }

  override async sampleBuyers(itemId: bigint, count: number, segments = 1): Promise<ReadonlyMap<string, number>> {
    if (segments === 1) return this.first.sampleBuyers(itemId, count);
    const each = Math.ceil(count / segments);
    const sampled = await this.each(segments, (segment) => segment.sampleBuyers(itemId, each));
    return this.unitsOf(itemId, [...new Set(sampled.flatMap((units) => [...units.keys()]))], segments);
  }

  override async findReturned(
    itemId: bigint,
    returnIds: readonly bigint[],
    segments = 1,
  ): Promise<ReadonlySet<bigint>> {
    const found = await this.each(segments, (segment) => segment.findReturned(itemId, returnIds));
    return new Set(found.flatMap((ids) => [...ids]));
  }

  override async configure(sale: EpochOfItem, change: SettingsChange): Promise<boolean> {
    const { segments = 1, itemId, epoch } = sale;
    if (segments === 1) return this.first.configure(sale, change);
    // One look for both: what is missing of the total is shared among the segments that the same look found behind.
    const states = await this.each(segments, (segment) => segment.state(itemId));
    const { loaded } = asOneState(states, undefined, []);
    if (loaded?.epoch !== epoch || loaded.settingsVersion !== change.from) return false;
    // Those that another caller was told of already keep what it gave them.
    const behind = states.flatMap(({ loaded: own }, k) => {
      return own && own.settingsVersion < change.to ? [{ segment: k, own }] : [];
    });
    const more = change.total - loaded.total;
    const applied = await Promise.all(
      behind.map(({ segment, own }, i) =>
        this.at(segment).configure(sale, {
          ...change,
          from: own.settingsVersion,
          total: own.total + shareOf(more, i, behind.length),
          vipLimits: change.vipLimits.filter((v) => homeSegment(v.userId, segments) === segment),
        }),
      ),
    );
    this.soldOut.delete(itemId);
    return applied.every((isApplied) => isApplied);
  }

  override async withdraw(sale: Sale, total: bigint): Promise<Withdrawal> {
    if (sale.segments === 1) return this.first.withdraw(sale, total);
    const { itemId, epoch, segments } = sale;
    // The sale is locked, so the totals of its segments stay as they are read, whatever its units do.
    const states = await this.each(segments, (segment) => segment.state(itemId));
    const parts = states.flatMap(({ loaded }, segment) => (loaded ? [{ ...loaded, segment }] : []));
    const isThis = parts.every((p) => p.epoch === epoch && p.settingsVersion === sale.settingsVersion);
    if (parts.length < segments || !isThis) return { kind: 'OTHER' };
    let less = parts.reduce((sum, p) => sum + p.total, 0n) - total;
    const withdrawn: typeof parts = [];
    const underWay = (await this.moves.levels(sale))?.flatMap((level) => level.moves) ?? [];
    await Promise.all(underWay.map((move) => this.moves.finish(sale, move)));
    for (let pass = 0; less > 0n && pass < 2; pass++) {
      for (const part of parts) {
        if (less <= 0n) break;
        const { stock = 0n, total: own = 0n } = (await this.at(part.segment).state(itemId)).loaded ?? {};
        const units = stock < less ? stock : less;
        if (units <= 0n) continue;
        const { kind } = await this.at(part.segment).withdraw(sale, own - units);
        if (kind !== 'WITHDRAWN') continue;
        withdrawn.push(part);
        less -= units;
      }
    }
    if (less < 0n) await this.at(0).withdraw(sale, parts[0]!.total - less);
    if (less <= 0n) return { kind: 'WITHDRAWN' };
    for (const part of withdrawn) await this.at(part.segment).withdraw(sale, part.total);
    const { loaded } = await this.state(itemId, segments);
    return loaded?.epoch === epoch ? { kind: 'SHORT', stock: loaded.stock } : { kind: 'OTHER' };
  }

  override async close(sale: EpochOfItem): Promise<void> {
    const { segments = 1 } = sale;
    if (segments === 1) return this.first.close(sale);
    // A segment whose server is away must not keep the others from closing.
    const closed = await Promise.allSettled(segmentsOf(segments).map((k) => this.at(k).close(sale)));
    for (const result of closed) if (result.status === 'rejected') throw result.reason;
  }

  override async returnUnits(units: UnitsReturn): Promise<boolean> {
    this.soldOut.delete(units.itemId);
    return this.at(homeSegment(units.userId, units.segments ?? 1)).returnUnits(units);
  }

  override async spread(sale: EpochOfItem): Promise<bigint> {
    const levels = await this.moves.levels(sale);
    if (!levels) return 0n;
    const underWay = levels.flatMap((level) => level.moves);
    await Promise.all(underWay.map((move) => this.moves.finish(sale, move)));
    const total = stockOf(levels);
    const even = total > 0n ? total / BigInt(levels.length) : 0n;
    // Segments that have less than half of their part, or less than nothing, get what others have too much of.
    const poor = levels
      .filter((l) => l.stock < 0n || l.stock < even / 2n)
      .map((l) => ({ ...l, wants: even - l.stock }));
    let moved = 0n;
    for (const { segment: from, stock } of levels.toSorted((a, b) => Number(b.stock - a.stock))) {
      let spare = stock - even;
      for (const to of poor) {
        const units = spare < to.wants ? spare : to.wants;
        if (units <= 0n) continue;
        const move = await this.moves.takeOut(sale, { from, to: to.segment, units });
        if (!move) break;
        await this.moves.finish(sale, move);
        spare -= move.units;
        to.wants -= move.units;
        moved += move.units;
      }
    }
    return moved;
  }

  override async leaseLoad(itemId: bigint, segments = 1): Promise<LoadLease | undefined> {
    if (segments === 1) return this.first.leaseLoad(itemId);
    const leases: LoadLease[] = [];
    const release = async () => {
      await Promise.all(leases.map((lease) => lease.release()));
    };
    try {
      // In their order, so that of two callers one gets all.
      for (const segment of segmentsOf(segments)) {
        const lease = await this.at(segment).leaseLoad(itemId);
        if (!lease) break;
        leases.push(lease);
      }
    } catch (err) {
      await release();
      throw err;
    }
    if (leases.length < segments) {
      await release();
      return undefined;
    }
    return {
      suspend: async () => {
        await Promise.all(leases.map((lease) => lease.suspend()));
      },
      load: async (state) => {
        const loaded = await Promise.all(leases.map((lease, segment) => lease.load(partOf(state, segment))));
        return loaded.find((result) => result !== 'LOADED') ?? 'LOADED';
      },
      release,
    };
  }

  private at(segment: number): Segment {
    for (let k = this.segments.length; k <= segment; k++) this.segments.push(this.newSegment(k));
    return this.segments[segment]!;
  }

  private each<T>(segments: number, work: (segment: Segment) => Promise<T>): Promise<T[]> {
    return Promise.all(segmentsOf(segments).map((k) => work(this.at(k))));
  }

  private async admitAtHome(sale: EpochOfItem, request: PurchaseRequest): Promise<AdmissionResult> {
    const home = homeSegment(request.userId, sale.segments ?? 1);
    const result = await this.at(home).admit(sale, request);
    if (result.kind !== 'SOLD_OUT' || this.isSoldOut(sale)) return result;
    return this.refillOf(sale, home).batcher.tryAdd(request) ?? { kind: 'BACKLOG_FULL' };
  }

  private async admitAllAtHome(
    sale: EpochOfItem,
    home: number,
    requests: readonly PurchaseRequest[],
  ): Promise<readonly AdmissionResult[]> {
    const results = [...(await this.at(home).admitAll(sale, requests))];
    const open = results.flatMap((result, i) => (result.kind === 'SOLD_OUT' ? [i] : []));
    if (open.length === 0 || this.isSoldOut(sale)) return results;
    const refilled = this.admitRefilled(
      sale,
      home,
      open.map((i) => requests[i]!),
    );
    const again = await refilled.catch((err: unknown) => {
      // Those that the units of the segment were enough for are admitted.
      if (!isSaleUnavailable(err) || open.length === requests.length) throw err;
      return undefined;
    });
    open.forEach((i, at) => {
      results[i] = again?.[at] ?? UNCONFIRMED;
    });
    return results;
  }

  private async admitRefilled(
    sale: EpochOfItem,
    home: number,
    requests: readonly PurchaseRequest[],
  ): Promise<readonly AdmissionResult[]> {
    const admission = this.at(home);
    const results = await this.refill.admit(sale, { segment: home, admission }, requests);
    if (isSold(requests, results)) {
      if (this.soldOut.size >= MAX_REFILLS) this.soldOut.clear();
      this.soldOut.set(sale.itemId, { epoch: sale.epoch, untilMs: this.pace.now() + SOLD_OUT_MS });
    }
    return results;
  }

  private isSoldOut({ itemId, epoch }: EpochOfItem): boolean {
    const known = this.soldOut.get(itemId);
    return known?.epoch === epoch && known.untilMs > this.pace.now();
  }

  /** Purchases of one home segment wait together for units of others. */
  private refillOf(sale: EpochOfItem, home: number): Refill {
    const key = `${sale.itemId}#${home}`;
    const known = this.refills.get(key);
    if (known?.epoch === sale.epoch) return known;
    if (this.refills.size >= MAX_REFILLS) {
      for (const [k, { batcher }] of this.refills) if (batcher.idle) this.refills.delete(k);
    }
    const refill: Refill = {
      epoch: sale.epoch,
      batcher: new Batcher({
        name: 'purchases',
        run: (requests) => this.admitRefilled(sale, home, requests),
        maxBatch: MAX_BATCH,
        maxConcurrent: 1,
        maxQueued: MAX_WAITING,
      }),
    };
    this.refills.set(key, refill);
    return refill;
  }
}
