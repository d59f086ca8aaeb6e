import type { SqlInvariant } from './sql-check.js';

export const OUTBOX: SqlInvariant = {
  invariant: 8,
  rules: [
    {
      name: 'unpublished',
      text: `SELECT 'outbox ' || id AS id,
          format('%s of %s, %s attempts: %s', topic, ref_id, attempts, coalesce(last_error, '')) AS detail
        FROM outbox WHERE published_at IS NULL ORDER BY id LIMIT $1`,
    },
    {
      name: 'unconsumed',
      text: `SELECT 'outbox ' || b.id AS id,
          format('instance %s was published, but the resource domain has no log of it', b.ref_id) AS detail
        FROM outbox b LEFT JOIN instance_logs l ON l.instance_id = b.ref_id
        LEFT JOIN resource_dead_letters d ON l.id IS NULL AND d.message_id = encode(sha256(b.payload), 'hex')
        WHERE b.topic = 'instance.created' AND b.published_at IS NOT NULL AND l.id IS NULL AND d.id IS NULL
        ORDER BY b.id LIMIT $1`,
    },
  ],
};
