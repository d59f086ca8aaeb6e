import { saleUnavailable } from '../../../gen/seckill/v1/errors.js';
import type {
  AdmissionResult,
  AdmissionState,
  EpochOfItem,
  LoadLease,
  PurchaseRequest,
  SettingsChange,
  UnitsReturn,
  Withdrawal,
} from '../../../internal/biz/seckill/admission.js';
import { PurchaseStream, type SettledEntry, type StreamEntry } from '../../../internal/biz/seckill/purchase-stream.js';
import type { Sale } from '../../../internal/biz/seckill/sale-state.js';
import { segmentOf, segmentsOf } from '../../../internal/biz/seckill/segment.js';
import { AdmissionInSegments, type Segment } from '../../../internal/data/redis/admission-in-segments.js';
import { REAL_PACE } from '../../../internal/data/redis/pace.js';
import { inOrder } from '../../../internal/data/redis/purchase-stream.js';
import { type Level, type UnitMove, UnitMoves } from '../../../internal/data/redis/unit-moves.js';
import { type MemoryRedis, saleAway, streamAway } from './redis.js';

/** One segment of the sales of all items, on its server. */
class MemorySegment implements Segment {
  private leases = 0;

  constructor(private readonly redis: MemoryRedis) {}

  async admit(sale: EpochOfItem, request: PurchaseRequest): Promise<AdmissionResult> {
    return (await this.admitAll(sale, [request]))[0]!;
  }

  admitAll(sale: EpochOfItem, requests: readonly PurchaseRequest[]): Promise<readonly AdmissionResult[]> {
    return this.call('admit', () => this.redis.admit(sale, requests));
  }

  findAdmitted(itemId: bigint, requests: readonly PurchaseRequest[]): Promise<readonly AdmissionResult[]> {
    return this.call('findAdmitted', () => this.redis.findAdmitted(itemId, requests));
  }

  state(itemId: bigint): Promise<AdmissionState> {
    return this.call('state', () => this.redis.inspect(itemId));
  }

  ping(): Promise<void> {
    return this.call('ping', () => undefined);
  }

  unitsOf(itemId: bigint, userIds: readonly string[]): Promise<ReadonlyMap<string, number>> {
    return this.call('unitsOf', () => {
      const units = this.redis.unitsOf(itemId);
      return new Map(userIds.map((userId) => [userId, units.get(userId) ?? 0]));
    });
  }

  /** The first ones: a test must not depend on chance. */
  sampleBuyers(itemId: bigint, count: number): Promise<ReadonlyMap<string, number>> {
    return this.call('sampleBuyers', () => new Map([...this.redis.unitsOf(itemId)].slice(0, count)));
  }

  findReturned(itemId: bigint, returnIds: readonly bigint[]): Promise<ReadonlySet<bigint>> {
    return this.call('findReturned', () => {
      const returned = this.redis.returnedOf(itemId);
      return new Set(returnIds.filter((id) => returned.has(String(id))));
    });
  }

  configure(sale: EpochOfItem, change: SettingsChange): Promise<boolean> {
    return this.call('configure', () => this.redis.configure(sale, change));
  }

  withdraw(sale: Sale, total: bigint): Promise<Withdrawal> {
    return this.call('withdraw', () => this.redis.withdraw(sale, total));
  }

  close(sale: EpochOfItem): Promise<void> {
    return this.call('close', () => this.redis.close(sale));
  }

  returnUnits(units: UnitsReturn): Promise<boolean> {
    return this.call('returnUnits', () => this.redis.returnUnits(units));
  }

  /** It is not renewed: a holder that takes longer loses it. */
  async leaseLoad(itemId: bigint): Promise<LoadLease | undefined> {
    const token = `lease ${++this.leases}`;
    if (!(await this.call('lease', () => this.redis.lease(itemId, token)))) return undefined;
    return {
      suspend: async () => {
        if (await this.call('suspend', () => this.redis.suspend(itemId, token))) return;
        throw saleUnavailable(`the load lease of item ${itemId} has lapsed; try again`);
      },
      load: (state) => this.call('load', () => this.redis.load(state)),
      release: () => this.call('release', () => this.redis.release(itemId, token)),
    };
  }

