import { randomUUID } from 'node:crypto';
import type { InstanceStateChange } from '../../biz/instance/instance-job.js';
import {
  type Instance,
  type InstanceFilter,
  InstanceLifeRepo,
  type InstanceRemoval,
  type InstanceState,
} from '../../biz/instance/instance-life.js';
import type { Page, PageRequest } from '../../biz/page.js';
import type { Postgres, Statement } from './postgres.js';
import { PrimaryReads, type Reads } from './reads.js';
import { storableText } from './text.js';

const REASON_MAX = 1024;
const ADDRESS_MAX = 64;

const STATE = `CASE WHEN l.status = 'PROCESSING' THEN 'STARTING' WHEN l.status = 'FAILED' THEN 'FAILED'
  WHEN r.removed_at IS NOT NULL THEN 'REMOVED' WHEN r.instance_id IS NOT NULL THEN 'REMOVING' ELSE l.state END`;

const COLUMNS = `l.instance_id, l.product_id, l.user_id, l.order_id, l.name, l.cpus, l.memory_mb, l.gpu, l.image, l.address,
  l.created_at, ${STATE} AS state,
  CASE WHEN r.instance_id IS NOT NULL THEN r.reason WHEN l.status = 'SUCCESS' THEN l.state_reason ELSE l.reason END AS reason,
  coalesce(r.removed_at, r.requested_at, l.state_since, l.updated_at) AS since`;

const FROM = 'FROM instance_logs l LEFT JOIN instance_removals r ON r.instance_id = l.instance_id';

const FILTER = `($1::uuid IS NULL OR l.user_id = $1)
  AND CASE WHEN $2::text IS NULL THEN ${STATE} NOT IN ('REMOVED', 'FAILED') ELSE ${STATE} = $2 END`;

const LIST = `SELECT ${COLUMNS} ${FROM} WHERE ${FILTER} ORDER BY l.created_at DESC, l.id DESC OFFSET $3 LIMIT $4`;
const COUNT = `SELECT count(*) AS total ${FROM} WHERE ${FILTER}`;

const FIND: Statement = {
  name: 'instance_life_find',
  text: `SELECT ${COLUMNS} ${FROM} WHERE l.instance_id = $1 AND ($2::uuid IS NULL OR l.user_id = $2)`,
};

const REQUEST: Statement = {
  name: 'instance_removal_request',
  text: `INSERT INTO instance_removals (instance_id, reason)
    SELECT DISTINCT ON (instance_id) instance_id, reason FROM unnest($1::bigint[], $2::text[]) AS t(instance_id, reason)
    ORDER BY instance_id
    ON CONFLICT DO NOTHING`,
};

const CLAIM: Statement = {
  name: 'instance_removal_claim',
  text: `WITH claimed AS (
      UPDATE instance_removals SET next_attempt_at = now() + $2 * interval '1 ms', attempts = attempts + 1
      WHERE instance_id = ANY (ARRAY(
        SELECT r.instance_id FROM instance_removals r JOIN instance_logs l ON l.instance_id = r.instance_id
        WHERE r.removed_at IS NULL AND r.next_attempt_at <= now() AND l.status <> 'PROCESSING' AND l.reported_at IS NOT NULL
        ORDER BY r.next_attempt_at LIMIT $1 FOR UPDATE OF r SKIP LOCKED))
      RETURNING instance_id, attempts, next_attempt_at)
    SELECT l.*, c.attempts AS removal_attempts, c.next_attempt_at AS removal_lease_ends_at
    FROM claimed c JOIN instance_logs l ON l.instance_id = c.instance_id`,
};

const MARK_REMOVED: Statement = {
  name: 'instance_removal_mark',
  text: `UPDATE instance_removals SET removed_at = now(), last_error = '' WHERE instance_id = ANY ($1::bigint[])
    AND removed_at IS NULL`,
};

const POSTPONE: Statement = {
  name: 'instance_removal_postpone',
  text: `UPDATE instance_removals SET last_error = $2, next_attempt_at = now() + $3 * interval '1 ms'
    WHERE instance_id = $1 AND removed_at IS NULL`,
};

