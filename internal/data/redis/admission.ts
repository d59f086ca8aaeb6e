import { randomUUID } from 'node:crypto';
import { saleUnavailable } from '../../../gen/seckill/v1/errors.js';
import { Batcher } from '../../biz/batcher.js';
import {
  Admission,
  type AdmissionLoad,
  type AdmissionResult,
  type AdmissionState,
  type PurchaseRequest,
  type UnitsReturn,
} from '../../biz/seckill/admission.js';
import type { Sale } from '../../biz/seckill/sale-state.js';
import { ADMIT, CLOSE, LIMIT, LOAD, RATE, RETURN_UNITS } from './lua-script.js';
import { isRedisAway, type RedisServer } from './redis.js';
import { nextKeys, saleKeys } from './seckill-keys.js';

/** Purchases of one script call. More would keep other callers of Redis waiting for longer than a round trip. */
const MAX_BATCH = 128;
/**
 * Script calls under way at a time. Redis answers after it wrote to disk, so that with one, a purchase waits for two such
 * writes; with two the slowest hundredth of purchases waited half as long. More gave nothing.
 */
const MAX_RUNNING = 2;
/** Purchases of one item that may wait for their script call: about a second's worth. */
const MAX_WAITING = 20_000;
/** How long an item stays known as sold out; units that come back are seen after at most this. */
const SOLD_OUT_MS = 200;
/** Items whose lanes are kept while nobody buys. */
const MAX_LANES = 10_000;
/** Fields of one HSET while a sale is loaded. */
const CHUNK = 2_000;
/** How long a load may take before another may begin. */
const LOAD_LEASE_MS = 60_000;
/** How long what a broken load left behind may stay. */
const STAGING_TTL_S = 600;
/** How long a closed sale's keys stay, for repeated requests and late callers. */
const KEEP_CLOSED_MS = 24 * 3_600_000;

/** One item's way to its script, under one epoch. */
interface Lane {
  readonly epoch: bigint;
  /** By performance.now(): until then the item is known to be sold out. */
  soldOutUntilMs: number;
  readonly batcher: Batcher<PurchaseRequest, AdmissionResult>;
}

/** Admission by Lua scripts in Redis, on a connection of its own. */
export class RedisAdmission extends Admission {
  private readonly lanes = new Map<bigint, Lane>();

  constructor(private readonly server: RedisServer) {
    super();
  }

  override admit(sale: Pick<Sale, 'itemId' | 'epoch'>, request: PurchaseRequest): Promise<AdmissionResult> {
    const lane = this.laneOf(sale.itemId, sale.epoch);
    // A repeated request id or token may name a purchase that was granted.
    if (lane.soldOutUntilMs > performance.now() && request.requestId === '' && !request.tokenId) return SOLD_OUT;
    return lane.batcher.tryAdd(request) ?? BACKLOG_FULL;
  }

