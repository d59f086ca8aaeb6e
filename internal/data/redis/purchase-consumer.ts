import type { Redis } from 'ioredis';
import { isUnavailable } from '../../../gen/common/v1/errors.js';
import {
  type Delivery,
  type ItemSegments,
  PurchaseConsumer,
  type ReadRequest,
  type ReadResult,
  type SettledEntry,
} from '../../biz/seckill/purchase-stream.js';
import { segmentOf, segmentStreamId, segmentsOf, withoutSegment } from '../../biz/seckill/segment.js';
import type { Backlog } from '../../kratos/background/background-meter.js';
import { CONSUMERS, FINISH } from './lua-script.js';
import { entryOf, GROUP, inOrder, type RawEntry } from './purchase-stream.js';
import { asUnavailable, isRedisAway, orUnavailable, type RedisServer } from './redis.js';
import type { SegmentStream } from './seckill-keys.js';
import { StreamPolling } from './stream-polling.js';
import { StreamReach } from './stream-reach.js';
import { StreamScan } from './stream-scan.js';

/** Entries of one call of the script that removes them. */
const MAX_FINISH = 1_000;
/** Arguments of an entry with a stock correction. */
const CORRECTION_ARGS = 7;
/** Pending entries of this consumer that may lie between the delivered ones. */
const MAX_OTHERS = 2_000;

type RawReply = [key: string, entries: RawEntry[]][] | null;

/** The stream or its group is gone, as after a flush; UNBLOCKED: while a read waited for it. */
const GROUP_GONE = /^(NOGROUP|UNBLOCKED)\b/;
/** One of the streams of a command cannot be read. */
const UNREADABLE = /^(NOGROUP|UNBLOCKED|WRONGTYPE)\b/;

/** What was read of one stream, or the error. */
type StreamRead = SegmentStream &
  (
    | { readonly deliveries: readonly Delivery[]; readonly err?: undefined }
    | { readonly deliveries?: undefined; readonly err: unknown }
  );

export class RedisPurchaseConsumer extends PurchaseConsumer {
  /** Waits for entries of all streams at once; undefined in a cluster, where no command can. */
  private readonly blocking: Redis | undefined;
  private readonly polling = new StreamPolling();
  private readonly reach: StreamReach;
  private readonly scan: StreamScan;
  /** The segments of each item whose streams were found. */
  private readonly found = new Map<bigint, Set<number>>();
  /** The name of the last read; undefined: it has read nothing. */
  private lastName: string | undefined;

  /** @param name this consumer's alone, and the same after a restart, so that the consumer finds the entries it left unfinished */
  constructor(
    private readonly server: RedisServer,
    private readonly name: () => Promise<string>,
  ) {
    super();
    this.blocking = server.isCluster ? undefined : server.blocking('kaimai-consumer');
    this.reach = new StreamReach((stream) => server.commands.xlen(this.keyOf(stream)));
    this.scan = new StreamScan(server, (stream) => this.add(stream));
  }

  override async discover(candidates: readonly ItemSegments[]): Promise<readonly bigint[]> {
    await this.scan.run();
    this.polling.expect(candidates.map((c) => c.itemId));
    const unknown = candidates.filter(({ itemId, segments }) => (this.found.get(itemId)?.size ?? 0) < segments);
    await Promise.all(
      unknown.map(async ({ itemId, segments }) => {
        const streams = segmentsOf(segments).map((segment) => ({ itemId, segment }));
        const exist = await Promise.all(
          streams.map((s) => this.unlessAway(s, async () => (await this.server.commands.exists(this.keyOf(s))) === 1)),
        );
        // Where one is there the others will be: `join` creates them.
        if (exist.includes(true)) for (const stream of streams) this.add(stream);
      }),
    );
    return [...this.found.keys()];
  }