const SET_STATES: Statement = {
  name: 'instance_life_set_states',
  text: `UPDATE instance_logs l SET state = s.state, state_reason = s.reason, address = s.address, state_since = now()
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[]) AS s(instance_id, state, reason, address)
    WHERE l.instance_id = s.instance_id AND l.status = 'SUCCESS'
      AND (l.state, l.state_reason, l.address) IS DISTINCT FROM (s.state, s.reason, s.address)
      AND NOT EXISTS (SELECT FROM instance_removals r WHERE r.instance_id = l.instance_id)
    RETURNING l.instance_id, l.state, l.state_reason AS reason, l.address`,
};

const FIND_UNOWNED: Statement = {
  name: 'instance_life_find_unowned',
  text: `SELECT t.instance_id FROM unnest($1::bigint[]) AS t(instance_id)
    WHERE EXISTS (SELECT FROM instance_removals r WHERE r.instance_id = t.instance_id AND r.removed_at IS NOT NULL)
      OR (NOT EXISTS (SELECT FROM instance_logs l WHERE l.instance_id = t.instance_id AND l.status <> 'FAILED')
        AND NOT EXISTS (SELECT FROM instance_requests q WHERE q.instance_id = t.instance_id AND q.status <> 'FAILED'))`,
};

const FIND_MISSING: Statement = {
  name: 'instance_life_find_missing',
  text: `SELECT l.instance_id FROM instance_logs l
    WHERE l.status = 'SUCCESS' AND l.state <> 'LOST' AND l.updated_at < now() - $2 * interval '1 ms'
      AND NOT l.instance_id = ANY ($1::bigint[])
      AND NOT EXISTS (SELECT FROM instance_removals r WHERE r.instance_id = l.instance_id)
    ORDER BY l.id LIMIT $3`,
};

const COUNT_STATES: Statement = {
  name: 'instance_life_count_states',
  text: `SELECT CASE WHEN r.instance_id IS NOT NULL THEN 'REMOVING' ELSE l.state END AS state, count(*)::int AS n ${FROM}
    WHERE l.status = 'SUCCESS' AND r.removed_at IS NULL GROUP BY 1`,
};

const TAKE_TURN: Statement = {
  name: 'instance_life_take_turn',
  text: `INSERT INTO resource_retention_leases AS l (name, holder, until)
    VALUES ('reconcile', $1, now() + $2 * interval '1 ms')
    ON CONFLICT (name) DO UPDATE SET holder = EXCLUDED.holder, until = EXCLUDED.until WHERE l.until <= now()`,
};

export class PgInstanceLifeRepo extends InstanceLifeRepo {
  private readonly holder = randomUUID();

  constructor(
    private readonly db: Postgres,
    private readonly reads: Reads = new PrimaryReads(db),
  ) {
    super();
  }

  override async list(filter: InstanceFilter, page: PageRequest): Promise<Page<Instance>> {
    const values = [filter.userId ?? null, filter.state ?? null];
    // Unnamed, so that each is planned for its filters.
    const [list, count] = await Promise.all([
      this.reads.query<InstanceRow>(undefined, { name: '', text: LIST }, [...values, page.offset, page.limit]),
      this.reads.query<{ total: bigint }>(undefined, { name: '', text: COUNT }, values),
    ]);
    return { items: list.rows.map(instanceOf), total: count.rows[0]?.total ?? 0n };
  }

  override async find(instanceId: bigint, userId: string | undefined): Promise<Instance | undefined> {
    const { rows } = await this.db.query<InstanceRow>(FIND, [instanceId, userId ?? null]);
    return rows[0] && instanceOf(rows[0]);
  }

  override async requestRemovals(removals: readonly { instanceId: bigint; reason: string }[]): Promise<void> {
    await this.db.query(REQUEST, [removals.map((r) => r.instanceId), removals.map((r) => storableText(r.reason, 255))]);
  }

