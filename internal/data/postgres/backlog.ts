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
const JOBS = counting('jobs', 'created_at', 'instance_logs WHERE reported_at IS NULL');

class PgBacklogProbe extends BacklogProbe {
  constructor(
    override readonly server: string,
    private readonly db: Postgres,
    private readonly statement: Statement,
  ) {
    super();
  }

  override async read(): Promise<Backlog> {
    const { rows } = await this.db.query<{ units: number; age_ms: number }>(this.statement, []);
    return { units: rows[0]?.units ?? 0, oldestAgeMs: Math.max(0, rows[0]?.age_ms ?? 0) };
  }
}

export const outboxBacklog = (db: Postgres): BacklogProbe => new PgBacklogProbe('outbox_relay', db, OUTBOX);
export const overdueBacklog = (db: Postgres): BacklogProbe => new PgBacklogProbe('order_sweeper', db, OVERDUE);
export const unconfirmedBacklog = (db: Postgres): BacklogProbe =>
  new PgBacklogProbe('order_confirmer', db, UNCONFIRMED);
export const jobBacklog = (db: Postgres): BacklogProbe => new PgBacklogProbe('instance_worker', db, JOBS);