  /** The entries of all streams that were found and are not away; the age is that of the oldest one, by the time in its id. */
  async backlog(): Promise<Backlog> {
    let units = 0;
    let oldestAtMs = Number.POSITIVE_INFINITY;
    for (const stream of this.allStreams()) {
      if (this.reach.isAway(stream)) continue;
      const key = this.keyOf(stream);
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
        const faults = await Promise.all(this.streamsOf(itemId).map((stream) => this.joinOne(stream)));
        // One that cannot be used is met again by the read, which reads the others.
        if (faults.every((fault) => fault !== undefined)) unusable.set(itemId, faults[0]);
      }),
    );
    return unusable;
  }

  /** @returns the fault of a key that cannot be used; a stream that is away is joined when it is back */
  private joinOne(stream: SegmentStream): Promise<unknown> {
    return this.unlessAway(stream, async () => {
      try {
        // From the first entry on: entries that were added before the group existed count too.
        await this.server.commands.xgroup('CREATE', this.keyOf(stream), GROUP, '0', 'MKSTREAM');
      } catch (err) {
        if (isRedisAway(err)) throw err;
        if (!/^BUSYGROUP\b/.test((err as Error).message)) return err;
      }
      return undefined;
    });
  }

  override async read(requests: readonly ReadRequest[], count: number, blockMs: number): Promise<ReadResult> {
    this.reach.retry();
    const name = await this.takeName();
    const streamsFrom = (from: ReadRequest['from']) =>
      this.reachable(requests.filter((r) => r.from === from).flatMap((r) => this.streamsOf(r.itemId)));
    const pending = streamsFrom('pending');
    const fresh = streamsFrom('new');
    const reads = await Promise.all(
      pending.map((stream) => this.readOne(stream, () => this.readPending(stream, name, count))),
    );
    if (fresh.length > 0) {
      const waitMs = pending.length > 0 ? undefined : blockMs;
      const read = this.blocking ? this.readNew(fresh, name, count, waitMs) : this.pollNew(fresh, name, count, waitMs);
      reads.push(...(await read));
    } else if (pending.length === 0 && requests.length > 0) {
      await this.polling.wait([], performance.now() + blockMs);
    }
    return {
      ...resultOf(reads.filter((read) => read !== undefined)),
      away: this.reach.items,
      back: this.reach.takeBack().map(({ itemId }) => itemId),
    };
  }

  override reaches(itemId: bigint, streamId: string): boolean {
    return !this.reach.isAway({ itemId, segment: segmentOf(streamId) });
  }

  override async claim(itemId: bigint, idleMs: number, count: number): Promise<readonly Delivery[]> {
    const claimed: Delivery[] = [];
    const name = await this.takeName();
    for (const stream of this.streamsOf(itemId)) {
      const left = count - claimed.length;
      if (left === 0) break;
      claimed.push(...((await this.unlessAway(stream, () => this.claimIn(stream, name, idleMs, left))) ?? []));
    }
    return claimed;
  }

  override async finish(itemId: bigint, entries: readonly SettledEntry[]): Promise<ReadonlySet<string>> {
    const parts = Map.groupBy(entries, (e) => segmentOf(e.streamId));
    const later = await Promise.all(
      [...parts].map(async ([segment, own]) => {
        const stream = { itemId, segment };
        const unfinished = await this.unlessAway(stream, () => this.finishIn(stream, own));
        // What was finished before the server went away is finished again, which changes nothing.
        return unfinished?.map((id) => segmentStreamId(id, segment)) ?? own.map((e) => e.streamId);
      }),
    );
    return new Set(later.flat());
  }

  override async report(oldestReadMs: number | undefined): Promise<void> {
    // Not a fresh name: this must go on while the database, which gives the names, is away.
    if (this.lastName === undefined) return;
    const age = oldestReadMs === undefined ? 'none' : String(Math.ceil(oldestReadMs));
    const args = [this.lastName, age];
    const streams = new Map(this.allStreams().map((s) => [this.server.keys.consumers(s.itemId, s.segment), s]));
    const reports = [...streams].map(([consumers, stream]) =>
      this.unlessAway(stream, () => CONSUMERS.run(this.server.commands, { consumers }, args)),
    );
    // One that fails must not keep the others from being sent.
    const failed = (await Promise.allSettled(reports)).find((r) => r.status === 'rejected');
    if (failed) throw failed.reason;
  }

  override interrupt(): void {
    this.blocking?.disconnect();
    this.polling.interrupt();
  }

  private keyOf({ itemId, segment }: SegmentStream): string {
    return this.server.keys.sale(itemId, segment).stream;
  }

  private streamsOf(itemId: bigint): readonly SegmentStream[] {
    return [...(this.found.get(itemId) ?? [0])].map((segment) => ({ itemId, segment }));
  }

  private allStreams(): readonly SegmentStream[] {
    return [...this.found.keys()].flatMap((itemId) => this.streamsOf(itemId));
  }

  private add({ itemId, segment }: SegmentStream): void {
    const segments = this.found.get(itemId);
    if (segments) segments.add(segment);
    else this.found.set(itemId, new Set([segment]));
  }

  private async takeName(): Promise<string> {
    this.lastName = await this.name();
    return this.lastName;
  }

  /**
   * Runs a command on a stream, unless it is known to be away. On one server nothing is left out: what cannot reach one
   * stream can reach none.
   * @returns undefined where it is away
   * @throws UNAVAILABLE on one server
   */
  private async unlessAway<T>(stream: SegmentStream, command: () => Promise<T>): Promise<T | undefined> {
    if (this.reach.isAway(stream)) return undefined;
    try {
      return await command();
    } catch (err) {
      if (!isRedisAway(err) && !isUnavailable(err)) throw err;
      if (!this.server.isCluster) throw asUnavailable(err);
      this.reach.leaveOut(stream, err);
      return undefined;
    }
  }

  private reachable(streams: readonly SegmentStream[]): readonly SegmentStream[] {
    return streams.filter((stream) => !this.reach.isAway(stream));
  }

  private async claimIn(
    stream: SegmentStream,
    name: string,
    idleMs: number,
    count: number,
  ): Promise<readonly Delivery[]> {
    const redis = this.server.commands;
    const reply = redis.xautoclaim(this.keyOf(stream), GROUP, name, idleMs, '0-0', 'COUNT', count);
    const claimed = await orUnavailable(reply).catch((err: unknown) => {
      // The reader meets the same error and handles it.
      if (!(err instanceof Error) || !UNREADABLE.test(err.message)) throw err;
    });
    const raw = (claimed?.[1] ?? []) as RawEntry[];
    return raw.length === 0 ? [] : this.withDeliveries(stream, name, raw);
  }

  private async finishIn({ itemId, segment }: SegmentStream, entries: readonly SettledEntry[]): Promise<string[]> {
    const later: string[] = [];
    const keys = this.server.keys.sale(itemId, segment);
    for (let i = 0; i < entries.length; i += MAX_FINISH) {
      const corrections: string[] = [];
      const others: string[] = [];
      for (const { streamId, uid, correction: c } of entries.slice(i, i + MAX_FINISH)) {
        const id = withoutSegment(streamId);
        if (!c) others.push(id, uid);
        else {
          const entryEpoch = c.entryEpoch === undefined ? '' : String(c.entryEpoch);
          corrections.push(id, String(c.epoch), entryEpoch, c.userId, String(c.quantity), c.outcome, uid);
        }
      }
      const args = [GROUP, String(corrections.length / CORRECTION_ARGS), ...corrections, ...others];
      later.push(...((await orUnavailable(FINISH.run(this.server.commands, keys, args))) as string[]));
    }
    return later;
  }

  private async readPending(stream: SegmentStream, name: string, count: number): Promise<readonly Delivery[]> {
    const key = this.keyOf(stream);
    const redis = this.server.commands;
    const reply = await redis.xreadgroup('GROUP', GROUP, name, 'COUNT', count, 'STREAMS', key, '0');
    const raw = (reply as RawReply)?.[0]?.[1] ?? [];
    const gone = raw.filter(([, fields]) => fields === null).map(([id]) => id);
    // Another client deleted them from the stream; without their fields they cannot be settled.
    if (gone.length > 0) await redis.xack(key, GROUP, ...gone);
    const entries = raw.filter(([, fields]) => fields !== null);
    return entries.length === 0 ? [] : this.withDeliveries(stream, name, entries);
  }

  /** One command for all streams. It fails as a whole if one stream cannot be read; then each is read by itself. */
  private async readNew(
    streams: readonly SegmentStream[],
    name: string,
    count: number,
    blockMs: number | undefined,
  ): Promise<readonly (StreamRead | undefined)[]> {
    const keys = streams.map((s) => this.keyOf(s));
    const from = [...keys, ...keys.map(() => '>')];
    const options = ['GROUP', GROUP, name, 'COUNT', count] as const;
    try {
      const reply = (await (blockMs === undefined
        ? this.server.commands.xreadgroup(...options, 'STREAMS', ...from)
        : this.blocking!.xreadgroup(...options, 'BLOCK', blockMs, 'STREAMS', ...from))) as RawReply;
      const entries = new Map((reply ?? []).map(([key, raw]) => [key, raw]));
      return streams.map((stream, i) => ({
        ...stream,
        deliveries: firstDeliveries(stream, entries.get(keys[i]!)),
      }));
    } catch (err) {
      if (!(err instanceof Error) || !UNREADABLE.test(err.message)) throw asUnavailable(err);
      return this.readEach(streams, name, count);
    }
  }

  /** One command for each stream, which may be on any server. */
  private async readEach(
    streams: readonly SegmentStream[],
    name: string,
    count: number,
  ): Promise<readonly (StreamRead | undefined)[]> {
    const options = ['GROUP', GROUP, name, 'COUNT', count] as const;
    const reads = streams.map((stream) =>
      this.readOne(stream, async () => {
        const reply = this.server.commands.xreadgroup(...options, 'STREAMS', this.keyOf(stream), '>');
        return firstDeliveries(stream, ((await reply) as RawReply)?.[0]?.[1]);
      }),
    );
    return Promise.all(reads);
  }

  /** Asks the streams of the items that are due, and waits for the next item while there is nothing. */
  private async pollNew(
    streams: readonly SegmentStream[],
    name: string,
    count: number,
    blockMs: number | undefined,
  ): Promise<readonly StreamRead[]> {
    const endMs = performance.now() + (blockMs ?? 0);
    for (;;) {
      const there = this.reachable(streams);
      const itemIds = [...new Set(there.map((s) => s.itemId))];
      const due = new Set(itemIds.filter((itemId) => this.polling.isDue(itemId)));
      const asked = there.filter((s) => due.has(s.itemId));
      const reads = (await this.readEach(asked, name, count)).filter((read) => read !== undefined);
      for (const [itemId, own] of Map.groupBy(reads, (r) => r.itemId)) {
        this.polling.note(
          itemId,
          own.some((r) => (r.deliveries?.length ?? 0) > 0),
        );
      }
      if (reads.some((r) => r.deliveries?.length !== 0)) return reads;
      // What found nothing is said once in a while, so that a stream counts as recovered.
      if (performance.now() >= endMs) return reads;
      if (!(await this.polling.wait(itemIds, endMs))) return reads;
    }
  }

  /** @returns undefined where the stream is away; any other error is about this stream alone */
  private readOne(stream: SegmentStream, read: () => Promise<readonly Delivery[]>): Promise<StreamRead | undefined> {
    return this.unlessAway(stream, async () => {
      try {
        return { ...stream, deliveries: await read() };
      } catch (err) {
        if (isRedisAway(err) || isUnavailable(err)) throw err;
        return { ...stream, err };
      }
    });
  }

  private async withDeliveries(
    stream: SegmentStream,
    name: string,
    raw: readonly RawEntry[],
  ): Promise<readonly Delivery[]> {
    const [first, last] = [raw[0]![0], raw.at(-1)![0]];
    const redis = this.server.commands;
    const pending = (await orUnavailable(
      redis.xpending(this.keyOf(stream), GROUP, first, last, raw.length + MAX_OTHERS, name),
    )) as [string, string, number, number][];
    const counts = new Map(pending.map(([id, , , deliveries]) => [id, deliveries]));
    return raw.map((entry) => ({ ...entryOf(entry, stream.segment), deliveries: counts.get(entry[0]) ?? 1 }));
  }
}