  override async admitAll(
    sale: Pick<Sale, 'itemId' | 'epoch'>,
    requests: readonly PurchaseRequest[],
  ): Promise<readonly AdmissionResult[]> {
    const lane = this.laneOf(sale.itemId, sale.epoch);
    const batches: Promise<readonly AdmissionResult[]>[] = [];
    // Sent one after another on one connection, so they run in this order.
    for (let i = 0; i < requests.length; i += MAX_BATCH) {
      batches.push(this.admitBatch(lane, sale.itemId, requests.slice(i, i + MAX_BATCH)));
    }
    return (await Promise.all(batches)).flat();
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

  override async epochs(itemIds: readonly bigint[]): Promise<ReadonlyMap<bigint, bigint>> {
    const server = await this.serverId();
    const known = await Promise.all(
      itemIds.map(async (itemId): Promise<[bigint, bigint] | undefined> => {
        const keys = saleKeys(this.server.keyPrefix, itemId);
        const [[epoch, loadedOn], there] = await orSaleUnavailable(
          Promise.all([
            this.server.commands.hmget(keys.meta, 'epoch', 'server'),
            this.server.commands.exists(keys.stock, keys.req),
          ]),
        );
        return epoch && loadedOn === server && there === 2 ? [itemId, BigInt(epoch)] : undefined;
      }),
    );
    return new Map(known.filter((entry) => entry !== undefined));
  }

  override async setLimit(
    sale: Pick<Sale, 'itemId' | 'epoch'>,
    userId: string | undefined,
    limit: number,
  ): Promise<boolean> {
    const keys = saleKeys(this.server.keyPrefix, sale.itemId);
    const args = [String(sale.epoch), userId ?? '', String(limit)];
    return (await orSaleUnavailable(LIMIT.run(this.server.commands, keys, args))) === 'SET';
  }

  override async setAdmitRate(sale: Pick<Sale, 'itemId' | 'epoch'>, perSecond: number): Promise<boolean> {
    const keys = saleKeys(this.server.keyPrefix, sale.itemId);
    const args = [String(sale.epoch), String(perSecond)];
    return (await orSaleUnavailable(RATE.run(this.server.commands, keys, args))) === 'SET';
  }

  override async suspend(itemId: bigint): Promise<void> {
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
      admit_rate: String(sale.admitRate),
      backlog: String(state.backlogLimit),
      fence: state.fence,
      server: await this.serverId(),
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
    const redis = this.server.commands;
    const reply = await orSaleUnavailable(CLOSE.run(redis, keys, [String(sale.epoch), String(KEEP_CLOSED_MS)]));
    // Nobody asks for a place any more, and a line can be long.
    if (reply === 'CLOSED') await orSaleUnavailable(redis.unlink(keys.waitingRoom, keys.tickets));
  }

  override async returnUnits(units: UnitsReturn): Promise<boolean> {
    const keys = saleKeys(this.server.keyPrefix, units.itemId);
    const args = [String(units.epoch), String(units.orderId), units.userId, String(units.quantity)];
    const reply = await orSaleUnavailable(RETURN_UNITS.run(this.server.commands, keys, args));
    // Other processes hear of it when their own knowledge runs out.
    const lane = this.lanes.get(units.itemId);
    if (lane) lane.soldOutUntilMs = 0;
    return reply !== 'NOT_READY';
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
    if (this.lanes.size >= MAX_LANES) this.forgetIdleLanes();
    const lane: Lane = {
      epoch,
      soldOutUntilMs: 0,
      batcher: new Batcher({
        name: 'purchases',
        run: (requests) => this.admitBatch(lane, itemId, requests),
        maxBatch: MAX_BATCH,
        maxConcurrent: MAX_RUNNING,
        maxQueued: MAX_WAITING,
      }),
    };
    this.lanes.set(itemId, lane);
    return lane;
  }

  private forgetIdleLanes(): void {
    for (const [itemId, lane] of this.lanes) if (lane.batcher.idle) this.lanes.delete(itemId);
  }

  private async admitBatch(
    lane: Lane,
    itemId: bigint,
    requests: readonly PurchaseRequest[],
  ): Promise<readonly AdmissionResult[]> {
    const keys = saleKeys(this.server.keyPrefix, itemId);
    const args = [String(lane.epoch)];
    for (const w of requests) {
      const requestId = w.tokenId ? `${w.requestId}\0${w.tokenId}` : w.requestId;
      args.push(w.userId, String(w.quantity), requestId, w.traceparent);
    }
    const reply = await orSaleUnavailable(ADMIT.run(this.server.admission, keys, args));
    const [status, , left, ...outcomes] = reply as [string, number, number, ...string[]];
    if (status !== 'OK') return requests.map(() => STALE);
    const admitted = outcomes.map(admittedOf);
    lane.soldOutUntilMs = left <= 0 && admitted.at(-1)?.kind === 'SOLD_OUT' ? performance.now() + SOLD_OUT_MS : 0;
    return admitted;
  }

  /** Another one after a restart and on every replica. */
  private async serverId(): Promise<string> {
    const info = await orSaleUnavailable(this.server.commands.info('server'));
    return /^run_id:(\w+)/m.exec(info)?.[1] ?? '';
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

const STALE: AdmissionResult = { kind: 'STALE' };
const SOLD_OUT = Promise.resolve<AdmissionResult>({ kind: 'SOLD_OUT' });
const BACKLOG_FULL = Promise.resolve<AdmissionResult>({ kind: 'BACKLOG_FULL' });
const QUEUED = 'QUEUED ';

function admittedOf(outcome: string): AdmissionResult {
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

/** The reply. @throws SALE_UNAVAILABLE when Redis is away */
export async function orSaleUnavailable<T>(reply: Promise<T>): Promise<T> {
  try {
    return await reply;
  } catch (err) {
    if (!isRedisAway(err)) throw err;
    throw saleUnavailable('admission does not answer; try again shortly', { cause: err });
  }
}
