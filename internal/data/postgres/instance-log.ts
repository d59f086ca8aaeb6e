import { createHash } from 'node:crypto';
import pg from 'pg';
import { unavailable } from '../../../gen/common/v1/errors.js';
import { Batcher } from '../../biz/batcher.js';
import {
  DataRejected,
  type InstanceDeadLetter,
  type InstanceJob,
  type InstanceLog,
  type InstanceLogFilter,
  InstanceLogRepo,
  type InstanceLogStatus,
  type InstanceOrder,
  type InstanceOutcome,
  type InstanceStats,
} from '../../biz/instance/instance-log.js';
import type { Page, PageRequest } from '../../biz/page.js';
import { int4s, int8s, texts, timestamps, uuids } from './column.js';
import {
  INSTANCE_LOG_COLUMNS,
  type InstanceJobRow,
  type InstanceLogRow,
  instanceJobsOf,
  instanceLogOf,
} from './instance-log-row.js';
import type { Postgres, Statement } from './postgres.js';
import { PrimaryReads, type Reads } from './reads.js';
import { storableText } from './text.js';

const REASON_MAX = 1024;
const BATCH_MAX = 512;
/** Jobs that may wait for one statement; the workers of a process are far fewer. */
const QUEUED_MAX = 10_000;

/** Sorted, so that two consumers that insert the same orders cannot deadlock. */
const INSERT_SORTED = `INSERT INTO instance_logs (instance_id, product_id, user_id, source, source_id, order_id, name, cpus, memory_mb,
      gpu, image, trace)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::bigint[], $7::text[],
      $8::int[], $9::int[], $10::int[], $11::text[], $12::text[]) AS t(instance_id)
    ORDER BY instance_id`;

// Nearly every message is new. No row is then looked up in the three unique indexes before it is written, and none is returned.
const INSERT_NEW: Statement = { name: 'instance_log_insert_new', text: INSERT_SORTED };

const INSERT: Statement = {
  name: 'instance_log_insert',
  text: `${INSERT_SORTED} ON CONFLICT DO NOTHING RETURNING ${INSTANCE_LOG_COLUMNS}`,
};
const UNIQUE_VIOLATION = '23505';

const FIND_KNOWN: Statement = {
  name: 'instance_log_find_known',
  replan: true,
  text: `SELECT ${INSTANCE_LOG_COLUMNS} FROM instance_logs
      WHERE (source, product_id, source_id) IN (SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[]))
    UNION
    SELECT ${INSTANCE_LOG_COLUMNS} FROM instance_logs WHERE instance_id = ANY ($4::bigint[])`,
};

// A message that is rejected again after an operator replayed it waits again.
const INSERT_DEAD_LETTERS: Statement = {
  name: 'resource_dead_letter_insert',
  text: `INSERT INTO resource_dead_letters (queue, message_id, payload, reason)
    SELECT DISTINCT ON (queue, message_id) *
    FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[]) AS t(queue, message_id, payload, reason)
    ORDER BY queue, message_id
    ON CONFLICT (queue, message_id) DO UPDATE SET reason = EXCLUDED.reason, resolved_at = NULL, resolution = '',
      deliveries = resource_dead_letters.deliveries + 1`,
};

/** Whole milliseconds, as in a Date, because the end of a lease identifies it. */
const LEASE = `date_trunc('milliseconds', now())`;

/** `id = ANY (ARRAY(…))` for the same reason as in the claim of the outbox: a join may hash the whole table. */
function claim(name: string, waiting: string): Statement {
  return {
    name,
    replan: true,
    text: `UPDATE instance_logs SET next_attempt_at = ${LEASE} + $2 * interval '1 ms'
      WHERE id = ANY (ARRAY(
        SELECT id FROM instance_logs WHERE ${waiting} AND next_attempt_at <= now()
        ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED))
      RETURNING ${INSTANCE_LOG_COLUMNS}, attempts, report_attempts, next_attempt_at`,
  };
}

