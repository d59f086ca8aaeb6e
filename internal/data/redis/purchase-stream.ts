import type { Redis } from 'ioredis';
import {
  type Delivery,
  PurchaseConsumer,
  PurchaseStream,
  type ReadRequest,
  type SettledEntry,
  type StreamEntry,
  type WaitingEntries,
} from '../../biz/seckill/purchase-stream.js';
import type { Backlog } from '../../kratos/background/background-meter.js';
import { FINISH } from './lua-script.js';
import { isRedisAway, orUnavailable, type RedisServer } from './redis.js';
import { itemOfStream, saleKeys, streamPattern } from './seckill-keys.js';

export const GROUP = 'product';
/** Entries of one XRANGE. */
const PAGE = 5_000;
/** Entries of one call of the script that removes them. */
const MAX_FINISH = 1_000;
/** Arguments of an entry with a stock correction. */
const CORRECTION_ARGS = 6;
/** Pending entries of this consumer that may lie between the delivered ones. */
const MAX_OTHERS = 2_000;
/** SCAN steps of one discovery, so that a server full of other keys is searched bit by bit. */
const SCAN_STEPS = 20;
const SCAN_COUNT = 1_000;

type RawEntry = [id: string, fields: string[] | null];

export class RedisPurchaseStream extends PurchaseStream {
  constructor(private readonly server: RedisServer) {
    super();
  }

  override async find(itemId: bigint, streamId: string): Promise<StreamEntry | undefined> {
    const { stream } = saleKeys(this.server.keyPrefix, itemId);
    const [entry] = await orUnavailable(this.server.commands.xrange(stream, streamId, streamId));
    return entry && entryOf(entry);
  }

  override async oldest(itemId: bigint): Promise<StreamEntry | undefined> {
    const { stream } = saleKeys(this.server.keyPrefix, itemId);
    const [entry] = await orUnavailable(this.server.commands.xrange(stream, '-', '+', 'COUNT', 1));
    return entry && entryOf(entry);
  }

  override async waiting(itemId: bigint): Promise<WaitingEntries> {
    const { stream } = saleKeys(this.server.keyPrefix, itemId);
    const redis = this.server.commands;
    const [last] = await orUnavailable(redis.xrevrange(stream, '+', '-', 'COUNT', 1));
    if (!last) return { fence: '0-0', entries: [] };
    const fence = last[0];
    const entries: StreamEntry[] = [];
    for (let from = '-'; ; ) {
      const page = await orUnavailable(redis.xrange(stream, from, fence, 'COUNT', PAGE));
      for (const raw of page) entries.push(entryOf(raw));
      if (page.length < PAGE) return { fence, entries };
      from = `(${page.at(-1)![0]}`;
    }
  }
}

export class RedisPurchaseConsumer extends PurchaseConsumer {
  private readonly blocking: Redis;
  private readonly keys: (itemId: bigint) => string;
  private readonly found = new Set<bigint>();
  private cursor = '0';

  /** @param name this consumer's alone, and the same after a restart, so that the consumer finds the entries it left unfinished */
  constructor(
    private readonly server: RedisServer,
    private readonly name: () => Promise<string>,
  ) {
    super();
    this.blocking = server.blocking('kaimai-consumer');
    this.keys = (itemId) => saleKeys(server.keyPrefix, itemId).stream;
  }

