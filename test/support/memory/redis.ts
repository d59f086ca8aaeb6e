import { unavailable } from '../../../gen/common/v1/errors.js';
import { saleUnavailable } from '../../../gen/seckill/v1/errors.js';
import type {
  AdmissionLoad,
  AdmissionResult,
  AdmissionState,
  CountedEntries,
  EpochOfItem,
  LoadedSale,
  PurchaseRequest,
  SettingsChange,
  UnitsReturn,
  Withdrawal,
} from '../../../internal/biz/seckill/admission.js';
import {
  compareStreamIds,
  type SettledEntry,
  type StreamEntry,
} from '../../../internal/biz/seckill/purchase-stream.js';
import type { Sale } from '../../../internal/biz/seckill/sale-state.js';
import { segmentStreamId } from '../../../internal/biz/seckill/segment.js';
import type { Level, UnitMove } from '../../../internal/data/redis/unit-moves.js';
import { type MemoryItemKeys, type MemoryMeta, type NotedMove, noKeys } from './redis-keys.js';
import { type Around, Conflict, ConnectionLost, ProcessDied } from './store.js';

const SEEN_WINDOW_MS = 600_000;
const LEASE_MS = 3_000;
const NOTHING: CountedEntries = { from: '0-0', to: '0-0' };

/**
 * The data of a Redis server, which has one segment of each item, and the scripts of `internal/data/redis/lua` in TypeScript: each method is one script or
 * command, so it runs as a whole. The contract tests of admission compare the two.
 */
export class MemoryRedis {
  serverId = 'redis-1';
  private items = new Map<bigint, MemoryItemKeys>();
  private changes = 0;
  private takeovers = 0;
  /** The server's clock is ahead of `now` by this; each entry takes a millisecond. */
  private aheadMs = 0;
  /** Those of the segments from 1 on. */
  private readonly others: this[] = [];

  constructor(
    readonly now: () => number = Date.now,
    private readonly around: Around = (_operation, work) => work(),
    protected readonly segment = 0,
  ) {}

  /** The server of a segment: each segment has its own. Ask the one of segment 0. */
  at(segment: number): this {
    const Server = this.constructor as new (...args: ConstructorParameters<typeof MemoryRedis>) => this;
    for (let k = this.others.length + 1; k <= segment; k++) this.others.push(new Server(this.now, this.around, k));
    return segment === 0 ? this : this.others[segment - 1]!;
  }

  /** Of all segments that were asked for. */
  get servers(): readonly this[] {
    return [this, ...this.others];
  }

  /** One command on its way there and back. @throws what `lost` makes where there is no reply */
  async call<T>(operation: string, lost: (cause: unknown) => unknown, work: () => T): Promise<T> {
    try {
      return await this.around(operation, async () => work());
    } catch (err) {
      if (err instanceof ProcessDied) {
        err.onReleased();
        return new Promise(() => {});
      }
      throw err instanceof ConnectionLost || err instanceof Conflict ? lost(err) : err;
    }
  }

  /** All data is lost. */
  flush(): void {
    this.items = new Map();
  }

  /** What a replica has that hears no more from now on. */
  copy(): ReadonlyMap<bigint, MemoryItemKeys> {
    return structuredClone(this.items);
  }

  /** Another server takes over, with the data of `copy`. One whose clock is behind gives stream ids a second time. */
  failOver(copy: ReadonlyMap<bigint, MemoryItemKeys>, behindMs = 0): void {
    this.items = new Map(structuredClone(copy));
    this.aheadMs -= behindMs;
    this.serverId = `redis-${++this.takeovers + 1}`;
  }

  /** XADD, by any client. */
  add(itemId: bigint, fields: ReadonlyMap<string, string>): string {
    const keys = this.write(itemId);
    const nowMs = this.now() + this.aheadMs++;
    const { ms, sequence } = keys.lastId;
    keys.lastId = nowMs > ms ? { ms: nowMs, sequence: 0 } : { ms, sequence: sequence + 1 };
    const streamId = segmentStreamId(`${keys.lastId.ms}-${keys.lastId.sequence}`, this.segment);
    keys.stream.push({ streamId, fields });
    return streamId;
  }

  /** Of this server. */
  entries(itemId: bigint): readonly StreamEntry[] {
    return [...(this.items.get(itemId)?.stream ?? [])];
  }

  /** Of all servers. */
  get itemIds(): readonly bigint[] {
    return [...new Set(this.servers.flatMap(({ items }) => [...items.keys()]))];
  }

