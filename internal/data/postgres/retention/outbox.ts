import { type ExpiredPage, type ExpiredRows, RetentionStore } from '../../../biz/retention/retention.js';
import type { Transaction } from '../../../biz/transaction.js';
import { TOPIC_INSTANCE_CREATED } from '../instance.js';
import type { Postgres, Statement } from '../postgres.js';
import { addMark } from './marks.js';

const BEFORE = `now() - $2::float8 * interval '1 ms'`;

// Without a result the instance resender may have to publish the row again, and without a log its message was lost.
const DELETABLE = `b.published_at < ${BEFORE} AND b.created_at < ${BEFORE} AND (b.topic <> '${TOPIC_INSTANCE_CREATED}' OR (
  EXISTS (SELECT FROM instance_requests r WHERE r.instance_id = b.ref_id AND r.status <> 'REQUESTED')
  AND EXISTS (SELECT FROM instance_logs l WHERE l.instance_id = b.ref_id)))`;

const FIND: Statement = {
  name: 'retention_outbox_find',
  text: `SELECT b.id::text AS key, b.created_at >= ${BEFORE} AS young, ${DELETABLE} AS deletable
    FROM (SELECT * FROM outbox WHERE id > $1::bigint ORDER BY id LIMIT $3) AS b ORDER BY b.id`,
};

const DELETE: Statement = {
  name: 'retention_outbox_delete',
  text: `WITH gone AS (DELETE FROM outbox b WHERE b.id = ANY ($1::bigint[]) AND ${DELETABLE} RETURNING b.topic),
    mark AS (${addMark('product', `'outbox'`, 'topic', BEFORE)})
    SELECT count(*)::int AS n FROM gone`,
};

/** Published outbox rows; those that request an instance after its result came. */
export class PgOutboxRetention extends RetentionStore {
  override readonly kind = 'outbox';

  constructor(private readonly db: Postgres) {
    super();
  }

  override async find(keepMs: number, from = '0', limit = 0): Promise<ExpiredPage> {
    const { rows } = await this.db.query<FoundRow>(FIND, [from, keepMs, limit]);
    return pageOf(rows, limit);
  }

  override async delete(tx: Transaction, { keys }: ExpiredRows, keepMs: number): Promise<number> {
    const { rows } = await this.db.query<{ n: number }>(DELETE, [keys, keepMs], tx);
    return rows[0]?.n ?? 0;
  }
}

/** A row of a table whose keys grow with time. */
export interface FoundRow {
  key: string;
  /** Too young to be deleted, and so are those behind it. */
  young: boolean;
  deletable: boolean;
}

/** A table ends where all rows are young: one of them may have been written late. */
export function pageOf(rows: readonly FoundRow[], limit: number): ExpiredPage {
  const more = rows.length === limit && !rows.every((row) => row.young);
  return {
    rows: rows.filter((row) => row.deletable).map(({ key }) => ({ scope: '', key })),
    next: more ? rows.at(-1)?.key : undefined,
  };
}
