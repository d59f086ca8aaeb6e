import type { SqlInvariant } from './sql-check.js';

export const INSTANCES: SqlInvariant = {
  invariant: 9,
  rules: [
    {
      name: 'instances',
      text: `SELECT 'instance ' || coalesce(l.instance_id, s.instance_id) AS id,
          CASE WHEN l.id IS NULL THEN format('%s runs without a log', s.name)
            WHEN s.name IS NULL THEN format('its log %s says %s, but it does not run', l.id, l.status)
            WHEN l.status <> 'SUCCESS' THEN format('%s runs, but its log %s says %s', s.name, l.id, l.status)
            ELSE format('%s runs for another user, product or size than its log %s says', s.name, l.id) END AS detail
        FROM instance_logs l FULL JOIN simulated_instances s ON s.instance_id = l.instance_id
        WHERE (l.status IS NOT DISTINCT FROM 'SUCCESS') <> (s.name IS NOT NULL)
          OR (s.name IS NOT NULL AND (l.name, l.user_id, l.product_id, l.cpus, l.memory_mb, l.gpu, l.image)
            IS DISTINCT FROM (s.name, s.user_id, s.product_id, s.cpus, s.memory_mb, s.gpu, s.image))
        ORDER BY coalesce(l.instance_id, s.instance_id) LIMIT $1`,
    },
  ],
};
