import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { isUnavailable } from '../../../gen/common/v1/errors.js';
import type { LogPosition } from '../../biz/read-positions.js';
import type { Logger } from '../../kratos/log/logger.js';
import type { Count, Metrics } from '../../kratos/metrics/metrics.js';
import { Coalesced } from './coalesced.js';
import { LOG_POSITION, type Postgres, type Statement } from './postgres.js';
import type { UserPositions } from './user-positions.js';

/** Lists and statistics, which need not be read from the primary. */
export abstract class Reads {
  /**
   * @param userId the rows are this user's, and show the last write for the user; undefined: they show every earlier write
   * @throws UNAVAILABLE when the database is unavailable
   */
  abstract query<Row extends pg.QueryResultRow>(
    userId: string | undefined,
    statement: Statement,
    values: readonly unknown[],
  ): Promise<pg.QueryResult<Row>>;

  /** Begins to watch the replica. */
  open(): void {}

  abstract close(): Promise<void>;
}

/** What answered a read: the replica; or the primary, because the replica was behind or away. */
type Outcome = 'replica' | 'behind' | 'away';
const OUTCOMES: readonly Outcome[] = ['replica', 'behind', 'away'];

/** The metrics of reads, which a process without a replica exports, too. */
export class ReadCounts {
  /** How far the replica was behind at the last look, in seconds. */
  lagSeconds = 0;
  readonly reads: Readonly<Record<Outcome, Count>>;

  constructor(metrics: Metrics) {
    this.reads = metrics.counts(
      'postgres_replica_reads_total',
      'Lists and statistics, by what became of asking the read replica. Those that it was behind or away for went to the primary.',
      'outcome',
      OUTCOMES,
    );
    metrics.gauge('postgres_replica_lag_seconds', 'How far the read replica is behind; 0 without one.', 'max', () => {
      return this.lagSeconds;
    });
  }
}

/** Everything is read from the primary. */
export class PrimaryReads extends Reads {
  constructor(private readonly db: Postgres) {
    super();
  }

  override query<Row extends pg.QueryResultRow>(
    _userId: string | undefined,
    statement: Statement,
    values: readonly unknown[],
  ): Promise<pg.QueryResult<Row>> {
    return this.db.query<Row>(statement, values);
  }

  override async close(): Promise<void> {}
}

export interface ReplicaOptions {
  /** A replica that is further behind answers nothing. */
  readonly maxLagMs: number;
  /** Longest wait for a replica to show what a read must show. */
  readonly waitMs: number;
}

/** How often both servers are asked where they are, and a replica that failed whether it is back. */
const SAMPLE_MS = 1_000;
/** Without an answer from the primary for this long, it is not known what the replica lacks. */
const BLIND_MS = 30_000;
/** Between two looks at the position of a replica that is waited for. */
const POLL_MS = 5;

/** How long the writes for users are remembered: afterwards they are in each position that every read must show. */
export function rememberMs(maxLagMs: number): number {
  return maxLagMs + 2 * BLIND_MS;
}

interface Sample {
  /** By performance.now(): what was committed before is in the log up to `position`. */
  readonly atMs: number;
  readonly position: LogPosition;
}

/**
 * Reads from a standby what it has: the position that it has replayed is asked together with the rows, on the same connection,
 * and rows from before the position that is needed are thrown away. Whatever the replica cannot answer in time, the primary
 * does.
 */
export class ReplicaReads extends Reads {
  private readonly current: Coalesced<LogPosition>;
  private readonly replayed: Coalesced<LogPosition>;
  private timer: NodeJS.Timeout | undefined;
  /** The newest one that is older than `maxLagMs`, if there is one, and those after it. */
  private samples: Sample[] = [];
  private isAway = false;

  /** @param users undefined: no user's writes are remembered, so each read shows every earlier write */
  constructor(
    private readonly primary: Postgres,
    private readonly replica: Postgres,
    private readonly users: UserPositions | undefined,
    private readonly options: ReplicaOptions,
    private readonly logger: Logger,
    private readonly counts: ReadCounts,
  ) {
    super();
    this.current = new Coalesced(() => positionOf(primary));
    this.replayed = new Coalesced(() => positionOf(replica));
  }

  override open(): void {
    this.timer = setInterval(() => this.look(), SAMPLE_MS);
    this.timer.unref();
    this.look();
  }

  override async query<Row extends pg.QueryResultRow>(
    userId: string | undefined,
    statement: Statement,
    values: readonly unknown[],
  ): Promise<pg.QueryResult<Row>> {
    const found = await this.fromReplica<Row>(userId, statement, values);
    if (typeof found !== 'string') {
      this.counts.reads.replica.add();
      return found;
    }
    this.counts.reads[found].add();
    return this.primary.query<Row>(statement, values);
  }

  private async fromReplica<Row extends pg.QueryResultRow>(
    userId: string | undefined,
    statement: Statement,
    values: readonly unknown[],
  ): Promise<pg.QueryResult<Row> | 'behind' | 'away'> {
    if (this.isAway) return 'away';
    const needed = await this.needed(userId);
    if (needed === undefined) return 'behind';
    const giveUpAtMs = performance.now() + this.options.waitMs;
    try {
      for (;;) {
        const { position, result } = await this.replica.queryWithPosition<Row>(statement, values);
        if (position >= needed) return result;
        // The rows are asked for again only once they are there.
        while ((await this.replayed.ask()) < needed) {
          if (performance.now() >= giveUpAtMs) return 'behind';
          await sleep(POLL_MS);
        }
      }
    } catch (err) {
      if (!isUnavailable(err)) throw err;
      this.leave(err as Error);
      return 'away';
    }
  }

  /** @returns undefined while it is not known */
  private async needed(userId: string | undefined): Promise<LogPosition | undefined> {
    const [first, newest] = [this.samples[0], this.samples.at(-1)];
    if (!first || !newest || newest.atMs < performance.now() - BLIND_MS) return undefined;
    try {
      const own =
        userId === undefined || this.users === undefined ? await this.current.ask() : await this.users.find(userId);
      return own > first.position ? own : first.position;
    } catch {
      return undefined;
    }
  }

  /** Asks both servers where they are. One that does not answer delays nothing of the other. */
  private look(): void {
    const atMs = performance.now();
    this.current.ask().then(
      (position) => {
        this.samples.push({ atMs, position });
        const newestOld = this.samples.findLastIndex((s) => s.atMs <= atMs - this.options.maxLagMs);
        if (newestOld > 0) this.samples = this.samples.slice(newestOld);
      },
      // Its pool has said so.
      () => {},
    );
    this.replayed.ask().then(
      (position) => this.found(position),
      (err: Error) => this.leave(err),
    );
  }

  private found(replayed: LogPosition): void {
    if (this.isAway) this.logger.info('the read replica answers again');
    this.isAway = false;
    const missing = this.samples.find((s) => s.position > replayed);
    this.counts.lagSeconds = missing === undefined ? 0 : (performance.now() - missing.atMs) / 1_000;
  }

  private leave(err: Error): void {
    if (!this.isAway && this.timer !== undefined) {
      this.logger.warn('the read replica does not answer: lists and statistics are read from the primary', { err });
    }
    this.isAway = true;
  }

  override async close(): Promise<void> {
    clearInterval(this.timer);
    this.timer = undefined;
    await this.replica.close();
  }
}

async function positionOf(db: Postgres): Promise<LogPosition> {
  const { rows } = await db.query<{ position: bigint }>(LOG_POSITION, []);
  return rows[0]?.position ?? 0n;
}
