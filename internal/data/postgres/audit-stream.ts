import { AuditCheck, type Look, type Offence } from '../../biz/audit/audit.js';
import { compareStreamIds, type PurchaseStream, type StreamEntry } from '../../biz/seckill/purchase-stream.js';
import { GROUP, RedisPurchaseStream } from '../redis/purchase-stream.js';
import { orUnavailable, type RedisServer } from '../redis/redis.js';
import { itemOfStream, saleKeys, streamPattern } from '../redis/seckill-keys.js';
import type { Postgres, Statement } from './postgres.js';

/** Entries of one look-up. */
const PAGE = 1_000;
const SCAN_COUNT = 1_000;

const FIND_OUTCOMES: Statement = {
  name: 'audit_outcomes',
  text: 'SELECT stream_id, outcome FROM stream_inbox WHERE item_id = $1 AND stream_id = ANY($2::text[])',
};

const COUNT_OUTCOMES: Statement = {
  name: 'audit_count_outcomes',
  text: 'SELECT count(*) AS n FROM stream_inbox WHERE item_id = $1',
};

type Pending = [id: string, consumer: string, idleMs: number, deliveries: number];

/** What Redis says of a stream and its group. */
interface StreamFacts {
  readonly length: number;
  /** Entries that it ever had; undefined before Redis 7. */
  readonly added: number | undefined;
  /** undefined: there is no group. */
  readonly delivered: string | undefined;
}

/** An entry leaves its stream when its outcome is committed, so at rest there is none. */
class StreamCheck extends AuditCheck {
  override readonly invariant = 4;
  private readonly stream: PurchaseStream;

  constructor(
    private readonly db: Postgres,
    private readonly server: RedisServer,
  ) {
    super();
    this.stream = new RedisPurchaseStream(server);
  }

  override async look(limit: number): Promise<Look> {
    const offences: Offence[] = [];
    for await (const itemId of this.items()) {
      if (offences.length >= limit) break;
      const facts = await this.factsOf(itemId);
      if (!facts) continue;
      const { entries } = await this.stream.waiting(itemId);
      for (let i = 0; i < entries.length && offences.length < limit; i += PAGE) {
        offences.push(...(await this.standing(itemId, facts, entries.slice(i, i + PAGE))));
      }
      offences.push(...(await this.pendingWithoutEntry(itemId, facts)));
      // Read after the stream: what is added or settled meanwhile makes the count only larger.
      const { rows } = await this.db.query<{ n: bigint }>(COUNT_OUTCOMES, [itemId]);
      const gone = (facts.added ?? 0) - facts.length - Number(rows[0]?.n ?? 0);
      if (gone > 0)
        offences.push({ id: `stream of item ${itemId}`, detail: `${gone} entries left it without an outcome` });
    }
    return { offences: offences.slice(0, limit) };
  }

  private async *items(): AsyncGenerator<bigint> {
    const seen = new Set<bigint>();
    for (let cursor = '0'; ; ) {
      const pattern = streamPattern(this.server.keyPrefix);
      const [next, keys] = await orUnavailable(
        this.server.commands.scan(cursor, 'MATCH', pattern, 'COUNT', SCAN_COUNT, 'TYPE', 'stream'),
      );
      for (const key of keys) {
        const itemId = itemOfStream(this.server.keyPrefix, key);
        if (itemId === undefined || seen.has(itemId)) continue;
        seen.add(itemId);
        yield itemId;
      }
      cursor = next;
      if (cursor === '0') return;
    }
  }

  /** undefined where the stream is gone. */
  private async factsOf(itemId: bigint): Promise<StreamFacts | undefined> {
    const { stream } = saleKeys(this.server.keyPrefix, itemId);
    const replies = await orUnavailable(
      this.server.commands.multi().xinfo('STREAM', stream).xinfo('GROUPS', stream).exec(),
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

  private async standing(itemId: bigint, facts: StreamFacts, entries: readonly StreamEntry[]): Promise<Offence[]> {
    const ids = entries.map((e) => e.streamId);
    const { rows } = await this.db.query<{ stream_id: string; outcome: string }>(FIND_OUTCOMES, [itemId, ids]);
    const outcomes = new Map(rows.map((row) => [row.stream_id, row.outcome]));
    const pending = new Map((await this.pending(itemId, facts, ids[0]!, ids.at(-1)!, PAGE)).map((p) => [p[0], p]));
    return ids.map((id) => {
      const outcome = outcomes.get(id);
      const [, consumer, idleMs, deliveries] = pending.get(id) ?? [];
      const detail =
        outcome !== undefined
          ? `it is ${outcome} and was not taken off the stream`
          : consumer !== undefined
            ? `${consumer} has had it for ${idleMs} ms, delivery ${deliveries}`
            : facts.delivered === undefined || compareStreamIds(id, facts.delivered) > 0
              ? 'nobody was given it'
              : 'it was acknowledged without an outcome';
      return { id: `entry ${itemId}-${id}`, detail };
    });
  }

  private async pendingWithoutEntry(itemId: bigint, facts: StreamFacts): Promise<Offence[]> {
    const { stream } = saleKeys(this.server.keyPrefix, itemId);
    const found: Offence[] = [];
    for (let from = '-'; ; ) {
      const page = await this.pending(itemId, facts, from, '+', PAGE);
      const replies = await orUnavailable(
        page.reduce((multi, [id]) => multi.xrange(stream, id, id), this.server.commands.pipeline()).exec(),
      );
      page.forEach(([id, consumer], i) => {
        const [err, there] = replies?.[i] ?? [];
        if (err) throw err;
        if (Array.isArray(there) && there.length > 0) return;
        found.push({ id: `entry ${itemId}-${id}`, detail: `${consumer} has it pending, and it is not in the stream` });
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
    const { stream } = saleKeys(this.server.keyPrefix, itemId);
    return (await orUnavailable(this.server.commands.xpending(stream, GROUP, from, to, count))) as Pending[];
  }
}

function pairsOf(flat: readonly unknown[]): Map<unknown, unknown> {
  return new Map(Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i], flat[2 * i + 1]]));
}

export function streamCheck(db: Postgres, server: RedisServer): AuditCheck {
  return new StreamCheck(db, server);
}
