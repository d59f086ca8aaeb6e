import {
  type Access,
  type AccessState,
  type Entitlement,
  EntitlementRepo,
  type EntitlementStatus,
  type NewEntitlement,
  type Revocation,
  type TitleUpdate,
} from '../../biz/entitlement/entitlement-state.js';
import type { Transaction } from '../../biz/transaction.js';
import { int4s, int8s, texts, uuids } from './column.js';
import type { Postgres, Statement } from './postgres.js';
import { PrimaryReads, type Reads } from './reads.js';

const TABLE = 'order_content_association';
const COLUMNS = `id, order_id, user_id, content_id, content_title, content_type, goods_type, access_start_time, access_end_time,
  status, reason, create_time`;

/** The time that access is judged by. The parameter moves it, in ms: see `content.clock_offset`. */
const nowBy = (parameter: string) => `(now() + ${parameter}::float8 * interval '1 ms')`;

/*
 * A chain of temporary access has no row to lock before its first entitlement. So a lock stands for each of 1024 groups of
 * accesses: a settlement of hundreds of buyers then takes no more locks than the server has room for.
 */
const LOCK: Statement = {
  name: 'entitlement_lock',
  text: `SELECT pg_advisory_xact_lock(key) FROM (
      SELECT DISTINCT hashtextextended('access ' || (hashtextextended(user_id::text || content_id, 0) & 1023), 0) AS key
      FROM unnest($1::uuid[], $2::bigint[]) AS t(user_id, content_id) ORDER BY 1) AS keys`,
};

const FIND_PERMANENT: Statement = {
  name: 'entitlement_find_permanent',
  text: `SELECT t.user_id AS "userId", t.content_id AS "contentId"
    FROM unnest($1::uuid[], $2::bigint[]) AS t(user_id, content_id)
    WHERE EXISTS (SELECT FROM ${TABLE} e WHERE e.user_id = t.user_id AND e.content_id = t.content_id AND e.status = 'ACTIVE'
      AND e.deleted = 0 AND e.access_end_time IS NULL AND e.order_id IS DISTINCT FROM $3::bigint)`,
};

/*
 * The contents are shared until the end of the transaction, so that a title which changes meanwhile changes after these
 * copies are stored: the message about it then finds them. Several entitlements of one access follow on each other in the
 * order in which they are given.
 */
const INSERT: Statement = {
  name: 'entitlement_insert',
  text: `WITH c AS MATERIALIZED (
      SELECT id, title, content_type, version FROM contents WHERE id = ANY ($3::bigint[]) ORDER BY id FOR SHARE),
    g AS (
      SELECT t.*, coalesce(sum(days) OVER (PARTITION BY user_id, content_id ORDER BY n
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)::int AS days_before
      FROM unnest($1::bigint[], $2::uuid[], $3::bigint[], $4::int[], $5::text[], $6::text[], $7::text[])
        WITH ORDINALITY AS t(order_id, user_id, content_id, days, goods_type, request_id, reason, n)
      WHERE NOT EXISTS (SELECT FROM ${TABLE} e WHERE e.order_id = t.order_id AND e.content_id = t.content_id)
        AND NOT EXISTS (SELECT FROM ${TABLE} e WHERE e.user_id = t.user_id AND e.content_id = t.content_id
          AND e.request_id = t.request_id))
    INSERT INTO ${TABLE} (order_id, user_id, content_id, content_title, content_type, content_version, goods_type,
      access_type, access_start_time, access_end_time, request_id, reason)
    SELECT g.order_id, g.user_id, g.content_id, c.title, c.content_type, c.version, g.goods_type,
      CASE WHEN g.days IS NULL THEN 'PERMANENT' ELSE 'TEMPORARY' END,
      CASE WHEN g.days IS NULL THEN ${nowBy('$8')} ELSE s.free + g.days_before * interval '24 hours' END,
      s.free + (g.days_before + g.days) * interval '24 hours', g.request_id, g.reason
    FROM g JOIN c ON c.id = g.content_id CROSS JOIN LATERAL (
      SELECT greatest(${nowBy('$8')}, max(access_end_time)) AS free FROM ${TABLE} e
      WHERE e.user_id = g.user_id AND e.content_id = g.content_id AND e.status = 'ACTIVE') AS s
    ORDER BY g.n
    ON CONFLICT DO NOTHING`,
};

const LIST_OF_ORDER: Statement = {
  name: 'entitlement_list_of_order',
  text: `SELECT ${COLUMNS} FROM ${TABLE} WHERE order_id = $1 ORDER BY id`,
};

const LIST_OF_ACCESS: Statement = {
  name: 'entitlement_list_of_access',
  text: `SELECT ${COLUMNS} FROM ${TABLE} WHERE user_id = $1 AND content_id = $2 ORDER BY access_start_time, id`,
};

const FIND_BY_REQUEST: Statement = {
  name: 'entitlement_find_by_request',
  text: `SELECT ${COLUMNS} FROM ${TABLE} WHERE user_id = $1 AND content_id = $2 AND request_id = $3`,
};

