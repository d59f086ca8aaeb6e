import pg from 'pg';
import { Event } from '../../../gen/instance/v1/event.js';
import type { InstanceEvent, InstanceReport, InstanceRequest, InstanceStatus } from '../../biz/instance/instance.js';
import { InstanceRepo } from '../../biz/instance/instance.js';
import type { Transaction } from '../../biz/transaction.js';
import { Metrics } from '../../kratos/metrics/metrics.js';
import type { Times } from '../../kratos/metrics/times.js';
import { NoTrace, type Trace } from '../../kratos/tracing/trace.js';
import { byteas, int8s, texts, uuids } from './column.js';
import type { Postgres, Statement } from './postgres.js';

/** Outbox topic of the events that request an instance from the resource domain. */
export const TOPIC_INSTANCE_CREATED = 'instance.created';
/** The event type, as document 001 names it. */
const EVENT_TYPE = 'INSTANCE_CREATED';
const MB_PER_GB = 1024;

const COLUMNS = `instance_id, product_id, user_id, source, source_id, order_id, status, reason, created_at, reported_at`;

// Sorted by key, so that two batches with several common keys cannot deadlock, and then in the given order, so that the first
// of several equal keys is stored. Only the number of new rows is returned: returning and reading all of them took longer
// than storing them.
const INSERT: Statement = {
  name: 'instance_request_insert',
  text: `WITH r AS (
      INSERT INTO instance_requests (instance_id, product_id, user_id, source, source_id, order_id)
      SELECT instance_id, product_id, user_id, source, source_id, order_id
      FROM unnest($2::bigint[], $3::bigint[], $4::uuid[], $5::text[], $6::text[], $7::bigint[]) WITH ORDINALITY
        AS t(instance_id, product_id, user_id, source, source_id, order_id, n)
      ORDER BY source COLLATE "C", product_id, source_id COLLATE "C", n
      ON CONFLICT (source, product_id, source_id) DO NOTHING
      RETURNING instance_id),
    o AS (
      INSERT INTO outbox (topic, ref_id, payload, headers)
      SELECT $1, ref_id, payload, CASE WHEN trace IS NOT NULL THEN jsonb_build_object('traceparent', trace) END
      FROM unnest($2::bigint[], $8::bytea[], $9::text[]) AS t(ref_id, payload, trace)
      WHERE ref_id IN (SELECT instance_id FROM r))
    SELECT count(*)::int AS added, now() AS at FROM r`,
};

// A third less work than INSERT: no row is looked up before it is written, none is sorted, and none is joined with what was stored.
const INSERT_NEW: Statement = {
  name: 'instance_request_insert_new',
  text: `WITH r AS (
      INSERT INTO instance_requests (instance_id, product_id, user_id, source, source_id, order_id)
      SELECT * FROM unnest($2::bigint[], $3::bigint[], $4::uuid[], $5::text[], $6::text[], $7::bigint[]))
    INSERT INTO outbox (topic, ref_id, payload, headers)
    SELECT $1, ref_id, payload, CASE WHEN trace IS NOT NULL THEN jsonb_build_object('traceparent', trace) END
    FROM unnest($2::bigint[], $8::bytea[], $9::text[]) AS t(ref_id, payload, trace)`,
};
const UNIQUE_VIOLATION = '23505';

const FIND_BY_SOURCE: Statement = {
  name: 'instance_request_find_by_source',
  replan: true,
  text: `SELECT ${COLUMNS} FROM instance_requests
    WHERE (source, product_id, source_id) IN (SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[]))`,
};

const FIND: Statement = {
  name: 'instance_request_find',
  text: `SELECT ${COLUMNS} FROM instance_requests WHERE instance_id = $1`,
};

const LOCK: Statement = { name: 'instance_request_lock', text: `${FIND.text} FOR UPDATE` };

// The time of the click is in the stream id. One that a program made up is no time, and an order that was paid later
// counts from its payment. An order in the archive is overlooked, because looking there as well costs each report an index probe.
const SECONDS = `extract(epoch FROM now() - coalesce((
      SELECT CASE WHEN r.source = 'SECKILL' AND o.pay_deadline IS NULL AND r.source_id ~ '^[0-9]{13}-'
        THEN to_timestamp(split_part(r.source_id, '-', 1)::float8 / 1000) ELSE o.paid_at END
      FROM ONLY orders o WHERE o.id = r.order_id), r.created_at))::float8 AS seconds`;

