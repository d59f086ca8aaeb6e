import { AuditCheck, type CheckResult, type InvariantViolation } from '../../../biz/audit/audit.js';
import { compareStreamIds, type PurchaseStream, type StreamEntry } from '../../../biz/seckill/purchase-stream.js';
import { GROUP, RedisPurchaseStream } from '../../redis/purchase-stream.js';
import { orUnavailable, type RedisServer } from '../../redis/redis.js';
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
  private readonly stream: PurchaseStream;

  constructor(
    private readonly db: Postgres,
    private readonly redis: RedisServer,
  ) {
    super();
    this.stream = new RedisPurchaseStream(redis);
  }

  override async check(limit: number): Promise<CheckResult> {
    const violations: InvariantViolation[] = [];
    for await (const itemId of this.items()) {
      if (violations.length >= limit) break;
      const facts = await this.factsOf(itemId);
      if (!facts) continue;
      const entries = await this.stream.waiting(itemId);
      for (let i = 0; i < entries.length && violations.length < limit; i += PAGE) {
        violations.push(...(await this.describe(itemId, facts, entries.slice(i, i + PAGE))));
      }
      violations.push(...(await this.pendingWithoutEntry(itemId, facts)));
      // Read after the stream, so that entries which are settled meanwhile can only increase the count.
      const { rows } = await this.db.query<{ n: bigint }>(COUNT_OUTCOMES, [itemId]);
      const gone = (facts.added ?? 0) - facts.length - Number(rows[0]?.n ?? 0);
      if (gone > 0)
        violations.push({ id: `stream of item ${itemId}`, detail: `${gone} entries left it without an outcome` });
    }
    return { violations: violations.slice(0, limit) };
  }

  private async *items(): AsyncGenerator<bigint> {
    const seen = new Set<bigint>();
    for (let cursor = '0'; ; ) {
      const pattern = this.redis.keys.streamPattern();
      const [next, keys] = await orUnavailable(
        this.redis.commands.scan(cursor, 'MATCH', pattern, 'COUNT', SCAN_COUNT, 'TYPE', 'stream'),
      );
      for (const key of keys) {
        const itemId = this.redis.keys.itemOfStream(key);
        if (itemId === undefined || seen.has(itemId)) continue;
        seen.add(itemId);
        yield itemId;
      }
      cursor = next;
      if (cursor === '0') return;
    }
  }

  /** undefined: the stream does not exist. */
  private async factsOf(itemId: bigint): Promise<StreamFacts | undefined> {
    const { stream } = this.redis.keys.sale(itemId);
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
    itemId: bigint,
    facts: StreamFacts,
    entries: readonly StreamEntry[],
  ): Promise<InvariantViolation[]> {
    const ids = entries.map((e) => e.streamId);
    const { rows } = await this.db.query<{ stream_id: string; outcome: string }>(FIND_OUTCOMES, [itemId, ids]);
    const outcomes = new Map(rows.map((row) => [row.stream_id, row.outcome]));
    const pending = new Map((await this.pending(itemId, facts, ids[0]!, ids.at(-1)!, PAGE)).map((p) => [p[0], p]));
    return ids.map((id) => {
      const outcome = outcomes.get(id);
      const [, consumer, idleMs, deliveries] = pending.get(id) ?? [];
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

  private async pendingWithoutEntry(itemId: bigint, facts: StreamFacts): Promise<InvariantViolation[]> {
    const { stream } = this.redis.keys.sale(itemId);
    const found: InvariantViolation[] = [];
    for (let from = '-'; ; ) {
      const page = await this.pending(itemId, facts, from, '+', PAGE);
      const replies = await orUnavailable(
        page.reduce((multi, [id]) => multi.xrange(stream, id, id), this.redis.commands.pipeline()).exec(),
      );
      page.forEach(([id, consumer], i) => {
        const [err, there] = replies?.[i] ?? [];
        if (err) throw err;
        if (Array.isArray(there) && there.length > 0) return;
        found.push({ id: `entry ${itemId}-${id}`, detail: `pending at ${consumer}, but not in the stream` });
      });
      if (page.length < PAGE) return found;
      from = `(${page.at(-1)![0]}`;
    }
  }

  private async pending(
    itemId: bigint,
    facts: StreamFacts,
    from: string,
    to: string,
    count: number,
  ): Promise<Pending[]> {
    if (facts.delivered === undefined) return [];
    const { stream } = this.redis.keys.sale(itemId);
    return (await orUnavailable(this.redis.commands.xpending(stream, GROUP, from, to, count))) as Pending[];
  }
}

function pairsOf(flat: readonly unknown[]): Map<unknown, unknown> {
  return new Map(Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i], flat[2 * i + 1]]));
}