const CLAIM_TO_CREATE = claim('instance_log_claim_to_create', `status = 'PROCESSING'`);
const CLAIM_TO_REPORT = claim('instance_log_claim_to_report', `status <> 'PROCESSING' AND reported_at IS NULL`);

/*
 * The lease fences FAILED and not SUCCESS: a worker that created the instance is right even if its lease is over, but one
 * that failed is not while the next holder may succeed.
 *
 * `|| ''` hides the partial index from the planner, which would take it for empty and read all waiting jobs.
 */
const SETTLE: Statement = {
  name: 'instance_log_settle',
  replan: true,
  text: `UPDATE instance_logs l SET status = s.status, reason = s.reason, address = s.address, updated_at = now(),
      next_attempt_at = ${LEASE} + s.keep_ms * interval '1 ms'
    FROM unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::int[])
      AS s(id, lease_ends_at, status, reason, address, keep_ms)
    WHERE l.id = s.id AND l.status || '' = 'PROCESSING'
      AND (s.status = 'SUCCESS' OR l.next_attempt_at = s.lease_ends_at)
    RETURNING l.id, l.status, l.next_attempt_at`,
};

const STATUSES: Statement = {
  name: 'instance_log_statuses',
  replan: true,
  text: 'SELECT id, status FROM instance_logs WHERE id = ANY ($1::bigint[])',
};

const MARK_REPORTED: Statement = {
  name: 'instance_log_mark_reported',
  replan: true,
  text: `UPDATE instance_logs l SET reported_at = now(), report_error = r.refusal
    FROM unnest($1::bigint[], $2::text[]) AS r(id, refusal)
    WHERE l.id = r.id`,
};

/** Only the holder of the lease changes the counts. The end of the lease identifies its holder. */
const POSTPONE: Statement = {
  name: 'instance_log_postpone',
  replan: true,
  text: `UPDATE instance_logs l SET attempts = l.attempts + p.attempts, reason = coalesce(p.reason, l.reason),
      report_attempts = l.report_attempts + p.reports, report_error = coalesce(p.report_error, l.report_error),
      next_attempt_at = now() + p.retry_ms * interval '1 ms'
    FROM unnest($1::bigint[], $2::timestamptz[], $3::int[], $4::text[], $5::int[], $6::text[], $7::float8[])
      AS p(id, lease_ends_at, attempts, reason, reports, report_error, retry_ms)
    WHERE l.id = p.id AND l.next_attempt_at = p.lease_ends_at`,
};

const RENEW: Statement = {
  name: 'instance_log_renew',
  replan: true,
  text: `UPDATE instance_logs l SET next_attempt_at = ${LEASE} + $3 * interval '1 ms'
    FROM unnest($1::bigint[], $2::timestamptz[]) AS r(id, lease_ends_at)
    WHERE l.id = r.id AND l.next_attempt_at = r.lease_ends_at
    RETURNING l.id, l.next_attempt_at`,
};

const FILTER = `($1::uuid IS NULL OR user_id = $1) AND ($2::text IS NULL OR source = $2)
  AND ($3::text[] IS NULL OR source_id = ANY ($3)) AND ($4::bigint IS NULL OR product_id = $4)
  AND ($5::bigint IS NULL OR instance_id = $5) AND ($6::text IS NULL OR status = $6)`;

const LIST = `SELECT ${INSTANCE_LOG_COLUMNS} FROM instance_logs WHERE ${FILTER} ORDER BY created_at DESC, id DESC OFFSET $7 LIMIT $8`;
const COUNT = `SELECT count(*) AS total FROM instance_logs WHERE ${FILTER}`;

const BY_SOURCE: Statement = {
  name: 'instance_log_by_source',
  text: `SELECT source, count(*) AS total,
      count(*) FILTER (WHERE status = 'SUCCESS') AS success,
      count(*) FILTER (WHERE status = 'FAILED') AS failed,
      count(*) FILTER (WHERE status = 'PROCESSING') AS processing,
      round(100.0 * count(*) FILTER (WHERE status = 'SUCCESS') / count(*), 2)::float8 AS success_rate
    FROM instance_logs WHERE created_at >= $1 GROUP BY source ORDER BY source`,
};