// All rows of the access are locked by id first, as a change of titles does.
const REVOKE: Statement = {
  name: 'entitlement_revoke',
  text: `WITH e AS MATERIALIZED (
      SELECT user_id, content_id, status, access_end_time AS ends,
        access_start_time + $2::int * interval '24 hours' AS kept FROM ${TABLE} WHERE id = $1),
    locked AS MATERIALIZED (
      SELECT o.id FROM ${TABLE} o JOIN e USING (user_id, content_id) ORDER BY o.id FOR UPDATE OF o),
    cut AS MATERIALIZED (
      SELECT e.*, e.ends - greatest(e.kept, ${nowBy('$4')}) AS unused FROM e
      WHERE (SELECT count(*) FROM locked) > 0 AND e.status <> 'REVOKED'
        AND ($2 = 0 OR e.ends IS NULL OR e.kept < e.ends)),
    revoked AS (
      UPDATE ${TABLE} o SET status = CASE WHEN $2 = 0 THEN 'REVOKED' ELSE o.status END,
        access_type = CASE WHEN $2 = 0 THEN o.access_type ELSE 'TEMPORARY' END,
        access_end_time = CASE WHEN $2 = 0 THEN o.access_end_time ELSE cut.kept END, reason = $3, update_time = now()
      FROM cut WHERE o.id = $1)
    UPDATE ${TABLE} o SET access_start_time = access_start_time - cut.unused,
      access_end_time = access_end_time - cut.unused, update_time = now()
    FROM cut WHERE cut.unused > interval '0' AND o.user_id = cut.user_id AND o.content_id = cut.content_id AND o.id <> $1
      AND o.status = 'ACTIVE' AND o.access_type = 'TEMPORARY' AND o.access_start_time >= cut.ends`,
};

/** What a check reads of the rows of an access. Access that follows without a gap has begun when the one before it ends. */
const STATE = (now: string) => `bool_or(access_start_time <= ${now}) AS has_access,
  bool_or(access_end_time IS NULL) AS permanent, max(access_end_time) AS ends`;
const VALID = (now: string) =>
  `status = 'ACTIVE' AND deleted = 0 AND (access_end_time IS NULL OR access_end_time > ${now})`;

const CHECK: Statement = {
  name: 'entitlement_check',
  text: `SELECT ${STATE(nowBy('$3'))} FROM ${TABLE} WHERE user_id = $1 AND content_id = $2 AND ${VALID(nowBy('$3'))}`,
};

const CHECK_ALL: Statement = {
  name: 'entitlement_check_all',
  text: `SELECT s.* FROM unnest($1::uuid[], $2::bigint[]) WITH ORDINALITY AS t(user_id, content_id, n)
    CROSS JOIN LATERAL (SELECT ${STATE(nowBy('$3'))} FROM ${TABLE} e
      WHERE e.user_id = t.user_id AND e.content_id = t.content_id AND ${VALID(nowBy('$3'))}) AS s ORDER BY t.n`,
};

const LIST: Statement = {
  name: 'entitlement_list',
  text: `SELECT ${COLUMNS} FROM ${TABLE} WHERE user_id = $1 AND deleted = 0 AND ($2::text IS NULL OR status = $2)
      AND ($3::bigint IS NULL OR id < $3) ORDER BY id DESC LIMIT $4`,
};

const EXPIRE: Statement = {
  name: 'entitlement_expire',
  text: `UPDATE ${TABLE} SET status = 'EXPIRED', update_time = now() WHERE id = ANY (ARRAY(
      SELECT id FROM ${TABLE} WHERE status = 'ACTIVE' AND access_end_time IS NOT NULL
        AND access_end_time < ${nowBy('$2')} AND deleted = 0
      ORDER BY access_end_time LIMIT $1 FOR UPDATE SKIP LOCKED))`,
};

const SET_TITLE: Statement = {
  name: 'entitlement_set_title',
  text: `WITH part AS MATERIALIZED (
      SELECT id FROM ${TABLE} WHERE content_id = $1 AND id > $4 ORDER BY id LIMIT $5),
    changed AS (
      UPDATE ${TABLE} SET content_title = $3, content_version = $2, update_time = now()
      WHERE id = ANY (ARRAY(SELECT id FROM part)) AND content_version < $2 RETURNING id)
    SELECT (SELECT count(*)::int FROM changed) AS updated, count(*)::int AS found, max(id) AS last_id FROM part`,
};

export class PgEntitlementRepo extends EntitlementRepo {
  /** @param clock `offsetMs` is added to the clock of the database */
  constructor(
    private readonly db: Postgres,
    private readonly clock: { readonly offsetMs: number },
    private readonly reads: Reads = new PrimaryReads(db),
  ) {
    super();
  }

  override async lock(tx: Transaction, accesses: readonly Access[]): Promise<void> {
    await this.db.query(LOCK, columnsOf(accesses), tx);
    this.db.writesFor(
      tx,
      accesses.map((a) => a.userId),
    );
  }

