import { saleUnavailable } from '../../../gen/seckill/v1/errors.js';
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
} from '../../../internal/biz/seckill/admission.js';
import { PurchaseStream, type SettledEntry, type StreamEntry } from '../../../internal/biz/seckill/purchase-stream.js';
import type { Sale } from '../../../internal/biz/seckill/sale-state.js';
import { type MemoryRedis, saleAway, streamAway } from './redis.js';

export class MemoryAdmission extends Admission {
  private leases = 0;

  constructor(private readonly redis: MemoryRedis) {
    super();
  }

  override async admit(sale: EpochOfItem, request: PurchaseRequest): Promise<AdmissionResult> {
    return (await this.admitAll(sale, [request]))[0]!;
  }

  override admitAll(sale: EpochOfItem, requests: readonly PurchaseRequest[]): Promise<readonly AdmissionResult[]> {
    return this.call('admit', () => this.redis.admit(sale, requests));
  }

  override findAdmitted(
    itemId: bigint,
    requests: readonly PurchaseRequest[],
  ): Promise<readonly (string | undefined)[]> {
    return this.call('findAdmitted', () => this.redis.findAdmitted(itemId, requests));
  }

  override state(itemId: bigint): Promise<AdmissionState> {
    return this.call('state', () => this.redis.inspect(itemId));
  }

  override async unitsLeft({ itemId, epoch }: EpochOfItem): Promise<UnitsLeft> {
    const { now, loaded } = await this.state(itemId);
    const stock = loaded?.epoch === epoch ? loaded.stock : undefined;
    return { now, units: stock !== undefined && stock > 0n ? stock : 0n, complete: stock !== undefined };
  }

  override ping(): Promise<void> {
    return this.call('ping', () => undefined);
  }

  override unitsOf(itemId: bigint, userIds: readonly string[]): Promise<ReadonlyMap<string, number>> {
    return this.call('unitsOf', () => {
      const units = this.redis.unitsOf(itemId);
      return new Map(userIds.map((userId) => [userId, units.get(userId) ?? 0]));
    });
  }

  /** The first ones: a test must not depend on chance. */
  override sampleBuyers(itemId: bigint, count: number): Promise<ReadonlyMap<string, number>> {
    return this.call('sampleBuyers', () => new Map([...this.redis.unitsOf(itemId)].slice(0, count)));
  }

  override findReturned(itemId: bigint, returnIds: readonly bigint[]): Promise<ReadonlySet<bigint>> {
    return this.call('findReturned', () => {
      const returned = this.redis.returnedOf(itemId);
      return new Set(returnIds.filter((id) => returned.has(String(id))));
    });
  }

  override configure(sale: EpochOfItem, change: SettingsChange): Promise<boolean> {
    return this.call('configure', () => this.redis.configure(sale, change));
  }

  override withdraw(sale: Sale, total: bigint): Promise<Withdrawal> {
    return this.call('withdraw', () => this.redis.withdraw(sale, total));
  }

  override close(sale: EpochOfItem): Promise<void> {
    return this.call('close', () => this.redis.close(sale));
  }

  override returnUnits(units: UnitsReturn): Promise<boolean> {
    return this.call('returnUnits', () => this.redis.returnUnits(units));
  }

  /** A sale's units lie together here, however many segments it has. */
  override async spread(): Promise<bigint> {
    return 0n;
  }

  /** It is not renewed: a holder that takes longer loses it. */
  override async leaseLoad(itemId: bigint): Promise<LoadLease | undefined> {
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

/** All streams of a server. */
export class MemoryPurchaseStream extends PurchaseStream {
  /** Whether a consumer may hold entries that the stream has lost. */
  inMemory = false;

  constructor(private readonly redis: MemoryRedis) {
    super();
  }

  override find(itemId: bigint, streamId: string): Promise<StreamEntry | undefined> {
    return this.call('find', () => this.redis.entries(itemId).find((e) => e.streamId === streamId));
  }

  override oldest(itemId: bigint): Promise<StreamEntry | undefined> {
    return this.call('oldest', () => this.redis.entries(itemId)[0]);
  }

  override waiting(itemId: bigint): Promise<readonly StreamEntry[]> {
    return this.call('waiting', () => this.redis.entries(itemId));
  }

  override mayBeInMemory(): Promise<boolean> {
    return this.call('mayBeInMemory', () => this.inMemory);
  }

  /** As `PurchaseConsumer` does it. */
  finish(itemId: bigint, entries: readonly SettledEntry[]): Promise<ReadonlySet<string>> {
    return this.call('finish', () => this.redis.finish(itemId, entries));
  }

  private call<T>(operation: string, work: () => T): Promise<T> {
    return this.redis.call(`stream.${operation}`, streamAway, work);
  }
}