/** Bounds the reply for a long window. The newest minutes are returned. */
const MINUTES_MAX = 10_000;

const BY_MINUTE: Statement = {
  name: 'instance_log_by_minute',
  text: `SELECT date_trunc('minute', created_at) AS minute, source, count(*) AS count
    FROM instance_logs WHERE created_at >= $1 GROUP BY minute, source ORDER BY minute DESC, source LIMIT ${MINUTES_MAX}`,
};

interface Renewal {
  readonly job: InstanceJob;
  readonly leaseMs: number;
}

interface Postponement {
  readonly job: InstanceJob;
  readonly attempts: number;
  readonly reason: string | null;
  readonly reports: number;
  readonly reportError: string | null;
  readonly retryAfterMs: number;
}

export class PgInstanceLogRepo extends InstanceLogRepo {
  private readonly claiming: Batcher<number, InstanceJob | undefined>;
  private readonly settling: Batcher<InstanceOutcome, InstanceLogStatus>;
  private readonly reporting: Batcher<{ job: InstanceJob; refusal: string }, undefined>;
  private readonly postponing: Batcher<Postponement, undefined>;
  private readonly renewing: Batcher<Renewal, undefined>;

  constructor(
    private readonly db: Postgres,
    private readonly reads: Reads = new PrimaryReads(db),
  ) {
    super();
    const limits = { maxBatch: BATCH_MAX, maxConcurrent: 1, maxQueued: QUEUED_MAX };
    this.claiming = new Batcher({ name: 'claims', run: (leases) => this.claimAll(leases), ...limits });
    this.settling = new Batcher({ name: 'outcomes', run: (outcomes) => this.settleAll(outcomes), ...limits });
    this.reporting = new Batcher({ name: 'reports', run: (reports) => this.markAllReported(reports), ...limits });
    this.renewing = new Batcher({ name: 'renewals', run: (renewals) => this.renewAll(renewals), ...limits });
    this.postponing = new Batcher({ name: 'postponements', run: (jobs) => this.postponeAll(jobs), ...limits });
  }

  override async insert(orders: readonly InstanceOrder[]): Promise<readonly (InstanceLog | undefined)[]> {
    const values = [
      int8s(orders, (o) => o.instanceId),
      int8s(orders, (o) => o.productId),
      uuids(orders, (o) => o.userId),
      texts(orders, (o) => o.source),
      texts(orders, (o) => o.sourceId),
      int8s(orders, (o) => o.orderId),
      texts(orders, (o) => o.name),
      int4s(orders, (o) => o.size.cpus),
      int4s(orders, (o) => o.size.memoryMb),
      int4s(orders, (o) => o.size.gpu),
      texts(orders, (o) => o.size.image),
      texts(orders, (o) => o.trace),
    ];
    if (await this.insertNew(values)) return orders.map(() => undefined);
    const { rows } = await this.db.query<InstanceLogRow>(INSERT, values).catch(explain);
    const logs = new LogIndex(rows.map(instanceLogOf));
    const known = orders.filter((o) => !logs.find(o));
    if (known.length > 0) {
      const found = await this.db.query<InstanceLogRow>(FIND_KNOWN, [
        known.map((o) => o.source),
        known.map((o) => o.productId),
        known.map((o) => o.sourceId),
        known.map((o) => o.instanceId),
      ]);
      logs.add(found.rows.map(instanceLogOf));
    }
    return orders.map((order) => {
      const log = logs.find(order);
      if (!log) throw new Error(`instance order ${order.instanceId} was neither inserted nor found`);
      return log;
    });
  }

  /** @returns false if one of them has a log already; then none is stored */
  private async insertNew(values: readonly unknown[]): Promise<boolean> {
    try {
      await this.db.query(INSERT_NEW, values);
      return true;
    } catch (err) {
      if (err instanceof pg.DatabaseError && err.code === UNIQUE_VIOLATION) return false;
      return explain(err);
    }
  }