const SET_REPORT: Statement = {
  name: 'instance_request_set_report',
  text: `UPDATE instance_requests AS r SET status = $2, reason = left($3, 1024), reported_at = now()
    WHERE instance_id = $1 RETURNING ${COLUMNS}, ${SECONDS}`,
};

// Locked in the order of their ids, so that two batches with several common requests cannot deadlock.
const SET_CREATED: Statement = {
  name: 'instance_request_set_created',
  replan: true,
  text: `UPDATE instance_requests AS r SET status = 'SUCCESS', reported_at = now()
    WHERE instance_id = ANY (ARRAY(SELECT instance_id FROM instance_requests
      WHERE instance_id = ANY ($1::bigint[]) AND status = 'REQUESTED' ORDER BY instance_id FOR UPDATE))
    RETURNING instance_id, order_id, ${SECONDS}`,
};

/*
 * A request and its outbox row are created in one transaction, so both have the same created_at, and the BRIN indexes on
 * it find both.
 */
const RESEND_LOST: Statement = {
  name: 'instance_request_resend_lost',
  text: `UPDATE outbox SET published_at = NULL, next_attempt_at = now()
    WHERE id = ANY (ARRAY(
      SELECT b.id FROM instance_requests r JOIN outbox b ON b.ref_id = r.instance_id AND b.created_at = r.created_at
      WHERE r.created_at <= now() - $1::float8 * interval '1 ms' AND r.created_at > now() - $2::float8 * interval '1 ms'
        AND b.created_at <= now() - $1::float8 * interval '1 ms' AND b.created_at > now() - $2::float8 * interval '1 ms'
        AND r.status = 'REQUESTED' AND b.topic = $4
        AND b.published_at <= now() - $1::float8 / 2 * interval '1 ms'
        AND NOT EXISTS (SELECT FROM instance_logs WHERE instance_id = r.instance_id)
        AND NOT EXISTS (SELECT FROM resource_dead_letters WHERE message_id = encode(sha256(b.payload), 'hex'))
      ORDER BY b.id LIMIT $3 FOR UPDATE OF b SKIP LOCKED))`,
};

/** Bounds in seconds. */
const CLICK_TO_INSTANCE = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600];

export class PgInstanceRepo extends InstanceRepo {
  private readonly clickToInstance: Times;

  constructor(
    private readonly db: Postgres,
    private readonly trace: Trace = new NoTrace(),
    metrics: Metrics = new Metrics(),
  ) {
    super();
    this.clickToInstance = metrics.times(
      'click_to_instance_seconds',
      'Time from the click of a prepaid purchase, or the payment of another order, until its instance was reported as created.',
      {},
      CLICK_TO_INSTANCE,
    );
  }

  override async insertRequests(
    tx: Transaction,
    events: readonly InstanceEvent[],
  ): Promise<readonly InstanceRequest[]> {
    const { rows } = await this.db.query<{ added: number; at: Date }>(INSERT, this.columnsOf(events), tx);
    const [{ added, at }] = rows as [{ added: number; at: Date }];
    if (added === events.length) return events.map((e) => newRequestOf(e, at));
    const stored = new Map<string, InstanceRequest>();
    const found = await this.db.query<RequestRow>(
      FIND_BY_SOURCE,
      [texts(events, (e) => e.source), int8s(events, (e) => e.productId), texts(events, (e) => e.sourceId)],
      tx,
    );
    for (const row of found.rows) stored.set(keyOf(row.source, row.product_id, row.source_id), requestOf(row));
    return events.map((e) => {
      const request = stored.get(keyOf(e.source, e.productId, e.sourceId));
      if (!request)
        throw new Error(`instance request ${e.source} ${e.productId} ${e.sourceId} was neither inserted nor found`);
      return request;
    });
  }

  override async insertNew(tx: Transaction, events: readonly InstanceEvent[]): Promise<boolean> {
    try {
      await this.db.query(INSERT_NEW, this.columnsOf(events), tx);
      return true;
    } catch (err) {
      if (err instanceof pg.DatabaseError && err.code === UNIQUE_VIOLATION) return false;
      throw err;
    }
  }

  private columnsOf(events: readonly InstanceEvent[]): readonly unknown[] {
    const here = this.trace.capture();
    const payloads = payloadsOf(events);
    return [
      TOPIC_INSTANCE_CREATED,
      int8s(events, (e) => e.instanceId),
      int8s(events, (e) => e.productId),
      uuids(events, (e) => e.userId),
      texts(events, (e) => e.source),
      texts(events, (e) => e.sourceId),
      int8s(events, (e) => e.orderId),
      byteas(payloads, (payload) => payload),
      texts(events, (e) => e.trace ?? here),
    ];
  }