  override async discover(candidates: readonly bigint[]): Promise<readonly bigint[]> {
    await this.scan();
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
      const length = await orUnavailable(this.server.commands.xlen(key));
      if (length === 0) continue;
      units += length;
      const [first] = await orUnavailable(this.server.commands.xrange(key, '-', '+', 'COUNT', 1));
      if (first) oldestAtMs = Math.min(oldestAtMs, Number(first[0].split('-', 1)[0]));
    }
    return { units, oldestAgeMs: units === 0 ? 0 : Math.max(0, Date.now() - oldestAtMs) };
  }

  override async join(itemIds: readonly bigint[]): Promise<void> {
    await Promise.all(
      itemIds.map(async (itemId) => {
        try {
          // From the first entry on: entries that were added before the group existed count too.
          await this.server.commands.xgroup('CREATE', this.keys(itemId), GROUP, '0', 'MKSTREAM');
        } catch (err) {
          if (err instanceof Error && err.message.startsWith('BUSYGROUP')) return;
          // A key of this name that is no stream belongs to another program.
          if (err instanceof Error && err.message.startsWith('WRONGTYPE')) this.found.delete(itemId);
          else await orUnavailable(Promise.reject(err));
        }
      }),
    );
  }

  override async read(
    requests: readonly ReadRequest[],
    count: number,
    blockMs: number,
  ): Promise<ReadonlyMap<bigint, readonly Delivery[]>> {
    const answer = new Map<bigint, readonly Delivery[]>();
    const pending = requests.filter((r) => r.from === 'pending').map((r) => r.itemId);
    for (const itemId of pending) {
      const deliveries = await this.readPending(itemId, count);
      if (deliveries) answer.set(itemId, deliveries);
    }
    const fresh = requests.filter((r) => r.from === 'new').map((r) => r.itemId);
    if (fresh.length > 0) {
      for (const [itemId, entries] of await this.readNew(fresh, count, pending.length > 0 ? undefined : blockMs)) {
        answer.set(
          itemId,
          entries.map((entry) => ({ ...entry, deliveries: 1 })),
        );
      }
    }
    return answer;
  }

  override async claim(itemId: bigint, idleMs: number, count: number): Promise<readonly Delivery[]> {
    const redis = this.server.commands;
    const reply = redis.xautoclaim(this.keys(itemId), GROUP, await this.name(), idleMs, '0-0', 'COUNT', count);
    const claimed = await orUndefinedIfGone(reply);
    const raw = (claimed?.[1] ?? []) as RawEntry[];
    return raw.length === 0 ? [] : this.withDeliveries(itemId, raw.map(entryOf));
  }

  override async finish(itemId: bigint, entries: readonly SettledEntry[]): Promise<ReadonlySet<string>> {
    const later = new Set<string>();
    const keys = saleKeys(this.server.keyPrefix, itemId);
    for (let i = 0; i < entries.length; i += MAX_FINISH) {
      const corrections: string[] = [];
      const others: string[] = [];
      for (const { streamId, correction: c } of entries.slice(i, i + MAX_FINISH)) {
        if (!c) others.push(streamId);
        else {
          const entryEpoch = c.entryEpoch === undefined ? '' : String(c.entryEpoch);
          corrections.push(streamId, String(c.epoch), entryEpoch, c.userId, String(c.quantity), c.outcome);
        }
      }
      const args = [GROUP, String(corrections.length / CORRECTION_ARGS), ...corrections, ...others];
      for (const id of (await orUnavailable(FINISH.run(this.server.commands, keys, args))) as string[]) later.add(id);
    }
    return later;
  }

  override interrupt(): void {
    this.blocking.disconnect();
  }

  private async scan(): Promise<void> {
    const pattern = streamPattern(this.server.keyPrefix);
    for (let step = 0; step < SCAN_STEPS; step++) {
      const [cursor, keys] = await orUnavailable(
        this.server.commands.scan(this.cursor, 'MATCH', pattern, 'COUNT', SCAN_COUNT, 'TYPE', 'stream'),
      );
      this.cursor = cursor;
      for (const key of keys) {
        const itemId = itemOfStream(this.server.keyPrefix, key);
        if (itemId !== undefined) this.found.add(itemId);
      }
      if (cursor === '0') return;
    }
  }

  /** @returns undefined where the group is gone */
  private async readPending(itemId: bigint, count: number): Promise<readonly Delivery[] | undefined> {
    const stream = this.keys(itemId);
    const redis = this.server.commands;
    const reply = await orUndefinedIfGone(
      redis.xreadgroup('GROUP', GROUP, await this.name(), 'COUNT', count, 'STREAMS', stream, '0'),
    );
    if (reply === undefined) return undefined;
    const raw = ((reply as [string, RawEntry[]][] | null)?.[0]?.[1] ?? []) as RawEntry[];
    const gone = raw.filter(([, fields]) => fields === null).map(([id]) => id);
    // Another client deleted them from the stream; without their fields they cannot be settled.
    if (gone.length > 0) await orUnavailable(redis.xack(stream, GROUP, ...gone));
    const entries = raw.filter(([, fields]) => fields !== null).map(entryOf);
    return entries.length === 0 ? [] : this.withDeliveries(itemId, entries);
  }

  private async readNew(
    itemIds: readonly bigint[],
    count: number,
    blockMs: number | undefined,
  ): Promise<Map<bigint, StreamEntry[]>> {
    const name = await this.name();
    const streams = [...itemIds.map(this.keys), ...itemIds.map(() => '>')];
    const reply =
      blockMs === undefined
        ? this.server.commands.xreadgroup('GROUP', GROUP, name, 'COUNT', count, 'STREAMS', ...streams)
        : this.blocking.xreadgroup('GROUP', GROUP, name, 'COUNT', count, 'BLOCK', blockMs, 'STREAMS', ...streams);
    const read = (await orUndefinedIfGone(reply)) as [string, RawEntry[]][] | null | undefined;
    // The error names one stream at most, so the caller joins all of them again.
    if (read === undefined) return new Map();
    const answer = new Map(itemIds.map((itemId): [bigint, StreamEntry[]] => [itemId, []]));
    for (const [key, raw] of read ?? []) {
      const itemId = itemOfStream(this.server.keyPrefix, key);
      if (itemId !== undefined) answer.set(itemId, raw.filter(([, fields]) => fields !== null).map(entryOf));
    }
    return answer;
  }

  private async withDeliveries(itemId: bigint, entries: readonly StreamEntry[]): Promise<readonly Delivery[]> {
    const [first, last] = [entries[0]!.streamId, entries.at(-1)!.streamId];
    const redis = this.server.commands;
    const pending = (await orUnavailable(
      redis.xpending(this.keys(itemId), GROUP, first, last, entries.length + MAX_OTHERS, await this.name()),
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

/** @returns undefined where the stream or its group is gone, as after a flush */
async function orUndefinedIfGone<T>(reply: Promise<T>): Promise<T | undefined> {
  try {
    return await reply;
  } catch (err) {
    if (err instanceof Error && /^(NOGROUP|UNBLOCKED|WRONGTYPE)\b/.test(err.message)) return undefined;
    if (isRedisAway(err)) return orUnavailable(Promise.reject(err));
    throw err;
  }
}