  override async findPermanent(
    tx: Transaction | undefined,
    accesses: readonly Access[],
    exceptOrderId?: bigint,
  ): Promise<readonly Access[]> {
    return (await this.db.query<Access>(FIND_PERMANENT, [...columnsOf(accesses), exceptOrderId ?? null], tx)).rows;
  }

  override async insert(tx: Transaction, entitlements: readonly NewEntitlement[]): Promise<number> {
    const { rowCount } = await this.db.query(
      INSERT,
      [
        int8s(entitlements, (e) => e.orderId),
        ...columnsOf(entitlements),
        int4s(entitlements, (e) => e.days),
        texts(entitlements, (e) => e.goodsType),
        texts(entitlements, (e) => e.requestId),
        texts(entitlements, (e) => e.reason ?? ''),
        this.clock.offsetMs,
      ],
      tx,
    );
    this.db.writesFor(
      tx,
      entitlements.map((e) => e.userId),
    );
    return rowCount ?? 0;
  }

  override async listOfOrder(tx: Transaction, orderId: bigint): Promise<readonly Entitlement[]> {
    return (await this.db.query<EntitlementRow>(LIST_OF_ORDER, [orderId], tx)).rows.map(entitlementOf);
  }

  override async listOfAccess(tx: Transaction, { userId, contentId }: Access): Promise<readonly Entitlement[]> {
    return (await this.db.query<EntitlementRow>(LIST_OF_ACCESS, [userId, contentId], tx)).rows.map(entitlementOf);
  }

  override async findByRequest(
    tx: Transaction,
    { userId, contentId }: Access,
    requestId: string,
  ): Promise<Entitlement | undefined> {
    const { rows } = await this.db.query<EntitlementRow>(FIND_BY_REQUEST, [userId, contentId, requestId], tx);
    return rows[0] && entitlementOf(rows[0]);
  }

  override async revoke(tx: Transaction, { id, keepDays, reason }: Revocation): Promise<void> {
    await this.db.query(REVOKE, [id, keepDays, reason, this.clock.offsetMs], tx);
  }

  override async check({ userId, contentId }: Access): Promise<AccessState> {
    const { rows } = await this.db.query<StateRow>(CHECK, [userId, contentId, this.clock.offsetMs]);
    return stateOf(rows[0]!);
  }

  override async checkAll(accesses: readonly Access[]): Promise<readonly AccessState[]> {
    const { rows } = await this.db.query<StateRow>(CHECK_ALL, [...columnsOf(accesses), this.clock.offsetMs]);
    return rows.map(stateOf);
  }

  override async list(
    userId: string,
    status: EntitlementStatus | undefined,
    belowId: bigint | undefined,
    limit: number,
  ): Promise<readonly Entitlement[]> {
    const values = [userId, status ?? null, belowId ?? null, limit];
    return (await this.reads.query<EntitlementRow>(userId, LIST, values)).rows.map(entitlementOf);
  }

  override async expire(limit: number): Promise<number> {
    return (await this.db.query(EXPIRE, [limit, this.clock.offsetMs])).rowCount ?? 0;
  }

  override async setTitle(
    { contentId, version, title }: { readonly contentId: bigint; readonly version: bigint; readonly title: string },
    afterId: bigint,
    limit: number,
  ): Promise<TitleUpdate> {
    const { rows } = await this.db.query<{ updated: number; found: number; last_id: bigint | null }>(SET_TITLE, [
      ...[contentId, version, title, afterId, limit],
    ]);
    const { updated = 0, found = 0, last_id } = rows[0] ?? {};
    return { updated, lastId: found < limit ? undefined : (last_id ?? undefined) };
  }
}

function columnsOf(accesses: readonly Access[]): [Buffer, Buffer] {
  return [uuids(accesses, (a) => a.userId), int8s(accesses, (a) => a.contentId)];
}

interface StateRow {
  has_access: boolean | null;
  permanent: boolean | null;
  ends: Date | null;
}

function stateOf({ has_access, permanent, ends }: StateRow): AccessState {
  if (has_access !== true) return { hasAccess: false };
  return { hasAccess: true, until: permanent === true ? undefined : (ends ?? undefined) };
}

interface EntitlementRow {
  id: bigint;
  order_id: bigint | null;
  user_id: string;
  content_id: bigint;
  content_title: string;
  content_type: string;
  goods_type: string | null;
  access_start_time: Date;
  access_end_time: Date | null;
  status: EntitlementStatus;
  reason: string;
  create_time: Date;
}

function entitlementOf(row: EntitlementRow): Entitlement {
  return {
    id: row.id,
    orderId: row.order_id ?? undefined,
    userId: row.user_id,
    contentId: row.content_id,
    contentTitle: row.content_title,
    contentType: row.content_type,
    goodsType: row.goods_type ?? undefined,
    startsAt: row.access_start_time,
    endsAt: row.access_end_time ?? undefined,
    status: row.status,
    reason: row.reason,
    createdAt: row.create_time,
  };
}
