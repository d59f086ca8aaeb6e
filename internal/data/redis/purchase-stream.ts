import type { Redis } from 'ioredis';
import { isUnavailable } from '../../../gen/common/v1/errors.js';
import {
  type Delivery,
  PurchaseConsumer,
  PurchaseStream,
  type ReadRequest,
  type ReadResult,
  type SettledEntry,
  type StreamEntry,
} from '../../biz/seckill/purchase-stream.js';
import type { Backlog } from '../../kratos/background/background-meter.js';
import { CONSUMERS, FINISH } from './lua-script.js';
import { asUnavailable, isRedisAway, orUnavailable, type RedisServer } from './redis.js';
import { StreamPolling } from './stream-polling.js';

export const GROUP = 'product';
/** Entries of one XRANGE. */
const PAGE = 5_000;
/** Entries of one call of the script that removes them. */
const MAX_FINISH = 1_000;
/** Arguments of an entry with a stock correction. */
const CORRECTION_ARGS = 7;
/** Pending entries of this consumer that may lie between the delivered ones. */
const MAX_OTHERS = 2_000;
/** SCAN steps of one discovery, so that a server full of other keys is searched bit by bit. */
const SCAN_STEPS = 20;
const SCAN_COUNT = 1_000;

type RawEntry = [id: string, fields: string[] | null];
type RawReply = [key: string, entries: RawEntry[]][] | null;

/** The stream or its group is gone, as after a flush; UNBLOCKED: while a read waited for it. */
const GROUP_GONE = /^(NOGROUP|UNBLOCKED)\b/;
/** One of the streams of a command cannot be read. */
const UNREADABLE = /^(NOGROUP|UNBLOCKED|WRONGTYPE)\b/;

/** What was read of one item, or the error. */
type ItemRead =
  | { readonly itemId: bigint; readonly deliveries: readonly Delivery[]; readonly err?: undefined }
  | { readonly itemId: bigint; readonly deliveries?: undefined; readonly err: unknown };

export class RedisPurchaseStream extends PurchaseStream {
  constructor(private readonly server: RedisServer) {
    super();
  }

  override async find(itemId: bigint, streamId: string): Promise<StreamEntry | undefined> {
    const { stream } = this.server.keys.sale(itemId);
    const [entry] = await orUnavailable(this.server.commands.xrange(stream, streamId, streamId));
    return entry && entryOf(entry);
  }

  override async oldest(itemId: bigint): Promise<StreamEntry | undefined> {
    const { stream } = this.server.keys.sale(itemId);
    const [entry] = await orUnavailable(this.server.commands.xrange(stream, '-', '+', 'COUNT', 1));
    return entry && entryOf(entry);
  }

  override async waiting(itemId: bigint): Promise<readonly StreamEntry[]> {
    const { stream } = this.server.keys.sale(itemId);
    const redis = this.server.commands;
    const [last] = await orUnavailable(redis.xrevrange(stream, '+', '-', 'COUNT', 1));
    if (!last) return [];
    const end = last[0];
    const entries: StreamEntry[] = [];
    for (let from = '-'; ; ) {
      const page = await orUnavailable(redis.xrange(stream, from, end, 'COUNT', PAGE));
      for (const raw of page) entries.push(entryOf(raw));
      if (page.length < PAGE) return entries;
      from = `(${page.at(-1)![0]}`;
    }
  }

  override async mayBeInMemory(itemId: bigint): Promise<boolean> {
    const keys = { consumers: this.server.keys.consumers(itemId) };
    return (await orUnavailable(CONSUMERS.run(this.server.commands, keys, ['', 'none']))) === 1;
  }
}

export class RedisPurchaseConsumer extends PurchaseConsumer {
  /** Waits for entries of all streams at once; undefined in a cluster, where no command can. */
  private readonly blocking: Redis | undefined;
  private readonly polling = new StreamPolling();
  private readonly keys: (itemId: bigint) => string;
  private readonly found = new Set<bigint>();
  /** Where the scan of each server goes on, by its address. */
  private readonly cursors = new Map<string, string>();
  /** The name of the last read; undefined: it has read nothing. */
  private lastName: string | undefined;

