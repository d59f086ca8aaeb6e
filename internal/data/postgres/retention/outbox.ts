import { TOPIC_INSTANCE_CREATED } from '../instance.js';
import type { Postgres, Statement } from '../postgres.js';
import { BEFORE, KeyedRetention } from './keyed.js';
import { addMark } from './marks.js';

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
export class PgOutboxRetention extends KeyedRetention {
  constructor(db: Postgres) {
    super(db, 'outbox', { find: FIND, delete: DELETE });
  }
}
