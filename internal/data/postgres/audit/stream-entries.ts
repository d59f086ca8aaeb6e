import { AuditCheck, type CheckResult, type InvariantViolation } from '../../../biz/audit/audit.js';
import { compareStreamIds, type StreamEntry } from '../../../biz/seckill/purchase-stream.js';
import { segmentStreamId, withoutSegment } from '../../../biz/seckill/segment.js';
import { GROUP, RedisPurchaseStream } from '../../redis/purchase-stream.js';
import { orUnavailable, type RedisServer } from '../../redis/redis.js';
import type { SegmentStream } from '../../redis/seckill-keys.js';
import type { Postgres, Statement } from '../postgres.js';

/** Entries of one query. */
const PAGE = 1_000;
const SCAN_COUNT = 1_000;

const FIND_OUTCOMES: Statement = {
  name: 'audit_outcomes',
  text: 'SELECT stream_id, outcome FROM stream_inbox WHERE item_id = $1 AND stream_id = ANY($2::text[])',
};

const COUNT_OUTCOMES: Statement = {
  name: 'audit_count_outcomes',
  text: `SELECT (SELECT count(*) FROM stream_inbox WHERE item_id = $1)
    + (SELECT coalesce(sum(rows_deleted), 0)::bigint FROM retention_marks
      WHERE kind LIKE 'inbox\\_%' AND scope = $1::bigint::text) AS n`,
};

type Pending = [id: string, consumer: string, idleMs: number, deliveries: number];

/** State of a stream and of its consumer group. */
interface StreamFacts {
  readonly length: number;
  /** Entries ever added; undefined before Redis 7. */
  readonly added: number | undefined;
  /** Last delivered id; undefined: there is no group. */
  readonly delivered: string | undefined;
}

/** An entry leaves its stream once its outcome is committed, so the streams of a system at rest are empty. */
export class StreamEntriesCheck extends AuditCheck {
  override readonly invariant = 4;
  private readonly stream: RedisPurchaseStream;

  constructor(
    private readonly db: Postgres,
    private readonly redis: RedisServer,
  ) {
    super();
    this.stream = new RedisPurchaseStream(redis);
  }

  override async check(limit: number): Promise<CheckResult> {
    const violations: InvariantViolation[] = [];
    for (const [itemId, streams] of await this.findStreams()) {
      if (violations.length >= limit) break;
      let settled = 0;
      for (const stream of streams) {
        const facts = await this.factsOf(stream);
        if (!facts) continue;
        settled += (facts.added ?? 0) - facts.length;
        const entries = await this.stream.waitingIn(itemId, stream.segment);
        for (let i = 0; i < entries.length && violations.length < limit; i += PAGE) {
          violations.push(...(await this.describe(stream, facts, entries.slice(i, i + PAGE))));
        }
        violations.push(...(await this.pendingWithoutEntry(stream, facts)));
      }
      // Read after the streams, so that entries which are settled meanwhile can only increase the count.
      const { rows } = await this.db.query<{ n: bigint }>(COUNT_OUTCOMES, [itemId]);
      const gone = settled - Number(rows[0]?.n ?? 0);
      if (gone > 0)
        violations.push({ id: `stream of item ${itemId}`, detail: `${gone} entries left it without an outcome` });
    }
    return { violations: violations.slice(0, limit) };
  }

  /** The streams of each item. */
  private async findStreams(): Promise<ReadonlyMap<bigint, readonly SegmentStream[]>> {
    const found = new Map<string, SegmentStream>();
    const pattern = this.redis.keys.streamPattern();
    for (const master of this.redis.masters()) {
      for (let cursor = '0'; ; ) {
        const scan = master.scan(cursor, 'MATCH', pattern, 'COUNT', SCAN_COUNT, 'TYPE', 'stream');
        const [next, keys] = await orUnavailable(scan);
        for (const key of keys) {
          const stream = this.redis.keys.streamOf(key);
          if (stream) found.set(key, stream);
        }
        cursor = next;
        if (cursor === '0') break;
      }
    }
    return Map.groupBy(found.values(), (stream) => stream.itemId);
  }