/** The streams of an item as one: what one of them yields counts although another one fails. */
function resultOf(reads: readonly StreamRead[]): Pick<ReadResult, 'deliveries' | 'groupless' | 'unreadable'> {
  const deliveries = new Map<bigint, readonly Delivery[]>();
  const groupless = new Set<bigint>();
  const unreadable = new Map<bigint, unknown>();
  for (const [itemId, own] of Map.groupBy(reads, (r) => r.itemId)) {
    const failed = own.filter((r) => r.deliveries === undefined);
    for (const { err } of failed) {
      if (GROUP_GONE.test((err as Error).message)) groupless.add(itemId);
      else unreadable.set(itemId, err);
    }
    const entries = own.flatMap((r) => r.deliveries ?? []);
    if (failed.length < own.length) deliveries.set(itemId, own.length > 1 ? inOrder(entries) : entries);
  }
  return { deliveries, groupless: [...groupless], unreadable };
}

function firstDeliveries({ segment }: SegmentStream, raw: readonly RawEntry[] = []): readonly Delivery[] {
  return raw.filter(([, fields]) => fields !== null).map((entry) => ({ ...entryOf(entry, segment), deliveries: 1 }));
}

function unlessWrongType(err: unknown): undefined {
  if (!(err instanceof Error) || !err.message.startsWith('WRONGTYPE')) throw err;
}
