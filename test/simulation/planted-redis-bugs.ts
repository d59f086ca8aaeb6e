import type { AdmissionLoad, EpochOfItem, UnitsReturn } from '../../internal/biz/seckill/admission.js';
import type { Level } from '../../internal/data/redis/unit-moves.js';
import { MemoryRedis } from '../support/memory/redis.js';
import type { MemoryItemKeys, NotedMove } from '../support/memory/redis-keys.js';
import type { Bugs } from './world.js';

interface EntryUnits {
  readonly holds: number;
  readonly keeps: number;
}

class ClipsStock extends MemoryRedis {
  protected override changeUnits(keys: MemoryItemKeys, userId: string, free: number): void {
    super.changeUnits(keys, userId, free);
    if (keys.stock !== undefined && keys.stock < 0n) keys.stock = 0n;
  }
}

class KeepsRefusedUnits extends MemoryRedis {
  protected override correct(keys: MemoryItemKeys, id: string, userId: string, units: EntryUnits): void {
    if (units.keeps > 0) super.correct(keys, id, userId, units);
  }
}

class ClipsStockAndKeepsRefusedUnits extends ClipsStock {
  protected override correct(keys: MemoryItemKeys, id: string, userId: string, units: EntryUnits): void {
    if (units.keeps > 0) super.correct(keys, id, userId, units);
  }
}

class IgnoresForeignOrders extends MemoryRedis {
  protected override correct(keys: MemoryItemKeys, id: string, userId: string, units: EntryUnits): void {
    if (units.keeps === 0) super.correct(keys, id, userId, units);
  }
}

class ForgetsCorrections extends MemoryRedis {
  protected override correct(keys: MemoryItemKeys, id: string, userId: string, units: EntryUnits): void {
    super.correct(keys, id, userId, units);
    keys.returned.delete(id);
  }
}

class ReturnsToRedisAgain extends MemoryRedis {
  override returnUnits(units: UnitsReturn): boolean {
    const returned = super.returnUnits(units);
    this.forgetReturned(units.itemId, String(units.returnId));
    return returned;
  }
}

class LoadsAllThatIsUnsold extends MemoryRedis {
  override load(state: AdmissionLoad) {
    return super.load({ ...state, stock: state.sale.total - state.sale.sold });
  }
}

class ForgetsArrivals extends MemoryRedis {
  override moveIn(sale: EpochOfItem, id: string, units: bigint): void {
    super.moveIn(sale, id, units);
    this.forgetReturned(sale.itemId, `move:${id}`);
  }
}

class NotesNoMoves extends MemoryRedis {
  override moveOut(sale: EpochOfItem, id: string, move: NotedMove): bigint {
    const units = super.moveOut(sale, id, move);
    super.forgetMove(sale.itemId, id);
    return units;
  }
}

class HidesUnitsOfOneSegment extends MemoryRedis {
  override level(sale: EpochOfItem): Level | undefined {
    const level = super.level(sale);
    return level && this.segment === 1 ? { ...level, stock: 0n } : level;
  }
}

class NeverCloses extends MemoryRedis {
  override close(): void {}
}

class TakesOverUnnoticed extends MemoryRedis {
  override failOver(...server: Parameters<MemoryRedis['failOver']>): void {
    super.failOver(...server);
    this.serverId = 'redis-1';
  }
}

class ForgetsRequests extends MemoryRedis {
  protected override remember(): void {}
}

/** Mistakes in the scripts of Redis, by the name of their test. */
export const REDIS_BUGS: Readonly<Record<string, Bugs>> = {
  'the stock in Redis stays at 0': { redis: ClipsStock },
  'a refused entry gives nothing back': { redis: KeepsRefusedUnits },
  'the stock in Redis stays at 0 and a refused entry gives nothing back': { redis: ClipsStockAndKeepsRefusedUnits },
  'the order of a foreign entry takes nothing from the stock in Redis': { redis: IgnoresForeignOrders },
  'the stock is corrected at each delivery of an entry': { redis: ForgetsCorrections },
  'the units of an order return to Redis at each delivery': { redis: ReturnsToRedisAgain },
  'a load counts no entry as waiting': { redis: LoadsAllThatIsUnsold },
  'units that move to another segment arrive at each attempt': { redis: ForgetsArrivals },
  'units leave a segment without a note of their move': { redis: NotesNoMoves },
  'the units of one segment are not seen by the others': { redis: HidesUnitsOfOneSegment },
  'the end of a sale does not reach Redis': { redis: NeverCloses },
  'a Redis server that takes over is not noticed': { redis: TakesOverUnnoticed },
  'a request id is forgotten at once': { redis: ForgetsRequests },
};
