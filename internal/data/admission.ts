import { randomUUID } from 'node:crypto';
import { saleUnavailable } from '../../gen/seckill/v1/errors.js';
import {
  Admission,
  type AdmissionLoad,
  type AdmissionState,
  type Admitted,
  type UnitsReturn,
  type Wish,
} from '../biz/admission.js';
import type { Sale } from '../biz/sale-state.js';
import { ADMIT, CLOSE, GIVE_BACK, LOAD } from './lua-script.js';
import { MicroBatcher } from './micro-batcher.js';
import { isRedisAway, type RedisServer } from './redis.js';
import { nextKeys, type SaleKeys, saleKeys } from './seckill-keys.js';

/** Purchases of one script call. More would keep other callers of Redis waiting for longer than a round trip. */
const MAX_BATCH = 128;
/** Purchases of one item that may wait for their script call: about a second's worth. */
const MAX_WAITING = 20_000;
/** Fields of one HSET while a sale is loaded. */
const CHUNK = 2_000;
/** How long a load may take before another may begin. */
const LOAD_LEASE_MS = 60_000;
/** How long what a broken load left behind may stay. */
const STAGING_TTL_S = 600;
/** How long a closed sale's keys stay, for repeated requests and late callers. */
const KEEP_CLOSED_MS = 24 * 3_600_000;

interface Lane {
  readonly epoch: bigint;
  readonly batcher: MicroBatcher<Wish, Admitted>;
}

/** Admission by Lua scripts in Redis, on a connection of its own. */
export class RedisAdmission extends Admission {
  private readonly lanes = new Map<bigint, Lane>();

  constructor(private readonly server: RedisServer) {
    super();
  }

  override async admit(sale: Pick<Sale, 'itemId' | 'epoch'>, wish: Wish): Promise<Admitted> {
    const admitted = this.laneOf(sale.itemId, sale.epoch).batcher.submit(wish);
    return admitted === undefined ? { kind: 'BACKLOG_FULL' } : admitted;
  }

  override async state(itemId: bigint): Promise<AdmissionState> {
    const keys = saleKeys(this.server.keyPrefix, itemId);
    const redis = this.server.commands;
    const [epoch, stock, time] = await orSaleUnavailable(
      Promise.all([redis.hget(keys.meta, 'epoch'), redis.get(keys.stock), redis.time()]),
    );
    const [seconds = 0, micros = 0] = time.map(Number);
    const units = stock === null ? 0n : BigInt(stock);
    return {
      // Without its stock a sale admits nobody, whatever meta says.
      epoch: epoch === null || stock === null ? undefined : BigInt(epoch),
      remaining: units < 0n ? 0n : units,
      now: new Date(seconds * 1_000 + Math.floor(micros / 1_000)),
    };
  }

  override async shut(itemId: bigint): Promise<void> {
    await orSaleUnavailable(this.server.commands.del(saleKeys(this.server.keyPrefix, itemId).meta));
  }

  override async load(state: AdmissionLoad): Promise<void> {
    const { sale } = state;
    const keys = saleKeys(this.server.keyPrefix, sale.itemId);
    const next = nextKeys(keys, sale.epoch);
    await this.stage(next.nextBuyers, state.buyers);
    const vip = new Map(state.vipLimits.map((v) => [v.userId, v.units]));
    await this.stage(next.nextVip, vip);
    const meta = {
      sale_id: String(sale.id),
      starts_ms: String(sale.startsAt.getTime()),
      ends_ms: sale.endsAt === undefined ? '' : String(sale.endsAt.getTime()),
      limit: String(sale.defaultLimit),
      backlog: String(state.backlogLimit),
      fence: state.fence,
    };
    const reply = await orSaleUnavailable(
      LOAD.run(this.server.commands, { ...keys, ...next }, [
        String(sale.epoch),
        String(state.stock),
        String(sale.epoch << 32n),
        String(state.buyers.size),
        String(vip.size),
        ...Object.entries(meta).flat(),
      ]),
    );
    if (reply === 'INCOMPLETE') throw saleUnavailable(`the load of item ${sale.itemId} was disturbed; try again`);
  }

