import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { saleUnavailable } from '../../../gen/seckill/v1/errors.js';
import { Batcher } from '../../biz/batcher.js';
import type {
  AdmissionLoad,
  AdmissionResult,
  AdmissionState,
  EpochOfItem,
  LoadedSale,
  LoadLease,
  PurchaseRequest,
  SettingsChange,
  UnitsReturn,
  Withdrawal,
} from '../../biz/seckill/admission.js';
import type { Sale } from '../../biz/seckill/sale-state.js';
import { segmentStreamId, withoutSegment } from '../../biz/seckill/segment.js';
import {
  ADMIT,
  CLOSE,
  CONFIGURE,
  FIND_ADMITTED,
  INSPECT,
  LEASE,
  LOAD,
  RETURN_UNITS,
  SUSPEND,
  WITHDRAW,
} from './lua-script.js';
import { isRedisAway, isUnreadable, type RedisServer } from './redis.js';
import { nextKeys, type SaleKeys } from './seckill-keys.js';

/** Purchases of one script call. More would keep other callers of Redis waiting for longer than a round trip. */
export const MAX_BATCH = 128;
/**
 * Script calls under way at a time. Redis answers after it wrote to disk, so that with one, a purchase waits for two such
 * writes; with two the slowest hundredth of purchases waited half as long. More gave nothing.
 */
export const MAX_RUNNING = 2;
/** Purchases of one segment that may wait for their script call: about a second's worth. */
export const MAX_WAITING = 20_000;
/** How long a sale or a segment stays known as sold out; units that come back are seen after at most this. */
export const SOLD_OUT_MS = 200;
/** Number of idle items whose lanes are kept. */
const MAX_LANES = 10_000;
/** Fields of one HSET while a sale is loaded. */
const CHUNK = 2_000;
/**
 * How long a load lease lasts without renewal. A holder that died keeps a sale unloaded for as long, so it is short; a
 * holder that lives renews it three times in that time.
 */
const LEASE_MS = 3_000;
/** Tries to release a lease, RELEASE_RETRY_MS apart; after them it lapses by itself. */
const RELEASE_ATTEMPTS = 10;
const RELEASE_RETRY_MS = 100;
/** How long what a broken load left behind may stay. */
const STAGING_TTL_S = 600;
/** How long a closed sale's keys stay, for repeated requests and late callers. */
const KEEP_CLOSED_MS = 24 * 3_600_000;
/** How long a key that stood in the stream's place stays. */
const KEEP_BROKEN_MS = 7 * 24 * 3_600_000;
/** Numbers of purchases of one epoch; each segment starts in its part of them. */
const REQ_IDS = 2 ** 32;
const LAST_STREAM_ID = '18446744073709551615-18446744073709551615';

/** One item's way to its script, under one epoch. */
interface Lane {
  readonly epoch: bigint;
  /** By performance.now(): until then the item is known to be sold out. */
  soldOutUntilMs: number;
  readonly batcher: Batcher<PurchaseRequest, AdmissionResult>;
}

/** Admission to one segment of the sales of all items, by Lua scripts in Redis, on a connection of its own. */
export class SegmentAdmission {
  private readonly lanes = new Map<bigint, Lane>();
  /** The same for all leases of this process: one whose reply was lost is taken again at once. */
  private readonly leaseToken = randomUUID();
  private readonly leasedItems = new Set<bigint>();

  constructor(
    private readonly server: RedisServer,
    private readonly segment: number,
  ) {}

  admit(sale: EpochOfItem, request: PurchaseRequest): Promise<AdmissionResult> {
    const lane = this.laneOf(sale.itemId, sale.epoch);
    // A repeated request id or token may name a purchase that was granted.
    if (lane.soldOutUntilMs > performance.now() && request.requestId === '' && !request.tokenId) return SOLD_OUT;
    return lane.batcher.tryAdd(request) ?? BACKLOG_FULL;
  }

  async admitAll(sale: EpochOfItem, requests: readonly PurchaseRequest[]): Promise<readonly AdmissionResult[]> {
    const lane = this.laneOf(sale.itemId, sale.epoch);
    const batches: Promise<readonly AdmissionResult[]>[] = [];
    // Sent one after another on one connection, so they run in this order.
    for (let i = 0; i < requests.length; i += MAX_BATCH) {
      batches.push(this.admitBatch(lane, sale.itemId, requests.slice(i, i + MAX_BATCH)));
    }
    return (await Promise.all(batches)).flat();
  }

