import type { Backlog } from '../../kratos/background/background-meter.js';
import { BacklogProbe } from '../../kratos/background/background-meter.js';
import type { Postgres, Statement } from './postgres.js';
import { ORDER_STATUS } from './status.js';

/** Counting stops here. Beyond that only the age of the oldest matters. */
const MOST = 100_000;

function counting(name: string, column: string, waiting: string): Statement {
  return {
    name: `backlog_${name}`,
    text: `SELECT count(*)::int AS units, coalesce(extract(epoch FROM now() - min(since)) * 1000, 0)::float8 AS age_ms
      FROM (SELECT ${column} AS since FROM ${waiting} LIMIT ${MOST}) AS waiting`,
  };
}

const OUTBOX = counting('outbox', 'created_at', 'outbox WHERE published_at IS NULL');
const OVERDUE = counting(
  'overdue',
  'pay_deadline',
  `orders WHERE status = ${ORDER_STATUS.PENDING} AND pay_deadline < now()`,
);
const UNCONFIRMED = counting(
  'unconfirmed',
  'confirm_deadline',
  `orders WHERE status = ${ORDER_STATUS.SHIPPED} AND confirm_deadline < now()`,
);
const LOOK_UPS = counting(
  'look_ups',
  'next_look_up_at',
  "payment_sessions WHERE status = 'OPEN' AND next_look_up_at < now()",
);
const REFUNDS = counting('refunds', 'next_attempt_at', `refunds WHERE status = 'APPROVED'`);
const CHECKOUTS = counting('checkouts', 'at', 'cart_checkouts WHERE left_at IS NULL');
const ENTITLEMENTS = counting(
  'entitlements',
  'access_end_time',
  `order_content_association WHERE status = 'ACTIVE' AND access_end_time < now() + $1 * interval '1 ms' AND deleted = 0`,
);
const JOBS = counting('jobs', 'created_at', 'instance_logs WHERE reported_at IS NULL');

class PgBacklogProbe extends BacklogProbe {
  constructor(
    override readonly server: string,
    private readonly db: Postgres,
    private readonly statement: Statement,
    private readonly values: unknown[] = [],
  ) {
    super();
  }

  override async read(): Promise<Backlog> {
    const { rows } = await this.db.query<{ units: number; age_ms: number }>(this.statement, this.values);
    return { units: rows[0]?.units ?? 0, oldestAgeMs: Math.max(0, rows[0]?.age_ms ?? 0) };
  }
}

export const outboxBacklog = (db: Postgres): BacklogProbe => new PgBacklogProbe('outbox_relay', db, OUTBOX);
export const overdueBacklog = (db: Postgres): BacklogProbe => new PgBacklogProbe('order_sweeper', db, OVERDUE);
export const unconfirmedBacklog = (db: Postgres): BacklogProbe =>
  new PgBacklogProbe('order_confirmer', db, UNCONFIRMED);
export const lookUpBacklog = (db: Postgres): BacklogProbe => new PgBacklogProbe('payment_checker', db, LOOK_UPS);
export const refundBacklog = (db: Postgres): BacklogProbe => new PgBacklogProbe('refund_worker', db, REFUNDS);
export const checkoutBacklog = (db: Postgres): BacklogProbe =>
  new PgBacklogProbe('cart_checkout_closer', db, CHECKOUTS);
/** @param clockOffsetMs as of `PgEntitlementRepo` */
export const entitlementBacklog = (db: Postgres, clockOffsetMs: number): BacklogProbe =>
  new PgBacklogProbe('entitlement_expirer', db, ENTITLEMENTS, [clockOffsetMs]);
export const jobBacklog = (db: Postgres): BacklogProbe => new PgBacklogProbe('instance_worker', db, JOBS);

const REQUESTS: Statement = {
  name: 'backlog_requests',
  text: `SELECT count(*)::int AS units, min(created_at) AS oldest FROM instance_requests
    WHERE status = 'REQUESTED' AND created_at >= $1`,
};

/** How far back the first look goes: a request is sent again up to an age of 34 hours. */
const FIRST_LOOK_MS = 36 * 3_600_000;
/** A request becomes visible at the end of its transaction, with the time of its beginning. */
const OVERLAP_MS = 60_000;
/** A look may take this share of the time. */
const LOOK_SHARE = 20;

/**
 * Instance requests without a result: what the product domain waits for from the resource domain, whether the message is
 * in the outbox, in the queue or with a worker. It is the product's own view, so it also grows while the resource domain
 * hangs and reports nothing.
 *
 * Requests have no index by status, since each order would pay for it. So a look begins at the oldest request that was
 * open at the look before, by the BRIN index on the creation time; all earlier ones are settled for good. If that one is
 * old there is much to read, and the next look comes later.
 */
class RequestBacklogProbe extends BacklogProbe {
  override readonly server = 'instance_resender';
  private from = new Date(Date.now() - FIRST_LOOK_MS);
  private nextMs = Number.NEGATIVE_INFINITY;
  private last: { readonly units: number; readonly oldest: Date | undefined } = { units: 0, oldest: undefined };

  constructor(private readonly db: Postgres) {
    super();
  }

  override async read(): Promise<Backlog> {
    const startedMs = performance.now();
    if (startedMs >= this.nextMs) {
      const startedAtMs = Date.now();
      const { rows } = await this.db.query<{ units: number; oldest: Date | null }>(REQUESTS, [this.from]);
      const oldest = rows[0]?.oldest ?? undefined;
      this.last = { units: rows[0]?.units ?? 0, oldest };
      this.from = new Date(Math.min(oldest?.getTime() ?? startedAtMs, startedAtMs - OVERLAP_MS));
      const endedMs = performance.now();
      this.nextMs = endedMs + LOOK_SHARE * (endedMs - startedMs);
    }
    const { units, oldest } = this.last;
    return { units, oldestAgeMs: oldest === undefined ? 0 : Math.max(0, Date.now() - oldest.getTime()) };
  }
}

export const requestBacklog = (db: Postgres): BacklogProbe => new RequestBacklogProbe(db);