  override async insertDeadLetters(letters: readonly InstanceDeadLetter[]): Promise<void> {
    await this.db.query(INSERT_DEAD_LETTERS, [
      letters.map((l) => l.queue),
      letters.map((l) => createHash('sha256').update(l.payload).digest('hex')),
      letters.map((l) => Buffer.from(l.payload)),
      letters.map((l) => storableText(l.reason, REASON_MAX)),
    ]);
  }

  override async claimToCreate(leaseMs: number): Promise<InstanceJob | undefined> {
    return this.claiming.add(leaseMs);
  }

  override async claimToReport(limit: number, leaseMs: number): Promise<readonly InstanceJob[]> {
    return instanceJobsOf(await this.db.query<InstanceJobRow>(CLAIM_TO_REPORT, [limit, leaseMs]));
  }

  override renew(job: InstanceJob, leaseMs: number): Promise<void> {
    return this.renewing.add({ job, leaseMs });
  }

  override countAttempt(job: InstanceJob, reason: string, retryAfterMs: number): Promise<void> {
    return this.postponing.add({ job, attempts: 1, reason, reports: 0, reportError: null, retryAfterMs });
  }

  override countReport(job: InstanceJob, reason: string, retryAfterMs: number): Promise<void> {
    return this.postponing.add({ job, attempts: 0, reason: null, reports: 1, reportError: reason, retryAfterMs });
  }

  override release(job: InstanceJob, retryAfterMs: number): Promise<void> {
    return this.postponing.add({ job, attempts: 0, reason: null, reports: 0, reportError: null, retryAfterMs });
  }

  override settle(outcome: InstanceOutcome): Promise<InstanceLogStatus> {
    return this.settling.add(outcome);
  }

  override markReported(job: InstanceJob, refusal: string): Promise<void> {
    return this.reporting.add({ job, refusal });
  }

  override async list(filter: InstanceLogFilter, page: PageRequest): Promise<Page<InstanceLog>> {
    const values = [
      filter.userId ?? null,
      filter.source ?? null,
      filter.sourceIds ?? null,
      filter.productId ?? null,
      filter.instanceId ?? null,
      filter.status ?? null,
    ];
    // Unnamed, so that each is planned for its filters. One plan for all would read the whole table.
    const [list, count] = await Promise.all([
      this.reads.query<InstanceLogRow>(undefined, { name: '', text: LIST }, [...values, page.offset, page.limit]),
      this.reads.query<{ total: bigint }>(undefined, { name: '', text: COUNT }, values),
    ]);
    return { items: list.rows.map(instanceLogOf), total: count.rows[0]?.total ?? 0n };
  }

  override async stats(since: Date): Promise<InstanceStats> {
    const [bySource, byMinute] = await Promise.all([
      this.reads.query<SourceRow>(undefined, BY_SOURCE, [since]),
      this.reads.query<MinuteRow>(undefined, BY_MINUTE, [since]),
    ]);
    return {
      bySource: bySource.rows.map(({ success_rate, ...row }) => ({ ...row, successRate: success_rate })),
      byMinute: byMinute.rows,
    };
  }

  private async claimAll(leasesMs: readonly number[]): Promise<readonly (InstanceJob | undefined)[]> {
    const jobs = instanceJobsOf(
      await this.db.query<InstanceJobRow>(CLAIM_TO_CREATE, [leasesMs.length, Math.min(...leasesMs)]),
    );
    return leasesMs.map((_, i) => jobs[i]);
  }