  async findAdmitted(itemId: bigint, requests: readonly PurchaseRequest[]): Promise<readonly AdmissionResult[]> {
    if (requests.length === 0) return [];
    const args = requests.flatMap((r) => [r.userId, requestField(r)]);
    const ids = await orSaleUnavailable(FIND_ADMITTED.run(this.server.admission, this.keysOf(itemId), args));
    return (ids as string[]).map((id) =>
      id === '' ? ENDED : { kind: 'QUEUED', streamId: segmentStreamId(id, this.segment) },
    );
  }

  async state(itemId: bigint): Promise<AdmissionState> {
    const reply = await orSaleUnavailable(INSPECT.run(this.server.commands, this.keysOf(itemId), []));
    return stateOf(reply as [number, ...string[]]);
  }

  async ping(): Promise<void> {
    await orSaleUnavailable(this.server.commands.ping());
  }

  async unitsOf(itemId: bigint, userIds: readonly string[]): Promise<ReadonlyMap<string, number>> {
    if (userIds.length === 0) return new Map();
    const { buyers } = this.keysOf(itemId);
    const units = await orSaleUnavailable(this.server.commands.hmget(buyers, ...userIds));
    return new Map(userIds.map((userId, i) => [userId, Number(units[i] ?? 0)]));
  }