  unitsOf(itemId: bigint): ReadonlyMap<string, number> {
    return new Map(this.items.get(itemId)?.buyers);
  }

  returnedOf(itemId: bigint): ReadonlySet<string> {
    return new Set(this.items.get(itemId)?.returned);
  }

  admit({ itemId, epoch }: EpochOfItem, requests: readonly PurchaseRequest[]): readonly AdmissionResult[] {
    const keys = this.items.get(itemId);
    const loaded = keys?.meta?.loaded;
    if (!keys || loaded?.epoch !== epoch || keys.stock === undefined) return requests.map(() => ({ kind: 'STALE' }));
    return requests.map((request) => this.admitOne(itemId, this.write(itemId), loaded, request));
  }

  findAdmitted(itemId: bigint, requests: readonly PurchaseRequest[]): readonly AdmissionResult[] {
    const keys = this.items.get(itemId);
    return requests.map((request) => {
      const streamId = keys && this.seenId(keys, request);
      return streamId === undefined ? { kind: 'ENDED' } : { kind: 'QUEUED', streamId };
    });
  }

  inspect(itemId: bigint): AdmissionState {
    const keys = this.items.get(itemId);
    const { meta, stock } = keys ?? { meta: undefined, stock: undefined };
    const loaded = meta?.loaded && !meta.closed && stock !== undefined ? meta.loaded : undefined;
    return {
      now: new Date(this.now()),
      server: this.serverId,
      unreadable: [],
      loaded: loaded && stock !== undefined ? loadedSale(loaded, stock) : undefined,
      admitting: loaded ? [loaded.epoch] : [],
      closedEpoch: meta?.closed ? meta.epoch : undefined,
      backlog: keys?.stream.length ?? 0,
      streamExhausted: false,
      mark: String(this.changes),
    };
  }

  configure({ itemId, epoch }: EpochOfItem, change: SettingsChange): boolean {
    const meta = this.items.get(itemId)?.meta;
    if (meta?.loaded?.epoch !== epoch || meta.loaded.settingsVersion !== change.from) return false;
    if (this.items.get(itemId)?.stock === undefined) return false;
    const keys = this.write(itemId);
    const { to: settingsVersion, total, defaultLimit, admitRate } = change;
    const endsMs = endOf(change);
    keys.stock = (keys.stock ?? 0n) + total - meta.loaded.total;
    keys.meta = { ...meta, loaded: { ...meta.loaded, settingsVersion, total, endsMs, defaultLimit, admitRate } };
    for (const { userId, units } of change.vipLimits) keys.vip.set(userId, units);
    return true;
  }

  withdraw({ itemId, epoch, settingsVersion }: Sale, total: bigint): Withdrawal {
    const { meta, stock } = this.items.get(itemId) ?? {};
    const loaded = meta?.loaded;
    if (loaded?.epoch !== epoch || loaded.settingsVersion !== settingsVersion || stock === undefined) {
      return { kind: 'OTHER' };
    }
    const less = loaded.total - total;
    if (less > 0n && stock < less) return { kind: 'SHORT', stock };
    const keys = this.write(itemId);
    keys.stock = stock - less;
    keys.meta = { epoch, closed: meta?.closed ?? false, loaded: { ...loaded, total } };
    return { kind: 'WITHDRAWN' };
  }

  close({ itemId, epoch }: EpochOfItem): void {
    const keys = this.write(itemId);
    const { meta } = keys;
    if (meta && meta.epoch > epoch) return;
    if (meta?.epoch === epoch) {
      const endsMs = Math.min(meta.loaded?.endsMs ?? this.now(), this.now());
      keys.meta = { epoch, closed: true, loaded: meta.loaded && { ...meta.loaded, endsMs } };
      return;
    }
    keys.stock = undefined;
    keys.meta = { epoch, closed: true, loaded: undefined };
  }

  returnUnits({ itemId, epoch, returnId, userId, quantity }: UnitsReturn): boolean {
    const { meta, stock } = this.items.get(itemId) ?? {};
    if (!meta || stock === undefined || meta.epoch < epoch) return false;
    const keys = this.write(itemId);
    if (meta.epoch > epoch || keys.returned.has(String(returnId))) return true;
    keys.returned.add(String(returnId));
    this.changeUnits(keys, userId, quantity);
    return true;
  }

  lease(itemId: bigint, token: string): boolean {
    const keys = this.write(itemId);
    const { loading } = keys;
    if (loading && loading.token !== token && loading.untilMs > this.now()) return false;
    keys.loading = { token, untilMs: this.now() + LEASE_MS };
    return true;
  }