  private async settleAll(outcomes: readonly InstanceOutcome[]): Promise<readonly InstanceLogStatus[]> {
    const ids = outcomes.map((o) => o.job.id);
    const { rows } = await this.db.query<Pick<InstanceJobRow, 'id' | 'status' | 'next_attempt_at'>>(SETTLE, [
      int8s(ids, (id) => id),
      timestamps(outcomes, (o) => o.job.leaseEndsAt),
      texts(outcomes, (o) => o.status),
      texts(outcomes, (o) => storableText(o.reason, REASON_MAX)),
      texts(outcomes, (o) => o.address),
      int4s(outcomes, (o) => o.keepMs ?? 0),
    ]);
    const ends = new Map(rows.map((row) => [row.id, row.next_attempt_at]));
    for (const { job } of outcomes) job.leaseEndsAt = ends.get(job.id) ?? job.leaseEndsAt;
    const standing = new Map(rows.map((row) => [row.id, row.status]));
    if (standing.size < outcomes.length) {
      const missing = ids.filter((id) => !standing.has(id));
      const found = await this.db.query<Pick<InstanceLogRow, 'id' | 'status'>>(STATUSES, [missing]);
      for (const row of found.rows) standing.set(row.id, row.status);
    }
    return ids.map((id) => {
      const stands = standing.get(id);
      if (!stands) throw new Error(`instance log ${id} no longer exists`);
      return stands;
    });
  }

  private async markAllReported(
    reports: readonly { job: InstanceJob; refusal: string }[],
  ): Promise<readonly undefined[]> {
    await this.db.query(MARK_REPORTED, [
      int8s(reports, (r) => r.job.id),
      texts(reports, (r) => storableText(r.refusal, REASON_MAX)),
    ]);
    return reports.map(() => undefined);
  }

  private async renewAll(renewals: readonly Renewal[]): Promise<readonly undefined[]> {
    const { rows } = await this.db.query<Pick<InstanceJobRow, 'id' | 'next_attempt_at'>>(RENEW, [
      renewals.map((r) => r.job.id),
      renewals.map((r) => r.job.leaseEndsAt),
      Math.min(...renewals.map((r) => r.leaseMs)),
    ]);
    const ends = new Map(rows.map((row) => [row.id, row.next_attempt_at]));
    for (const { job } of renewals) job.leaseEndsAt = ends.get(job.id) ?? job.leaseEndsAt;
    return renewals.map(() => undefined);
  }

  private async postponeAll(postponements: readonly Postponement[]): Promise<readonly undefined[]> {
    const text = (reason: string | null) => (reason === null ? null : storableText(reason, REASON_MAX));
    await this.db.query(POSTPONE, [
      postponements.map((p) => p.job.id),
      postponements.map((p) => p.job.leaseEndsAt),
      postponements.map((p) => p.attempts),
      postponements.map((p) => text(p.reason)),
      postponements.map((p) => p.reports),
      postponements.map((p) => text(p.reportError)),
      postponements.map((p) => p.retryAfterMs),
    ]);
    return postponements.map(() => undefined);
  }
}

/** Logs by their source and by their instance. */
class LogIndex {
  private readonly bySource = new Map<string, InstanceLog>();
  private readonly byInstance = new Map<bigint, InstanceLog>();

  constructor(logs: readonly InstanceLog[]) {
    this.add(logs);
  }

  add(logs: readonly InstanceLog[]): void {
    for (const log of logs) {
      this.bySource.set(keyOf(log), log);
      this.byInstance.set(log.instanceId, log);
    }
  }

  find(order: InstanceOrder): InstanceLog | undefined {
    return this.bySource.get(keyOf(order)) ?? this.byInstance.get(order.instanceId);
  }
}

function keyOf(order: InstanceOrder): string {
  return `${order.source} ${order.productId} ${order.sourceId}`;
}

/** Class 22: values that do not fit their type. Class 23: values that violate a constraint. All others may be transient. */
function explain(err: unknown): never {
  if (!(err instanceof pg.DatabaseError)) throw err;
  if (/^2[23]/.test(err.code ?? '')) throw new DataRejected(`${err.message} (${err.code})`, { cause: err });
  throw unavailable('the database cannot store instance logs now', { cause: err });
}

interface SourceRow {
  source: string;
  total: bigint;
  success: bigint;
  failed: bigint;
  processing: bigint;
  success_rate: number;
}

interface MinuteRow {
  minute: Date;
  source: string;
  count: bigint;
}
