import { AuditCheck, type CheckResult } from '../../../biz/audit/audit.js';
import type { Provisioner } from '../../../biz/instance/instance-job.js';
import type { Postgres } from '../postgres.js';
import type { SqlInvariant } from './sql-check.js';

/** While a removal is under way, its instance may exist or not. */
function comparison(existing: string): string {
  return `SELECT 'instance ' || coalesce(l.instance_id, s.instance_id) AS id,
      CASE WHEN l.id IS NULL THEN format('%s runs without a log', s.name)
        WHEN s.name IS NULL THEN format('its log %s says %s, but it does not run', l.id, l.status)
        WHEN r.removed_at IS NOT NULL THEN format('%s runs, but was removed at %s', s.name, r.removed_at)
        WHEN l.status <> 'SUCCESS' THEN format('%s runs, but its log %s says %s', s.name, l.id, l.status)
        ELSE format('%s runs for another user, product or size than its log %s says', s.name, l.id) END AS detail
    FROM instance_logs l FULL JOIN ${existing} s ON s.instance_id = l.instance_id
      LEFT JOIN instance_removals r ON r.instance_id = l.instance_id
    WHERE (l.status IS NOT DISTINCT FROM 'SUCCESS' AND r.removed_at IS NULL) <> (s.name IS NOT NULL)
        AND NOT (l.status IS NOT DISTINCT FROM 'SUCCESS' AND r.instance_id IS NOT NULL AND r.removed_at IS NULL)
      OR (s.name IS NOT NULL AND (l.name, l.user_id, l.product_id, l.cpus, l.memory_mb, l.gpu, l.image)
        IS DISTINCT FROM (s.name, s.user_id, s.product_id, s.cpus, s.memory_mb, s.gpu, s.image))
    ORDER BY coalesce(l.instance_id, s.instance_id) LIMIT $1`;
}

/** The instances of the simulator. */
export const INSTANCES: SqlInvariant = {
  invariant: 9,
  rules: [{ name: 'instances', text: comparison('simulated_instances') }],
};

const LISTED = `(SELECT * FROM unnest($2::text[], $3::bigint[], $4::uuid[], $5::bigint[], $6::int[], $7::int[], $8::int[],
    $9::text[]) AS t(name, instance_id, user_id, product_id, cpus, memory_mb, gpu, image))`;

/** The instances of a provisioner that has no table. */
export class InstancesCheck extends AuditCheck {
  override readonly invariant = 9;

  constructor(
    private readonly db: Postgres,
    private readonly provisioner: Provisioner,
  ) {
    super();
  }

  override async check(limit: number): Promise<CheckResult> {
    const existing = await this.provisioner.list();
    const { rows } = await this.db.query<{ id: string; detail: string }>(
      { name: 'audit_provisioned_instances', text: comparison(LISTED) },
      [
        limit,
        existing.map((i) => i.name),
        existing.map((i) => i.instanceId),
        existing.map((i) => i.userId),
        existing.map((i) => i.productId),
        existing.map((i) => i.size.cpus),
        existing.map((i) => i.size.memoryMb),
        existing.map((i) => i.size.gpu),
        existing.map((i) => i.size.image),
      ],
    );
    return { violations: rows };
  }
}