  override async claimRemovals(limit: number, leaseMs: number): Promise<readonly InstanceRemoval[]> {
    const { rows } = await this.db.query<RemovalRow>(CLAIM, [limit, leaseMs]);
    return rows.map((row) => ({
      attempts: row.removal_attempts,
      instance: {
        ...{ id: row.id, instanceId: row.instance_id, productId: row.product_id, userId: row.user_id, name: row.name },
        ...{ source: row.source, sourceId: row.source_id, orderId: row.order_id ?? undefined, size: sizeOf(row) },
        ...{ status: row.status, reason: row.reason, createdAt: row.created_at, updatedAt: row.updated_at },
        ...{ attempts: 0, reportAttempts: 0, leaseEndsAt: row.removal_lease_ends_at },
      },
    }));
  }

  override async markRemoved(instanceIds: readonly bigint[]): Promise<void> {
    await this.db.query(MARK_REMOVED, [instanceIds]);
  }

  override async postponeRemoval(instanceId: bigint, reason: string, retryAfterMs: number): Promise<void> {
    await this.db.query(POSTPONE, [instanceId, storableText(reason, REASON_MAX), retryAfterMs]);
  }

  override async setStates(states: readonly InstanceStateChange[]): Promise<readonly InstanceStateChange[]> {
    if (states.length === 0) return [];
    const { rows } = await this.db.query<StateRow>(SET_STATES, [
      states.map((s) => s.instanceId),
      states.map((s) => s.state),
      states.map((s) => storableText(s.reason, REASON_MAX)),
      states.map((s) => storableText(s.address, ADDRESS_MAX)),
    ]);
    return rows.map(({ instance_id, ...row }) => ({ ...row, instanceId: instance_id }));
  }

  override async findUnowned(instanceIds: readonly bigint[]): Promise<readonly bigint[]> {
    if (instanceIds.length === 0) return [];
    return idsOf(await this.db.query<IdRow>(FIND_UNOWNED, [instanceIds]));
  }

  override async findMissing(existing: readonly bigint[], minAgeMs: number, limit: number): Promise<readonly bigint[]> {
    return idsOf(await this.db.query<IdRow>(FIND_MISSING, [existing, minAgeMs, limit]));
  }

  override async countStates(): Promise<Readonly<Record<'RUNNING' | 'DOWN' | 'LOST' | 'REMOVING', number>>> {
    const counts = { RUNNING: 0, DOWN: 0, LOST: 0, REMOVING: 0 };
    const { rows } = await this.db.query<{ state: keyof typeof counts; n: number }>(COUNT_STATES, []);
    for (const { state, n } of rows) counts[state] = n;
    return counts;
  }

  override async takeTurn(intervalMs: number): Promise<boolean> {
    const { rowCount } = await this.db.query(TAKE_TURN, [this.holder, intervalMs]);
    return rowCount === 1;
  }
}

interface IdRow {
  instance_id: bigint;
}

interface StateRow extends IdRow {
  state: InstanceStateChange['state'];
  reason: string;
  address: string;
}

interface SizeRow {
  cpus: number;
  memory_mb: number;
  gpu: number;
  image: string;
}

interface InstanceRow extends IdRow, SizeRow {
  product_id: bigint;
  user_id: string;
  order_id: bigint | null;
  name: string;
  state: InstanceState;
  reason: string;
  address: string;
  created_at: Date;
  since: Date;
}

interface RemovalRow extends IdRow, SizeRow {
  id: bigint;
  product_id: bigint;
  user_id: string;
  source: string;
  source_id: string;
  order_id: bigint | null;
  name: string;
  status: 'SUCCESS' | 'FAILED';
  reason: string;
  created_at: Date;
  updated_at: Date;
  removal_attempts: number;
  removal_lease_ends_at: Date;
}

function idsOf({ rows }: { rows: IdRow[] }): readonly bigint[] {
  return rows.map((row) => row.instance_id);
}

function sizeOf({ cpus, memory_mb, gpu, image }: SizeRow) {
  return { cpus, memoryMb: memory_mb, gpu, image };
}

function instanceOf(row: InstanceRow): Instance {
  const { name, state, reason, address, since } = row;
  return {
    ...{
      instanceId: row.instance_id,
      productId: row.product_id,
      userId: row.user_id,
      orderId: row.order_id ?? undefined,
    },
    ...{ name, size: sizeOf(row), state, reason, address, createdAt: row.created_at, since },
  };
}