  /** undefined: the stream does not exist. */
  private async factsOf({ itemId, segment }: SegmentStream): Promise<StreamFacts | undefined> {
    const { stream } = this.redis.keys.sale(itemId, segment);
    const replies = await orUnavailable(
      this.redis.commands.multi().xinfo('STREAM', stream).xinfo('GROUPS', stream).exec(),
    );
    const [[noStream, info] = [], [, groups] = []] = (replies ?? []) as [Error | null, unknown][];
    if (noStream || !Array.isArray(info) || !Array.isArray(groups)) return undefined;
    const facts = pairsOf(info);
    const group = groups.map((g) => pairsOf(g as unknown[])).find((g) => g.get('name') === GROUP);
    const added = facts.get('entries-added');
    return {
      length: Number(facts.get('length')),
      added: added === undefined ? undefined : Number(added),
      delivered: group === undefined ? undefined : String(group.get('last-delivered-id')),
    };
  }

  private async describe(
    stream: SegmentStream,
    facts: StreamFacts,
    entries: readonly StreamEntry[],
  ): Promise<InvariantViolation[]> {
    const { itemId } = stream;
    const ids = entries.map((e) => e.streamId);
    const { rows } = await this.db.query<{ stream_id: string; outcome: string }>(FIND_OUTCOMES, [itemId, ids]);
    const outcomes = new Map(rows.map((row) => [row.stream_id, row.outcome]));
    const pending = new Map((await this.pending(stream, facts, ids[0]!, ids.at(-1)!, PAGE)).map((p) => [p[0], p]));
    return ids.map((id) => {
      const outcome = outcomes.get(id);
      const [, consumer, idleMs, deliveries] = pending.get(withoutSegment(id)) ?? [];
      const detail =
        outcome !== undefined
          ? `it is ${outcome} but is still in the stream`
          : consumer !== undefined
            ? `pending at ${consumer} for ${idleMs} ms, delivery ${deliveries}`
            : facts.delivered === undefined || compareStreamIds(id, facts.delivered) > 0
              ? 'not delivered to any consumer'
              : 'it was acknowledged without an outcome';
      return { id: `entry ${itemId}-${id}`, detail };
    });
  }

  private async pendingWithoutEntry(of: SegmentStream, facts: StreamFacts): Promise<InvariantViolation[]> {
    const { itemId, segment } = of;
    const { stream } = this.redis.keys.sale(itemId, segment);
    const found: InvariantViolation[] = [];
    for (let from = '-'; ; ) {
      const page = await this.pending(of, facts, from, '+', PAGE);
      const replies = await orUnavailable(
        page.reduce((multi, [id]) => multi.xrange(stream, id, id), this.redis.commands.pipeline()).exec(),
      );
      page.forEach(([id, consumer], i) => {
        const [err, there] = replies?.[i] ?? [];
        if (err) throw err;
        if (Array.isArray(there) && there.length > 0) return;
        found.push({
          id: `entry ${itemId}-${segmentStreamId(id, segment)}`,
          detail: `pending at ${consumer}, but not in the stream`,
        });
      });
      if (page.length < PAGE) return found;
      from = `(${page.at(-1)![0]}`;
    }
  }

  private async pending(
    { itemId, segment }: SegmentStream,
    facts: StreamFacts,
    from: string,
    to: string,
    count: number,
  ): Promise<Pending[]> {
    if (facts.delivered === undefined) return [];
    const { stream } = this.redis.keys.sale(itemId, segment);
    return (await orUnavailable(
      this.redis.commands.xpending(stream, GROUP, withoutSegment(from), withoutSegment(to), count),
    )) as Pending[];
  }
}

function pairsOf(flat: readonly unknown[]): Map<unknown, unknown> {
  return new Map(Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i], flat[2 * i + 1]]));
}