  override async find(instanceId: bigint): Promise<InstanceRequest | undefined> {
    const { rows } = await this.db.query<RequestRow>(FIND, [instanceId]);
    return rows[0] && requestOf(rows[0]);
  }

  override async lock(tx: Transaction, instanceId: bigint): Promise<InstanceRequest | undefined> {
    const { rows } = await this.db.query<RequestRow>(LOCK, [instanceId], tx);
    return rows[0] && requestOf(rows[0]);
  }

  override async setReport(tx: Transaction, report: InstanceReport): Promise<InstanceRequest> {
    const values = [report.instanceId, report.status, report.reason];
    const { rows } = await this.db.query<RequestRow & { seconds: number }>(SET_REPORT, values, tx);
    const row = rows[0]!;
    // Clocks differ: a click may lie in the future.
    const seconds = Math.max(0, row.seconds);
    if (report.status === 'SUCCESS') this.db.afterCommit(tx, () => this.clickToInstance.add(seconds));
    return requestOf(row);
  }

  override async setCreated(
    tx: Transaction,
    instanceIds: readonly bigint[],
  ): Promise<readonly Pick<InstanceRequest, 'instanceId' | 'orderId'>[]> {
    const values = [int8s(instanceIds, (id) => id)];
    const { rows } = await this.db.query<Pick<RequestRow, 'instance_id' | 'order_id'> & { seconds: number }>(
      SET_CREATED,
      values,
      tx,
    );
    this.db.afterCommit(tx, () => {
      for (const { seconds } of rows) this.clickToInstance.add(Math.max(0, seconds));
    });
    return rows.map((row) => ({ instanceId: row.instance_id, orderId: row.order_id ?? undefined }));
  }

  override async resendLost(minAgeMs: number, maxAgeMs: number, limit: number): Promise<number> {
    const { rowCount } = await this.db.query(RESEND_LOST, [minAgeMs, maxAgeMs, limit, TOPIC_INSTANCE_CREATED]);
    return rowCount ?? 0;
  }
}

interface RequestRow {
  instance_id: bigint;
  product_id: bigint;
  user_id: string;
  source: string;
  source_id: string;
  order_id: bigint | null;
  status: InstanceStatus;
  reason: string;
  created_at: Date;
  reported_at: Date | null;
}

function keyOf(source: string, productId: bigint, sourceId: string): string {
  return `${source} ${productId} ${sourceId}`;
}

function requestOf(row: RequestRow): InstanceRequest {
  return {
    instanceId: row.instance_id,
    productId: row.product_id,
    userId: row.user_id,
    source: row.source,
    sourceId: row.source_id,
    orderId: row.order_id ?? undefined,
    status: row.status,
    reason: row.reason,
    createdAt: row.created_at,
    reportedAt: row.reported_at ?? undefined,
  };
}

function newRequestOf(event: InstanceEvent, createdAt: Date): InstanceRequest {
  return {
    instanceId: event.instanceId,
    productId: event.productId,
    userId: event.userId,
    source: event.source,
    sourceId: event.sourceId,
    orderId: event.orderId,
    status: 'REQUESTED',
    reason: '',
    createdAt,
    reportedAt: undefined,
  };
}

/**
 * The payloads of events. The fields that events of one product share are encoded once: two concatenated messages are one
 * message with the fields of both. This halves the time.
 */
function payloadsOf(events: readonly InstanceEvent[]): readonly Uint8Array[] {
  let last: InstanceEvent | undefined;
  let common: Uint8Array = new Uint8Array();
  return events.map((e) => {
    if (e.productId !== last?.productId || e.spec !== last.spec || e.source !== last.source || e.at !== last.at) {
      common = Event.encode({ ...NOTHING, ...commonOf(e) }).finish();
    }
    last = e;
    const own = Event.encode({
      eventType: '',
      instanceId: e.instanceId,
      userId: e.userId,
      name: e.name,
      spec: undefined,
      timestamp: undefined,
      productId: 0n,
      source: '',
      sourceId: e.sourceId,
      orderId: e.orderId ?? 0n,
      reason: '',
    }).finish();
    return Buffer.concat([common, own]);
  });
}

const NOTHING = Event.create();

function commonOf(e: InstanceEvent): Partial<Event> {
  return {
    eventType: EVENT_TYPE,
    spec: { cpus: e.spec.cpu, memoryMb: e.spec.memoryGb * MB_PER_GB, gpu: e.spec.gpu, image: e.spec.image },
    timestamp: e.at,
    productId: e.productId,
    source: e.source,
  };
}