  /** @param name this consumer's alone, and the same after a restart, so that the consumer finds the entries it left unfinished */
  constructor(
    private readonly server: RedisServer,
    private readonly name: () => Promise<string>,
  ) {
    super();
    this.blocking = server.isCluster ? undefined : server.blocking('kaimai-consumer');
    this.keys = (itemId) => server.keys.sale(itemId).stream;
  }

  override async discover(candidates: readonly bigint[]): Promise<readonly bigint[]> {
    await this.scan();
    this.polling.expect(candidates);
    const unknown = candidates.filter((id) => !this.found.has(id));
    const exist = await Promise.all(unknown.map((id) => orUnavailable(this.server.commands.exists(this.keys(id)))));
    unknown.forEach((id, i) => {
      if (exist[i] === 1) this.found.add(id);
    });
    return [...this.found];
  }

  /** The entries of all streams that were found; the age is that of the oldest one, by the time in its id. */
  async backlog(): Promise<Backlog> {
    let units = 0;
    let oldestAtMs = Number.POSITIVE_INFINITY;
    for (const itemId of this.found) {
      const key = this.keys(itemId);
      const first = await orUnavailable(this.server.commands.xrange(key, '-', '+', 'COUNT', 1)).catch(unlessWrongType);
      if (!first?.[0]) continue;
      units += await orUnavailable(this.server.commands.xlen(key));
      oldestAtMs = Math.min(oldestAtMs, Number(first[0][0].split('-', 1)[0]));
    }
    return { units, oldestAgeMs: units === 0 ? 0 : Math.max(0, Date.now() - oldestAtMs) };
  }

  override async join(itemIds: readonly bigint[]): Promise<ReadonlyMap<bigint, unknown>> {
    const unusable = new Map<bigint, unknown>();
    await Promise.all(
      itemIds.map(async (itemId) => {
        try {
          // From the first entry on: entries that were added before the group existed count too.
          await this.server.commands.xgroup('CREATE', this.keys(itemId), GROUP, '0', 'MKSTREAM');
        } catch (err) {
          if (isRedisAway(err)) throw asUnavailable(err);
          if (!/^BUSYGROUP\b/.test((err as Error).message)) unusable.set(itemId, err);
        }
      }),
    );
    return unusable;
  }

  override async read(requests: readonly ReadRequest[], count: number, blockMs: number): Promise<ReadResult> {
    const pending = requests.filter((r) => r.from === 'pending').map((r) => r.itemId);
    const fresh = requests.filter((r) => r.from === 'new').map((r) => r.itemId);
    const reads: ItemRead[] = [];
    for (const itemId of pending) reads.push(await this.readOne(itemId, () => this.readPending(itemId, count)));
    if (fresh.length > 0) {
      const waitMs = pending.length > 0 ? undefined : blockMs;
      const read = this.blocking ? this.readNew(fresh, count, waitMs) : this.pollNew(fresh, count, waitMs);
      reads.push(...(await read));
    }
    const deliveries = new Map<bigint, readonly Delivery[]>();
    const groupless: bigint[] = [];
    const unreadable = new Map<bigint, unknown>();
    for (const read of reads) {
      if (read.deliveries) deliveries.set(read.itemId, read.deliveries);
      else if (GROUP_GONE.test((read.err as Error).message)) groupless.push(read.itemId);
      else unreadable.set(read.itemId, read.err);
    }
    return { deliveries, groupless, unreadable };
  }

  override async claim(itemId: bigint, idleMs: number, count: number): Promise<readonly Delivery[]> {
    const redis = this.server.commands;
    const reply = redis.xautoclaim(this.keys(itemId), GROUP, await this.takeName(), idleMs, '0-0', 'COUNT', count);
    const claimed = await orUnavailable(reply).catch((err: unknown) => {
      // The reader meets the same error and handles it.
      if (!(err instanceof Error) || !UNREADABLE.test(err.message)) throw err;
    });
    const raw = (claimed?.[1] ?? []) as RawEntry[];
    return raw.length === 0 ? [] : this.withDeliveries(itemId, raw.map(entryOf));
  }

