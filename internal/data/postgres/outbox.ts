import { type NewOutboxRow, Outbox, type OutboxFailure, OutboxRepo, type OutboxRow } from '../../biz/outbox.js';
import type { Transaction } from '../../biz/transaction.js';
import { byteas, int8s, texts } from './column.js';
import type { Postgres, Statement } from './postgres.js';
import { storableText } from './text.js';

const REASON_MAX = 1024;

const COLUMNS = 'id, topic, ref_id, payload, headers, attempts';

/*
 * `id = ANY (ARRAY(…))` instead of a join: the planner does not know how many rows a LIMIT with a parameter returns, and may
 * hash the whole table for a join.
 */
function claim(name: string, ofTopic: string): Statement {
  return {
    name,
    replan: true,
    text: `UPDATE outbox SET next_attempt_at = now() + $3 * interval '1 ms', attempts = attempts + 1
      WHERE id = ANY (ARRAY(
        SELECT id FROM outbox WHERE ${ofTopic} AND published_at IS NULL AND next_attempt_at <= now()
        ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED))
      RETURNING ${COLUMNS}`,
  };
}

const CLAIM = claim('outbox_claim', 'topic = $1');
const CLAIM_OTHERS = claim('outbox_claim_others', 'topic <> ALL ($1::text[])');

/*
 * Neither statement has `published_at IS NULL`: with outdated statistics the planner assumes that the index of waiting rows
 * is empty and reads the whole backlog through it. Marking 500 rows then takes 290 ms instead of 8 (50,000 rows waiting).
 */
const MARK_PUBLISHED: Statement = {
  name: 'outbox_mark_published',
  replan: true,
  text: 'UPDATE outbox SET published_at = now(), last_error = NULL WHERE id = ANY ($1::bigint[])',
};

const RENEW: Statement = {
  name: 'outbox_renew',
  replan: true,
  text: `UPDATE outbox o SET next_attempt_at = now() + $3 * interval '1 ms'
    FROM unnest($1::bigint[], $2::int[]) AS r(id, attempts) WHERE o.id = r.id AND o.attempts = r.attempts`,
};

const APPEND: Statement = {
  name: 'outbox_append',
  text: `INSERT INTO outbox (topic, ref_id, payload)
    SELECT topic, ref_id, payload FROM unnest($1::text[], $2::bigint[], $3::bytea[]) AS t(topic, ref_id, payload)`,
};

const MARK_FAILED: Statement = {
  name: 'outbox_mark_failed',
  replan: true,
  text: `UPDATE outbox o SET last_error = f.reason, next_attempt_at = now() + f.retry_ms * interval '1 ms'
    FROM unnest($1::bigint[], $2::int[], $3::text[], $4::float8[]) AS f(id, attempts, reason, retry_ms)
    WHERE o.id = f.id AND o.attempts = f.attempts`,
};

export class PgOutbox extends Outbox {
  constructor(private readonly db: Postgres) {
    super();
  }

  override async append(tx: Transaction, rows: readonly NewOutboxRow[]): Promise<void> {
    if (rows.length === 0) return;
    const values = [texts(rows, (r) => r.topic), int8s(rows, (r) => r.refId), byteas(rows, (r) => r.payload)];
    await this.db.query(APPEND, values, tx);
  }
}

export class PgOutboxRepo extends OutboxRepo {
  constructor(private readonly db: Postgres) {
    super();
  }

  override async claim(topic: string, limit: number, leaseMs: number): Promise<readonly OutboxRow[]> {
    const { rows } = await this.db.query<ClaimedRow>(CLAIM, [topic, limit, leaseMs]);
    return inOrder(rows);
  }

  override async claimOthers(
    knownTopics: readonly string[],
    limit: number,
    leaseMs: number,
  ): Promise<readonly OutboxRow[]> {
    const { rows } = await this.db.query<ClaimedRow>(CLAIM_OTHERS, [knownTopics, limit, leaseMs]);
    return inOrder(rows);
  }

  override async renew(rows: readonly OutboxRow[], leaseMs: number): Promise<void> {
    await this.db.query(RENEW, [rows.map((r) => r.id), rows.map((r) => r.attempts), leaseMs]);
  }

  override async markPublished(rows: readonly OutboxRow[]): Promise<void> {
    await this.db.query(MARK_PUBLISHED, [int8s(rows, (r) => r.id)]);
  }

  override async markFailed(failures: readonly OutboxFailure[]): Promise<void> {
    await this.db.query(MARK_FAILED, [
      failures.map((f) => f.row.id),
      failures.map((f) => f.row.attempts),
      failures.map((f) => storableText(f.reason, REASON_MAX)),
      failures.map((f) => f.retryAfterMs),
    ]);
  }
}

interface ClaimedRow {
  id: bigint;
  topic: string;
  ref_id: bigint;
  payload: Buffer;
  headers: Record<string, string> | null;
  attempts: number;
}

/** RETURNING has no order. */
function inOrder(rows: ClaimedRow[]): readonly OutboxRow[] {
  return rows
    .sort((a, b) => (a.id < b.id ? -1 : 1))
    .map((row) => ({
      id: row.id,
      topic: row.topic,
      refId: row.ref_id,
      payload: row.payload,
      headers: row.headers ?? undefined,
      attempts: row.attempts,
    }));
}