  override async close(sale: Pick<Sale, 'itemId' | 'epoch'>): Promise<void> {
    const keys = saleKeys(this.server.keyPrefix, sale.itemId);
    await orSaleUnavailable(CLOSE.run(this.server.commands, keys, [String(sale.epoch), String(KEEP_CLOSED_MS)]));
  }

  override async giveBack(units: UnitsReturn): Promise<boolean> {
    const keys = saleKeys(this.server.keyPrefix, units.itemId);
    const args = [String(units.epoch), String(units.orderId), units.userId, String(units.quantity)];
    return (await orSaleUnavailable(GIVE_BACK.run(this.server.commands, keys, args))) !== 'NOT_READY';
  }

  override async reserveLoad(itemId: bigint): Promise<(() => Promise<void>) | undefined> {
    const key = saleKeys(this.server.keyPrefix, itemId).loading;
    const token = randomUUID();
    const redis = this.server.commands;
    if ((await orSaleUnavailable(redis.set(key, token, 'PX', LOAD_LEASE_MS, 'NX'))) === null) return undefined;
    return async () => {
      try {
        // Not atomic: deleting a successor's reservation costs a needless load, which its epoch keeps harmless.
        if ((await redis.get(key)) === token) await redis.del(key);
      } catch (err) {
        if (!isRedisAway(err)) throw err;
      }
    };
  }

  /** Purchases of one item and epoch share their script calls. */
  private laneOf(itemId: bigint, epoch: bigint): Lane {
    const known = this.lanes.get(itemId);
    if (known?.epoch === epoch) return known;
    const keys = saleKeys(this.server.keyPrefix, itemId);
    const lane: Lane = {
      epoch,
      batcher: new MicroBatcher({
        run: async (wishes) => {
          const admitted = await this.admitBatch(keys, epoch, wishes);
          // Items come and go; one whose purchases are all answered is forgotten.
          setImmediate(() => {
            if (lane.batcher.idle && this.lanes.get(itemId) === lane) this.lanes.delete(itemId);
          });
          return admitted;
        },
        maxBatch: MAX_BATCH,
        maxWaiting: MAX_WAITING,
      }),
    };
    this.lanes.set(itemId, lane);
    return lane;
  }

  private async admitBatch(keys: SaleKeys, epoch: bigint, wishes: readonly Wish[]): Promise<readonly Admitted[]> {
    const args = [String(epoch)];
    for (const w of wishes) args.push(w.userId, String(w.quantity), w.requestId, w.traceparent);
    const reply = await orSaleUnavailable(ADMIT.run(this.server.admission, keys, args));
    const [status, , , ...outcomes] = reply as [string, number, number, ...string[]];
    return status === 'OK' ? outcomes.map(admittedOf) : wishes.map(() => STALE);
  }

  private async stage(key: string, users: ReadonlyMap<string, number>): Promise<void> {
    const redis = this.server.commands;
    await orSaleUnavailable(redis.del(key));
    let chunk: string[] = [];
    const flush = async () => {
      if (chunk.length > 0) await orSaleUnavailable(redis.hset(key, ...chunk));
      chunk = [];
    };
    for (const [userId, units] of users) {
      chunk.push(userId, String(units));
      if (chunk.length >= 2 * CHUNK) await flush();
    }
    await flush();
    if (users.size > 0) await orSaleUnavailable(redis.expire(key, STAGING_TTL_S));
  }
}

const STALE: Admitted = { kind: 'STALE' };
const QUEUED = 'QUEUED ';

function admittedOf(outcome: string): Admitted {
  if (outcome.startsWith(QUEUED)) return { kind: 'QUEUED', streamId: outcome.slice(QUEUED.length) };
  switch (outcome) {
    case 'SOLD_OUT':
    case 'NOT_STARTED':
    case 'ENDED':
    case 'LIMIT_REACHED':
    case 'BACKLOG_FULL':
      return { kind: outcome };
    case 'FAILED':
      return STALE;
    default:
      throw new Error(`admit answers ${outcome}`);
  }
}

async function orSaleUnavailable<T>(reply: Promise<T>): Promise<T> {
  try {
    return await reply;
  } catch (err) {
    if (!isRedisAway(err)) throw err;
    throw saleUnavailable('admission does not answer; try again shortly', { cause: err });
  }
}