  override async finish(itemId: bigint, entries: readonly SettledEntry[]): Promise<ReadonlySet<string>> {
    const later = new Set<string>();
    const keys = this.server.keys.sale(itemId);
    for (let i = 0; i < entries.length; i += MAX_FINISH) {
      const corrections: string[] = [];
      const others: string[] = [];
      for (const { streamId, uid, correction: c } of entries.slice(i, i + MAX_FINISH)) {
        if (!c) others.push(streamId, uid);
        else {
          const entryEpoch = c.entryEpoch === undefined ? '' : String(c.entryEpoch);
          corrections.push(streamId, String(c.epoch), entryEpoch, c.userId, String(c.quantity), c.outcome, uid);
        }
      }
      const args = [GROUP, String(corrections.length / CORRECTION_ARGS), ...corrections, ...others];
      for (const id of (await orUnavailable(FINISH.run(this.server.commands, keys, args))) as string[]) later.add(id);
    }
    return later;
  }

  override async report(oldestReadMs: number | undefined): Promise<void> {
    // Not a fresh name: this must go on while the database, which gives the names, is away.
    if (this.lastName === undefined) return;
    const age = oldestReadMs === undefined ? 'none' : String(Math.ceil(oldestReadMs));
    const args = [this.lastName, age];
    const keys = new Set([...this.found].map((itemId) => this.server.keys.consumers(itemId)));
    const reports = [...keys].map((consumers) => CONSUMERS.run(this.server.commands, { consumers }, args));
    // One server of a cluster that is away must not keep the others from hearing it.
    const failed = (await Promise.allSettled(reports)).find((r) => r.status === 'rejected');
    if (failed) throw asUnavailable(failed.reason);
  }

  override interrupt(): void {
    this.blocking?.disconnect();
    this.polling.interrupt();
  }

  private async takeName(): Promise<string> {
    this.lastName = await this.name();
    return this.lastName;
  }

  private async scan(): Promise<void> {
    await Promise.all(this.server.masters().map((master) => orUnavailable(this.scanServer(master))));
  }

  private async scanServer(master: Redis): Promise<void> {
    const server = `${master.options.host}:${master.options.port}`;
    const pattern = this.server.keys.streamPattern();
    for (let step = 0; step < SCAN_STEPS; step++) {
      const from = this.cursors.get(server) ?? '0';
      const [cursor, keys] = await master.scan(from, 'MATCH', pattern, 'COUNT', SCAN_COUNT, 'TYPE', 'stream');
      this.cursors.set(server, cursor);
      for (const key of keys) {
        const itemId = this.server.keys.itemOfStream(key);
        if (itemId !== undefined) this.found.add(itemId);
      }
      if (cursor === '0') return;
    }
  }

  private async readPending(itemId: bigint, count: number): Promise<readonly Delivery[]> {
    const stream = this.keys(itemId);
    const redis = this.server.commands;
    const reply = await redis.xreadgroup('GROUP', GROUP, await this.takeName(), 'COUNT', count, 'STREAMS', stream, '0');
    const raw = (reply as RawReply)?.[0]?.[1] ?? [];
    const gone = raw.filter(([, fields]) => fields === null).map(([id]) => id);
    // Another client deleted them from the stream; without their fields they cannot be settled.
    if (gone.length > 0) await redis.xack(stream, GROUP, ...gone);
    const entries = raw.filter(([, fields]) => fields !== null).map(entryOf);
    return entries.length === 0 ? [] : this.withDeliveries(itemId, entries);
  }

