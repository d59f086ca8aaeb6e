import { Event } from '../../../../gen/instance/v1/event.js';
import type { ExpiredPage } from '../../../biz/retention/retention.js';
import type { Postgres, Statement } from '../postgres.js';
import { BEFORE, KeyedRetention } from './keyed.js';
import { addMark } from './marks.js';

const FIND: Statement = {
  name: 'retention_queue_dead_letters_find',
  text: `SELECT id::text AS key, coalesce(resolved_at < ${BEFORE}, false) AS resolved,
      CASE WHEN resolved_at < ${BEFORE} THEN payload END AS payload
    FROM (SELECT * FROM resource_dead_letters WHERE id > $1::bigint ORDER BY id LIMIT $3) AS d ORDER BY id`,
};

const LOGGED: Statement = {
  name: 'retention_queue_dead_letters_logged',
  text: 'SELECT instance_id FROM instance_logs WHERE instance_id = ANY ($1::bigint[])',
};

const DELETE: Statement = {
  name: 'retention_queue_dead_letters_delete',
  text: `WITH gone AS (DELETE FROM resource_dead_letters
      WHERE id = ANY ($1::bigint[]) AND resolved_at < ${BEFORE} RETURNING id),
    mark AS (${addMark('resource', `'dead_letters'`, `''`, BEFORE)})
    SELECT count(*)::int AS n FROM gone`,
};

/**
 * Resolved dead letters of the queue. A letter that asks for an instance stays until the instance has a log: without
 * either, the product domain would take the request for lost, and send it again.
 */
export class PgQueueDeadLetterRetention extends KeyedRetention {
  constructor(db: Postgres) {
    super(db, 'dead_letters', { find: FIND, delete: DELETE });
  }

  override async find(keepMs: number, from = '0', limit = 0): Promise<ExpiredPage> {
    const found = await this.db.query<{ key: string; resolved: boolean; payload: Buffer | null }>(FIND, [
      from,
      keepMs,
      limit,
    ]);
    const { rows } = found;
    const instances = new Map(rows.map(({ key, payload }) => [key, payload ? instanceOf(payload) : undefined]));
    const asked = [...instances.values()].filter((id) => id !== undefined);
    const logs = await this.db.query<{ instance_id: bigint }>(LOGGED, [asked]);
    const logged = new Set(logs.rows.map((row) => row.instance_id));
    const isUseless = (id: bigint | undefined) => id === undefined || logged.has(id);
    return {
      rows: rows.filter((r) => r.resolved && isUseless(instances.get(r.key))).map(({ key }) => ({ scope: '', key })),
      next: rows.length === limit ? rows.at(-1)?.key : undefined,
    };
  }
}

/** The instance that a message asks for; undefined: it is none of the product domain's messages. */
function instanceOf(payload: Uint8Array): bigint | undefined {
  try {
    const { instanceId } = Event.decode(payload);
    return instanceId > 0n ? instanceId : undefined;
  } catch {
    return undefined;
  }
}
