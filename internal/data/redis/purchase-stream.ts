import { compareStreamIds, PurchaseStream, type StreamEntry } from '../../biz/seckill/purchase-stream.js';
import { segmentOf, segmentStreamId, segmentsOf, withoutSegment } from '../../biz/seckill/segment.js';
import { CONSUMERS } from './lua-script.js';
import { orUnavailable, type RedisServer } from './redis.js';

export const GROUP = 'product';
/** Entries of one XRANGE. */
const PAGE = 5_000;

export type RawEntry = [id: string, fields: string[] | null];

export class RedisPurchaseStream extends PurchaseStream {
  constructor(private readonly server: RedisServer) {
    super();
  }

  override async find(itemId: bigint, streamId: string): Promise<StreamEntry | undefined> {
    const { stream } = this.server.keys.sale(itemId, segmentOf(streamId));
    const id = withoutSegment(streamId);
    const [entry] = await orUnavailable(this.server.commands.xrange(stream, id, id));
    return entry && entryOf(entry, segmentOf(streamId));
  }

  override async oldest(itemId: bigint, segments = 1): Promise<StreamEntry | undefined> {
    const firsts = await Promise.all(
      segmentsOf(segments).map(async (segment) => {
        const { stream } = this.server.keys.sale(itemId, segment);
        const [entry] = await orUnavailable(this.server.commands.xrange(stream, '-', '+', 'COUNT', 1));
        return entry ? [entryOf(entry, segment)] : [];
      }),
    );
    return inOrder(firsts.flat())[0];
  }

  override async waiting(itemId: bigint, segments = 1): Promise<readonly StreamEntry[]> {
    if (segments === 1) return this.waitingIn(itemId, 0);
    const all = await Promise.all(segmentsOf(segments).map((segment) => this.waitingIn(itemId, segment)));
    return inOrder(all.flat());
  }

  /** All entries that are in the stream of one segment now. */
  async waitingIn(itemId: bigint, segment: number): Promise<readonly StreamEntry[]> {
    const { stream } = this.server.keys.sale(itemId, segment);
    const redis = this.server.commands;
    const [last] = await orUnavailable(redis.xrevrange(stream, '+', '-', 'COUNT', 1));
    if (!last) return [];
    const end = last[0];
    const entries: StreamEntry[] = [];
    for (let from = '-'; ; ) {
      const page = await orUnavailable(redis.xrange(stream, from, end, 'COUNT', PAGE));
      for (const raw of page) entries.push(entryOf(raw, segment));
      if (page.length < PAGE) return entries;
      from = `(${page.at(-1)![0]}`;
    }
  }

  override async mayBeInMemory(itemId: bigint, streamId: string): Promise<boolean> {
    const keys = { consumers: this.server.keys.consumers(itemId, segmentOf(streamId)) };
    return (await orUnavailable(CONSUMERS.run(this.server.commands, keys, ['', 'none']))) === 1;
  }
}

export function inOrder<E extends StreamEntry>(entries: readonly E[]): readonly E[] {
  return entries.length < 2 ? entries : entries.toSorted((a, b) => compareStreamIds(a.streamId, b.streamId));
}

/** An entry as Redis has it. */
export function entryOf([id, raw]: readonly [string, string[] | null], segment: number): StreamEntry {
  const fields = new Map<string, string>();
  for (let i = 0; raw !== null && i + 1 < raw.length; i += 2) fields.set(raw[i]!, raw[i + 1]!);
  return { streamId: segmentStreamId(id, segment), fields };
}