  /** One command for all items. It fails as a whole if one item cannot be read; then each is read by itself. */
  private async readNew(
    itemIds: readonly bigint[],
    count: number,
    blockMs: number | undefined,
  ): Promise<readonly ItemRead[]> {
    const streams = [...itemIds.map(this.keys), ...itemIds.map(() => '>')];
    const options = ['GROUP', GROUP, await this.takeName(), 'COUNT', count] as const;
    try {
      const reply = (await (blockMs === undefined
        ? this.server.commands.xreadgroup(...options, 'STREAMS', ...streams)
        : this.blocking!.xreadgroup(...options, 'BLOCK', blockMs, 'STREAMS', ...streams))) as RawReply;
      const entries = new Map((reply ?? []).map(([key, raw]) => [key, raw]));
      return itemIds.map((itemId) => ({ itemId, deliveries: firstDeliveries(entries.get(this.keys(itemId))) }));
    } catch (err) {
      if (!(err instanceof Error) || !UNREADABLE.test(err.message)) throw asUnavailable(err);
      return this.readEach(itemIds, count);
    }
  }

  /** One command for each item, whose stream may be on any server. */
  private async readEach(itemIds: readonly bigint[], count: number): Promise<readonly ItemRead[]> {
    const options = ['GROUP', GROUP, await this.takeName(), 'COUNT', count] as const;
    const reads = itemIds.map((itemId) =>
      this.readOne(itemId, async () => {
        const reply = this.server.commands.xreadgroup(...options, 'STREAMS', this.keys(itemId), '>');
        return firstDeliveries(((await reply) as RawReply)?.[0]?.[1]);
      }),
    );
    return Promise.all(reads);
  }

  /** Asks the streams that are due, and waits for the next one while there is nothing. */
  private async pollNew(
    itemIds: readonly bigint[],
    count: number,
    blockMs: number | undefined,
  ): Promise<readonly ItemRead[]> {
    const endMs = performance.now() + (blockMs ?? 0);
    for (;;) {
      const due = itemIds.filter((itemId) => this.polling.isDue(itemId));
      const reads = due.length > 0 ? await this.readEach(due, count) : [];
      for (const { itemId, deliveries } of reads) this.polling.note(itemId, (deliveries?.length ?? 0) > 0);
      if (reads.some((r) => r.deliveries?.length !== 0)) return reads;
      // What found nothing is said once in a while, so that a stream counts as recovered.
      if (performance.now() >= endMs) return reads;
      if (!(await this.polling.wait(itemIds, endMs))) return reads;
    }
  }

  /** @throws UNAVAILABLE; any other error is about this item alone */
  private async readOne(itemId: bigint, read: () => Promise<readonly Delivery[]>): Promise<ItemRead> {
    try {
      return { itemId, deliveries: await read() };
    } catch (err) {
      if (isRedisAway(err) || isUnavailable(err)) throw asUnavailable(err);
      return { itemId, err };
    }
  }

  private async withDeliveries(itemId: bigint, entries: readonly StreamEntry[]): Promise<readonly Delivery[]> {
    const [first, last] = [entries[0]!.streamId, entries.at(-1)!.streamId];
    const redis = this.server.commands;
    const pending = (await orUnavailable(
      redis.xpending(this.keys(itemId), GROUP, first, last, entries.length + MAX_OTHERS, await this.takeName()),
    )) as [string, string, number, number][];
    const counts = new Map(pending.map(([id, , , deliveries]) => [id, deliveries]));
    return entries.map((entry) => ({ ...entry, deliveries: counts.get(entry.streamId) ?? 1 }));
  }
}

function entryOf([streamId, raw]: readonly [string, string[] | null]): StreamEntry {
  const fields = new Map<string, string>();
  for (let i = 0; raw !== null && i + 1 < raw.length; i += 2) fields.set(raw[i]!, raw[i + 1]!);
  return { streamId, fields };
}

function firstDeliveries(raw: readonly RawEntry[] = []): readonly Delivery[] {
  return raw.filter(([, fields]) => fields !== null).map((entry) => ({ ...entryOf(entry), deliveries: 1 }));
}

function unlessWrongType(err: unknown): undefined {
  if (!(err instanceof Error) || !err.message.startsWith('WRONGTYPE')) throw err;
}