  release(itemId: bigint, token: string): void {
    const keys = this.write(itemId);
    if (keys.loading?.token === token) keys.loading = undefined;
  }

  suspend(itemId: bigint, token: string): boolean {
    const keys = this.write(itemId);
    if (keys.loading?.token !== token || keys.loading.untilMs <= this.now()) return false;
    if (!keys.meta?.closed) keys.meta = undefined;
    return true;
  }

  load({ sale, stock, counted, buyers, vipLimits, backlogLimit }: AdmissionLoad): 'LOADED' | 'STALE' | 'CLOSED' {
    const keys = this.write(sale.itemId);
    const { meta } = keys;
    if (meta && meta.epoch > sale.epoch) return 'STALE';
    if (meta?.epoch === sale.epoch && meta.closed) return 'CLOSED';
    if (meta?.epoch === sale.epoch && keys.stock !== undefined) return 'LOADED';
    const { id: saleId, epoch, settingsVersion, startsAt, total, defaultLimit, admitRate } = sale;
    const settings = { saleId, epoch, settingsVersion, startsAt, endsMs: endOf(sale), total, defaultLimit, admitRate };
    const loaded = { ...settings, counted, backlogLimit, server: this.serverId };
    keys.meta = { epoch, closed: false, loaded };
    keys.stock = stock;
    keys.req = (epoch << 32n) + BigInt(this.segment * Math.floor(2 ** 32 / sale.segments));
    keys.buyers = new Map(buyers);
    keys.vip = new Map(vipLimits.map((v) => [v.userId, v.units]));
    keys.returned = new Set();
    keys.moves = { out: new Map(), arrived: 0 };
    return 'LOADED';
  }

  level({ itemId, epoch }: EpochOfItem): Level | undefined {
    const { meta, stock, moves } = this.items.get(itemId) ?? {};
    if (meta?.loaded?.epoch !== epoch || meta.closed || stock === undefined || !moves) return undefined;
    const noted = [...moves.out].map(([id, move]) => ({ id, from: this.segment, ...move }));
    return { segment: this.segment, stock, movedIn: moves.arrived, moves: noted };
  }

  /** Units that are in no segment of the item, by their moves. */
  movesUnderWay(itemId: bigint, epoch: bigint): readonly UnitMove[] {
    const noted = this.servers.flatMap((server) => server.level({ itemId, epoch })?.moves ?? []);
    return noted.filter(({ id, to }) => !this.at(to).items.get(itemId)?.returned.has(`move:${id}`));
  }

  /** @returns the units that were taken */
  moveOut(sale: EpochOfItem, id: string, { to, units: wanted }: NotedMove): bigint {
    const { stock = 0n } = this.level(sale) ?? {};
    const units = wanted < stock ? wanted : stock;
    if (units <= 0n) return 0n;
    const keys = this.write(sale.itemId);
    keys.stock = stock - units;
    keys.moves.out.set(id, { to, units });
    return units;
  }

  moveIn({ itemId, epoch }: EpochOfItem, id: string, units: bigint): void {
    const { meta, stock, returned } = this.items.get(itemId) ?? {};
    if (meta?.epoch !== epoch || stock === undefined || returned?.has(`move:${id}`)) return;
    const keys = this.write(itemId);
    keys.returned.add(`move:${id}`);
    keys.moves.arrived++;
    keys.stock = stock + units;
  }

  forgetMove(itemId: bigint, id: string): void {
    this.write(itemId).moves.out.delete(id);
  }

  /** The script `finish`. @returns the entries that must wait */
  finish(itemId: bigint, entries: readonly SettledEntry[]): ReadonlySet<string> {
    const keys = this.write(itemId);
    const waiting = new Set<string>();
    for (const { streamId, uid, correction } of entries) {
      const there = keys.meta?.epoch;
      if (correction && (there === undefined || keys.stock === undefined || there < correction.epoch)) {
        waiting.add(streamId);
        continue;
      }
      // The same id with another user is another entry.
      const isOther = (e: StreamEntry) => uid !== '' && e.fields.get('uid') !== uid;
      keys.stream = keys.stream.filter((e) => e.streamId !== streamId || isOther(e));
      if (correction?.epoch !== there || !correction) continue;
      const { userId, quantity, outcome } = correction;
      const holds = correction.entryEpoch === there || this.wasCounted(keys, streamId) ? quantity : 0;
      this.correct(keys, `${streamId} ${uid}`, userId, { holds, keeps: outcome === 'ORDER' ? quantity : 0 });
    }
    return waiting;
  }