  async sampleBuyers(itemId: bigint, count: number): Promise<ReadonlyMap<string, number>> {
    const { buyers } = this.keysOf(itemId);
    const flat = (await orSaleUnavailable(this.server.commands.hrandfield(buyers, count, 'WITHVALUES'))) as string[];
    return new Map(Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i]!, Number(flat[2 * i + 1])]));
  }

  async findReturned(itemId: bigint, returnIds: readonly bigint[]): Promise<ReadonlySet<bigint>> {
    if (returnIds.length === 0) return new Set();
    const { returned } = this.keysOf(itemId);
    const found = await orSaleUnavailable(this.server.commands.smismember(returned, ...returnIds.map(String)));
    return new Set(returnIds.filter((_, i) => found[i] === 1));
  }

  async configure({ itemId, epoch }: EpochOfItem, change: SettingsChange): Promise<boolean> {
    const { from, to, total, endsAt, defaultLimit, admitRate, vipLimits } = change;
    const args = [
      ...[epoch, from, to, total, endsAt?.getTime() ?? '', defaultLimit, admitRate].map(String),
      ...vipLimits.flatMap((v) => [v.userId, String(v.units)]),
    ];
    const reply = await orSaleUnavailable(CONFIGURE.run(this.server.commands, this.keysOf(itemId), args));
    this.expectUnits(itemId);
    return reply === 'APPLIED';
  }

  async withdraw({ itemId, epoch, settingsVersion }: Sale, total: bigint): Promise<Withdrawal> {
    const args = [epoch, settingsVersion, total].map(String);
    const reply = await orSaleUnavailable(WITHDRAW.run(this.server.commands, this.keysOf(itemId), args));
    const [kind, stock = '0'] = reply as [Withdrawal['kind'], string?];
    return kind === 'SHORT' ? { kind, stock: BigInt(stock) } : { kind };
  }

  async close({ itemId, epoch }: EpochOfItem): Promise<void> {
    const args = [String(epoch), String(KEEP_CLOSED_MS), String(KEEP_BROKEN_MS)];
    await orSaleUnavailable(CLOSE.run(this.server.commands, this.keysOf(itemId), args));
  }

  async returnUnits(units: UnitsReturn): Promise<boolean> {
    const args = [String(units.epoch), String(units.returnId), units.userId, String(units.quantity)];
    const keys = this.keysOf(units.itemId);
    const reply = await RETURN_UNITS.run(this.server.commands, keys, args).catch((err: unknown) => {
      // A sale that cannot be read is as good as lost: the next load brings the units.
      if (isUnreadable(err)) return 'NOT_READY';
      throw asSaleUnavailable(err);
    });
    this.expectUnits(units.itemId);
    return reply !== 'NOT_READY';
  }

  async leaseLoad(itemId: bigint): Promise<LoadLease | undefined> {
    // Within this process the token tells nothing apart.
    if (this.leasedItems.has(itemId)) return undefined;
    this.leasedItems.add(itemId);
    try {
      if (await this.holdLease(itemId)) return this.renewedLease(itemId);
    } catch (err) {
      this.leasedItems.delete(itemId);
      throw err;
    }
    this.leasedItems.delete(itemId);
    return undefined;
  }

  /** Other processes hear of more units when their own knowledge runs out. */
  expectUnits(itemId: bigint): void {
    const lane = this.lanes.get(itemId);
    if (lane) lane.soldOutUntilMs = 0;
  }

  private async holdLease(itemId: bigint): Promise<boolean> {
    const args = [this.leaseToken, String(LEASE_MS)];
    return (await orSaleUnavailable(LEASE.run(this.server.commands, this.keysOf(itemId), args))) === 'HELD';
  }

  private renewedLease(itemId: bigint): LoadLease {
    // A renewal that fails is followed by the next; what a lapsed lease may do wrong, the epoch keeps harmless.
    const renewal = setInterval(() => this.holdLease(itemId).catch(() => {}), LEASE_MS / 3);
    renewal.unref();
    return {
      suspend: () => this.suspend(itemId),
      load: (state) => this.load(state),
      release: async () => {
        clearInterval(renewal);
        await this.releaseLease(itemId);
        this.leasedItems.delete(itemId);
      },
    };
  }

  private async releaseLease(itemId: bigint): Promise<void> {
    for (let attempt = 1; attempt <= RELEASE_ATTEMPTS; attempt++) {
      try {
        await LEASE.run(this.server.commands, this.keysOf(itemId), [this.leaseToken, '0']);
        return;
      } catch (err) {
        if (!isRedisAway(err)) throw err;
        await sleep(RELEASE_RETRY_MS);
      }
    }
  }

  private async suspend(itemId: bigint): Promise<void> {
    const args = [this.leaseToken, String(KEEP_BROKEN_MS)];
    const reply = await orSaleUnavailable(SUSPEND.run(this.server.commands, this.keysOf(itemId), args));
    if (reply === 'LOST') throw saleUnavailable(`the load lease of item ${itemId} has lapsed; try again`);
  }

  private async load(state: AdmissionLoad): Promise<'LOADED' | 'STALE' | 'CLOSED'> {
    const { sale } = state;
    const [counted = { from: '0-0', to: '0-0' }] = state.counted;
    const keys = this.keysOf(sale.itemId);
    const next = nextKeys(keys, sale.epoch);
    await this.stage(next.nextBuyers, state.buyers);
    const vip = new Map(state.vipLimits.map((v) => [v.userId, v.units]));
    await this.stage(next.nextVip, vip);
    const meta = {
      sale_id: String(sale.id),
      version: String(sale.settingsVersion),
      total: String(sale.total),
      starts_ms: String(sale.startsAt.getTime()),
      ends_ms: sale.endsAt === undefined ? '' : String(sale.endsAt.getTime()),
      limit: String(sale.defaultLimit),
      admit_rate: String(sale.admitRate),
      backlog: String(state.backlogLimit),
      fence_from: withoutSegment(counted.from),
      fence: withoutSegment(counted.to),
    };
    const reply = await orSaleUnavailable(
      LOAD.run(this.server.commands, { ...keys, ...next }, [
        String(sale.epoch),
        String((sale.epoch << 32n) + BigInt(this.segment * Math.floor(REQ_IDS / sale.segments))),
        String(state.buyers.size),
        String(vip.size),
        String(state.stock),
        ...Object.entries(meta).flat(),
      ]),
    );
    if (reply === 'INCOMPLETE') throw saleUnavailable(`the load of item ${sale.itemId} was disturbed; try again`);
    return reply === 'THERE' ? 'LOADED' : (reply as 'LOADED' | 'STALE' | 'CLOSED');
  }

  private keysOf(itemId: bigint): SaleKeys {
    return this.server.keys.sale(itemId, this.segment);
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

  /** One result for each request. A call that fails as a whole is split, until the request at fault fails alone. */
  private async admitBatch(
    lane: Lane,
    itemId: bigint,
    requests: readonly PurchaseRequest[],
  ): Promise<readonly AdmissionResult[]> {
    try {
      return await this.admitTogether(lane, itemId, requests);
    } catch (cause) {
      // What concerns the whole sale concerns each half. A script raises before it writes, so nothing was done.
      if (isRedisAway(cause) || isUnreadable(cause)) throw asSaleUnavailable(cause);
      if (requests.length === 1) return [{ kind: 'FAILED', cause }];
      const half = requests.length >> 1;
      const first = await this.admitBatch(lane, itemId, requests.slice(0, half));
      return [...first, ...(await this.admitBatch(lane, itemId, requests.slice(half)))];
    }
  }

  private async admitTogether(
    lane: Lane,
    itemId: bigint,
    requests: readonly PurchaseRequest[],
  ): Promise<readonly AdmissionResult[]> {
    const args = [String(lane.epoch)];
    for (const r of requests) args.push(r.userId, String(r.quantity), requestField(r), r.traceparent);
    const { reply, replicated } = await this.runAdmit(itemId, args);
    const [status, , left, ...outcomes] = reply as [string, number, number, ...string[]];
    if (status !== 'OK') return requests.map(() => STALE);
    const admitted = outcomes.map((outcome) => resultOf(outcome, this.segment, replicated));
    lane.soldOutUntilMs = left <= 0 && admitted.at(-1)?.kind === 'SOLD_OUT' ? performance.now() + SOLD_OUT_MS : 0;
    return admitted;
  }

  private async runAdmit(itemId: bigint, args: readonly string[]): Promise<{ reply: unknown; replicated: boolean }> {
    const { admission, waitReplicas, readTimeoutMs } = this.server;
    const keys = this.keysOf(itemId);
    if (waitReplicas === 0) return { reply: await ADMIT.run(admission, keys, args), replicated: true };
    // Half of the time limit, so that the reply still comes in time.
    const wait = { replicas: waitReplicas, timeoutMs: Math.ceil(readTimeoutMs / 2) };
    const { reply, replicas } = await ADMIT.runAndWait(admission, keys, args, wait);
    return { reply, replicated: replicas >= waitReplicas };
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
const UNCONFIRMED: AdmissionResult = { kind: 'UNCONFIRMED' };
const ENDED: AdmissionResult = { kind: 'ENDED' };
const QUEUED = 'QUEUED ';
const INVALID = 'INVALID ';

/** A request id and a token's id as the scripts take them: the second behind a zero byte. */
function requestField({ requestId, tokenId }: PurchaseRequest): string {
  return tokenId ? `${requestId}\0${tokenId}` : requestId;
}

/** @param replicated whether enough replicas have what was admitted */
function resultOf(outcome: string, segment: number, replicated: boolean): AdmissionResult {
  if (outcome.startsWith(QUEUED)) {
    return replicated
      ? { kind: 'QUEUED', streamId: segmentStreamId(outcome.slice(QUEUED.length), segment) }
      : UNCONFIRMED;
  }
  if (outcome.startsWith(INVALID)) return { kind: 'INVALID', field: outcome.slice(INVALID.length) };
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
      throw new Error(`admit answered ${outcome}`);
  }
}

/** The reply of inspect.lua. */
function stateOf([nowMs, unreadable = '', ...texts]: readonly [number, ...string[]]): AdmissionState {
  const [epoch, saleId, version, startsMs, endsMs, limit, admitRate, closed, from, to, server, total] =
    texts as string[];
  const [runId, stock, req, returned, buyers, backlog, lastId] = texts.slice(12) as string[];
  const isWhole = unreadable === '' && closed !== '1' && epoch !== '' && total !== '' && stock !== '' && req !== '';
  const loaded: LoadedSale | undefined = isWhole
    ? {
        saleId: BigInt(saleId!),
        epoch: BigInt(epoch!),
        settingsVersion: BigInt(version!),
        startsAt: new Date(Number(startsMs)),
        endsAt: endsMs === '' ? undefined : new Date(Number(endsMs)),
        defaultLimit: Number(limit),
        admitRate: Number(admitRate),
        total: BigInt(total!),
        stock: BigInt(stock!),
        counted: [{ from: from || '0-0', to: to || '0-0' }],
        server: server!,
      }
    : undefined;
  return {
    now: new Date(nowMs),
    server: runId!,
    unreadable: unreadable === '' ? [] : [...new Set(unreadable.split(' '))],
    loaded,
    admitting: loaded ? [loaded.epoch] : [],
    closedEpoch: closed === '1' && epoch !== '' && unreadable === '' ? BigInt(epoch!) : undefined,
    backlog: Number(backlog),
    streamExhausted: lastId === LAST_STREAM_ID,
    mark: [epoch, version, total, closed, stock, req, returned, buyers, backlog, lastId].join(' '),
  };
}

function asSaleUnavailable(cause: unknown): unknown {
  if (isRedisAway(cause)) return saleUnavailable('admission does not answer; try again shortly', { cause });
  if (isUnreadable(cause)) return saleUnavailable('admission is being restored; try again shortly', { cause });
  return cause;
}

/** The reply. @throws SALE_UNAVAILABLE when Redis is away, or holds something else than it should */
export async function orSaleUnavailable<T>(reply: Promise<T>): Promise<T> {
  try {
    return await reply;
  } catch (err) {
    throw asSaleUnavailable(err);
  }
}