  private call<T>(operation: string, work: () => T): Promise<T> {
    return this.redis.call(`redis.${operation}`, saleAway, work);
  }
}

class MemoryUnitMoves extends UnitMoves {
  private made = 0;

  constructor(private readonly redis: MemoryRedis) {
    super();
  }

  override level(sale: EpochOfItem, segment: number): Promise<Level | undefined> {
    return this.call('level', () => this.redis.at(segment).level(sale));
  }

  override async takeOut(sale: EpochOfItem, { from, to, units }: Omit<UnitMove, 'id'>): Promise<UnitMove | undefined> {
    const id = String(++this.made);
    const taken = await this.call('moveOut', () => this.redis.at(from).moveOut(sale, id, { to, units }));
    return taken > 0n ? { id, from, to, units: taken } : undefined;
  }

  override putIn(sale: EpochOfItem, { id, to, units }: UnitMove): Promise<void> {
    return this.call('moveIn', () => this.redis.at(to).moveIn(sale, id, units));
  }

  override forget({ itemId }: EpochOfItem, { id, from }: UnitMove): Promise<void> {
    return this.call('forgetMove', () => this.redis.at(from).forgetMove(itemId, id));
  }

  override hasArrived({ itemId }: EpochOfItem, { id, to }: UnitMove): Promise<boolean> {
    return this.call('hasArrived', () => this.redis.at(to).returnedOf(itemId).has(`move:${id}`));
  }

  private call<T>(operation: string, work: () => T): Promise<T> {
    return this.redis.call(`redis.${operation}`, saleAway, work);
  }
}

/** The admission of the product, on segments in memory. */
export class MemoryAdmission extends AdmissionInSegments {
  constructor(redis: MemoryRedis, pace = REAL_PACE) {
    super((segment) => new MemorySegment(redis.at(segment)), new MemoryUnitMoves(redis), pace);
  }

  /** By itself: a process that dies in a simulation must not take along the purchases that other processes sent. */
  override async admit(sale: EpochOfItem, request: PurchaseRequest): Promise<AdmissionResult> {
    return (await this.admitAll(sale, [request]))[0]!;
  }
}

/** The streams of all servers. */
export class MemoryPurchaseStream extends PurchaseStream {
  /** Whether a consumer may hold entries that the stream has lost. */
  inMemory = false;

  constructor(private readonly redis: MemoryRedis) {
    super();
  }

  override find(itemId: bigint, streamId: string): Promise<StreamEntry | undefined> {
    return this.call('find', () =>
      this.redis
        .at(segmentOf(streamId))
        .entries(itemId)
        .find((e) => e.streamId === streamId),
    );
  }

  override async oldest(itemId: bigint, segments?: number): Promise<StreamEntry | undefined> {
    return (await this.waiting(itemId, segments))[0];
  }

  override async waiting(itemId: bigint, segments = 1): Promise<readonly StreamEntry[]> {
    const each = segmentsOf(segments).map((k) => this.call('waiting', () => this.redis.at(k).entries(itemId)));
    return inOrder((await Promise.all(each)).flat());
  }

  override mayBeInMemory(): Promise<boolean> {
    return this.call('mayBeInMemory', () => this.inMemory);
  }

  /** As `PurchaseConsumer` does it. */
  async finish(itemId: bigint, entries: readonly SettledEntry[]): Promise<ReadonlySet<string>> {
    const parts = [...Map.groupBy(entries, (e) => segmentOf(e.streamId))];
    const later = parts.map(([k, own]) => this.call('finish', () => this.redis.at(k).finish(itemId, own)));
    return new Set((await Promise.all(later)).flatMap((ids) => [...ids]));
  }

  private call<T>(operation: string, work: () => T): Promise<T> {
    return this.redis.call(`stream.${operation}`, streamAway, work);
  }
}