  /** An entry that held units of the stock keeps fewer of them, or more, once. */
  protected correct(keys: MemoryItemKeys, id: string, userId: string, units: { holds: number; keeps: number }): void {
    if (units.holds === units.keeps || keys.returned.has(id)) return;
    keys.returned.add(id);
    this.changeUnits(keys, userId, units.holds - units.keeps);
  }

  /** Units of a user become free. */
  protected changeUnits(keys: MemoryItemKeys, userId: string, free: number): void {
    keys.stock = (keys.stock ?? 0n) + BigInt(free);
    const has = (keys.buyers.get(userId) ?? 0) - free;
    if (has === 0) keys.buyers.delete(userId);
    else keys.buyers.set(userId, has);
  }

  private admitOne(itemId: bigint, keys: MemoryItemKeys, sale: MemoryMeta, request: PurchaseRequest): AdmissionResult {
    const seen = this.seenId(keys, request);
    if (seen !== undefined) {
      this.remember(keys, request, seen);
      return { kind: 'QUEUED', streamId: seen };
    }
    const nowMs = this.now();
    const { userId, quantity } = request;
    if (nowMs < sale.startsAt.getTime()) return { kind: 'NOT_STARTED' };
    if (nowMs >= sale.endsMs) return { kind: 'ENDED' };
    if ((keys.stock ?? 0n) < BigInt(quantity)) return { kind: 'SOLD_OUT' };
    const units = (keys.buyers.get(userId) ?? 0) + quantity;
    if (units > (keys.vip.get(userId) ?? sale.defaultLimit)) return { kind: 'LIMIT_REACHED' };
    if (keys.stream.length >= sale.backlogLimit) return { kind: 'BACKLOG_FULL' };
    const fields = { uid: userId, req_id: String(++keys.req), ts: String(nowMs), qty: String(quantity) };
    const streamId = this.add(itemId, new Map(Object.entries({ ...fields, epoch: String(sale.epoch) })));
    keys.stock = (keys.stock ?? 0n) - BigInt(quantity);
    keys.buyers.set(userId, units);
    this.remember(keys, request, streamId);
    return { kind: 'QUEUED', streamId };
  }

  protected remember(keys: MemoryItemKeys, request: PurchaseRequest, streamId: string): void {
    const window = this.window();
    for (const field of seenFields(request)) {
      if (this.seenIn(keys, field) === undefined) keys.seen.set(field, { streamId, window });
    }
  }

  protected forgetReturned(itemId: bigint, id: string): void {
    this.items.get(itemId)?.returned.delete(id);
  }

  private seenId(keys: MemoryItemKeys, request: PurchaseRequest): string | undefined {
    for (const field of seenFields(request)) {
      const id = this.seenIn(keys, field);
      if (id !== undefined) return id;
    }
    return undefined;
  }

  private seenIn(keys: MemoryItemKeys, field: string): string | undefined {
    const seen = keys.seen.get(field);
    return seen !== undefined && seen.window >= this.window() - 1 ? seen.streamId : undefined;
  }

  private window(): number {
    return Math.floor(this.now() / SEEN_WINDOW_MS);
  }

  private wasCounted({ meta }: MemoryItemKeys, streamId: string): boolean {
    const { from, to } = meta?.loaded?.counted[0] ?? NOTHING;
    return compareStreamIds(from, streamId) <= 0 && compareStreamIds(streamId, to) <= 0;
  }

  private write(itemId: bigint): MemoryItemKeys {
    this.changes++;
    const keys = this.items.get(itemId) ?? noKeys();
    this.items.set(itemId, keys);
    return keys;
  }
}

export function saleAway(cause: unknown): unknown {
  return saleUnavailable('admission does not answer', { cause });
}

export function streamAway(cause: unknown): unknown {
  return unavailable('the streams do not answer', { cause });
}

function endOf({ endsAt }: Pick<Sale, 'endsAt'>): number {
  return endsAt?.getTime() ?? Number.POSITIVE_INFINITY;
}

function loadedSale({ endsMs, backlogLimit: _, ...sale }: MemoryMeta, stock: bigint): LoadedSale {
  return { ...sale, stock, endsAt: endsMs === Number.POSITIVE_INFINITY ? undefined : new Date(endsMs) };
}

/** The token's id first, as in the script. */
function seenFields({ userId, requestId, tokenId }: PurchaseRequest): string[] {
  return [...(tokenId ? [`${userId}:\0${tokenId}`] : []), ...(requestId === '' ? [] : [`${userId}:${requestId}`])];
}
