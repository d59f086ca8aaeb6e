import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { unavailable } from '../../../gen/common/v1/errors.js';
import { type LogPosition, UNKNOWN_POSITION } from '../../biz/read-positions.js';
import { type Transaction, TransactionRunner, together } from '../../biz/transaction.js';
import type { SessionTarget } from '../../conf/postgres-url.js';
import type { Metrics } from '../../kratos/metrics/metrics.js';
import { asUnavailable, isConflict, isConnectionError, isReadOnly, isSilent, isWaitOver } from './connection-error.js';
import { NotWanted, PostgresHosts } from './hosts.js';
import { READ_ONLY, Session, type SessionOptions } from './session.js';
import { VALUE_TYPES } from './value-types.js';

export interface PostgresOptions extends SessionOptions {
  /** Connection URL, which may name several hosts. */
  readonly source: string;
  readonly poolSize: number;
  /** Whether statements are prepared under their names. Default: not by a pooler in transaction mode. */
  readonly preparedStatements?: boolean;
  /** Longest wait for a connection, new or from the pool. */
  readonly connectTimeoutMs: number;
  /** What is wanted of the server, if the URL does not say. Default 'read-write'. */
  readonly target?: SessionTarget;
  /** Shown in pg_stat_activity. */
  readonly applicationName: string;
}

/** A statement, which is planned once per connection under its name if statements are prepared. */
export interface Statement {
  readonly name: string;
  readonly text: string;
  /**
   * Planned for each execution. A plan that was made while a table was small reads the whole table for each batch, until
   * the next ANALYZE; in the first minute of a sale that costs more than all else. Planning a batch takes about 0.3 ms.
   */
  readonly replan?: boolean;
}

/** On a standby what it has replayed, elsewhere what was written: whatever was visible before is in the log up to there. */
export const LOG_POSITION: Statement = {
  name: 'log_position',
  text: `SELECT (CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_replay_lsn(), '0/0')
    ELSE pg_current_wal_insert_lsn() END - '0/0'::pg_lsn)::bigint AS position`,
};

/** Told after each commit that wrote for users; must not throw. */
export type WrittenFor = (userIds: readonly string[], position: LogPosition) => Promise<void>;

const ATTEMPTS = 5;
const BACKOFF_MS = 20;
/** Wait for the answer to a ping. */
const PING_TIMEOUT_MS = 2_000;
/** How long nothing connects again after no host took writes. */
const READ_ONLY_PAUSE_MS = 250;
/**
 * The connection pool of a process, and its transactions.
 *
 * A failover may demote a server without closing its connections. The server then answers reads with stale data and rejects
 * writes (25006). So each new connection is checked for being writable, and the health probe repeats the check every second.
 * A connection that rejects a write, is read-only or does not answer ends its generation: all connections that were opened
 * before are closed instead of reused, and new ones resolve the address again.
 *
 * A primary that hangs keeps its connections in use for as long as a statement may take. When the promoted server is found,
 * these end at once: their callers would wait for nothing, and a commit that the old primary takes when it wakes up is lost.
 *
 * A share of the connections is never used for transactions, because these may wait for locks of a hanging replica, and reads
 * must not wait behind them.
 */
export class Postgres extends TransactionRunner {
  /** Awaited before a transaction is reported as committed. undefined: the users of writes are not noted. */
  writtenFor: WrittenFor | undefined;
  readonly pool: pg.Pool;
  readonly hosts: PostgresHosts;
  private readonly generations = new WeakMap<pg.PoolClient, number>();
  private readonly timelines = new WeakMap<pg.ClientBase, number>();
  private readonly inUse = new Set<pg.PoolClient>();
  private generation = 0;
  /** By performance.now(). */
  private readOnlyUntilMs = 0;
  private readonly transactionSlots: Slots;
  private readonly session: Session;
  private readonly prepared: boolean;
  private connectionErrors = 0;
  private readonly onError: (err: Error) => void;

  /** @param onError told of connections that died while unused, and of a server that became read-only */
  constructor(options: PostgresOptions, onError: (err: Error) => void = () => {}) {
    super();
    this.session = new Session(options);
    this.prepared = options.preparedStatements ?? !this.session.perTransaction;
    this.onError = (err) => {
      this.connectionErrors++;
      onError(err);
    };
    this.hosts = new PostgresHosts(options.source, {
      target: options.target ?? 'read-write',
      connectTimeoutMs: options.connectTimeoutMs,
    });
    this.pool = new pg.Pool({
      Client: this.hosts.Client,
      max: options.poolSize,
      connectionTimeoutMillis: options.connectTimeoutMs,
      // The server cancels slow statements. This ends the wait for a server that does not answer at all.
      query_timeout: options.statementTimeoutMs + 1_000,
      idleTimeoutMillis: 60_000,
      keepAlive: true,
      // Statements that are not awaited one by one leave together; see `together`. The pool hands a connection to one
      // caller at a time, so no caller waits behind another's statement.
      pipeline: true,
      application_name: options.applicationName,
      types: VALUE_TYPES,
      onConnect: async (client: pg.ClientBase) => {
        try {
          const state = await this.session.setUp(client, this.hosts, this.hosts.connectTimeoutMs);
          this.hosts.accept(state);
          this.timelines.set(client, state.timeline);
        } catch (err) {
          this.hosts.failed(client);
          throw err;
        }
      },
    });
    this.transactionSlots = new Slots(transactionShare(options.poolSize), options.connectTimeoutMs);
    // Without a listener the loss of a connection would end the process.
    this.pool.on('error', this.onError);
    this.pool.on('connect', (client) => {
      this.generations.set(client, this.generation);
      client.on('error', this.onError);
    });
    this.pool.on('acquire', (client) => this.inUse.add(client));
    this.pool.on('release', (_, client) => this.inUse.delete(client));
    this.hosts.promoted = () => this.leaveReplaced();
  }

  /** Runs a statement, in `tx` or on its own. @throws UNAVAILABLE when the database is unavailable */
  async query<Row extends pg.QueryResultRow>(
    statement: Statement,
    values: readonly unknown[],
    tx?: Transaction,
  ): Promise<pg.QueryResult<Row>> {
    const config = this.configOf(statement, values);
    if (tx !== undefined) return clientOf(tx).query<Row>(config);
    return this.onConnection((client) => client.query<Row>(config));
  }

  /** Runs a statement, and says which position of the log its rows show at least. @throws UNAVAILABLE like `query` */
  async queryWithPosition<Row extends pg.QueryResultRow>(
    statement: Statement,
    values: readonly unknown[],
  ): Promise<{ readonly position: LogPosition; readonly result: pg.QueryResult<Row> }> {
    const [asked, config] = [this.configOf(LOG_POSITION, []), this.configOf(statement, values)];
    const [at, result] = await this.onConnection((client) =>
      together(client.query<{ position: bigint }>(asked), client.query<Row>(config)),
    );
    return { position: at.rows[0]?.position ?? 0n, result };
  }

  /** Notes that `tx` writes for these users: their next reads show it, wherever they are answered. */
  writesFor(tx: Transaction, userIds: readonly string[]): void {
    if (this.writtenFor === undefined) return;
    const { users } = tx as unknown as OpenTransaction;
    for (const userId of userIds) users.add(userId);
  }

  private configOf(statement: Statement, values: readonly unknown[]) {
    return {
      ...(this.prepared && statement.replan !== true && { name: statement.name }),
      text: statement.text,
      values: values as unknown[],
    };
  }

  private async onConnection<T>(work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
    let client: pg.PoolClient | undefined;
    try {
      client = await this.connect();
      if (this.session.perTransaction) await client.query(this.session.begin);
      const result = await work(client);
      if (this.session.perTransaction) await client.query('COMMIT');
      client.release();
      return result;
    } catch (err) {
      if (client && isConnectionError(err)) this.discard(client, err);
      else if (client && this.session.perTransaction) await rollback(client);
      else client?.release();
      throw asUnavailable(err);
    }
  }

  override async run<T>(
    work: (tx: Transaction) => Promise<T>,
    options: { readonly idempotent?: boolean } = {},
  ): Promise<T> {
    await this.transactionSlots.take();
    try {
      return await this.runAttempts(work, options.idempotent === true);
    } finally {
      this.transactionSlots.free();
    }
  }

  private async runAttempts<T>(work: (tx: Transaction) => Promise<T>, idempotent: boolean): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      let committing = false;
      let client: pg.PoolClient | undefined;
      const open: OpenTransaction = { client: undefined, afterCommit: [], users: new Set() };
      try {
        client = await this.connect();
        // BEGIN leaves with the first statement. Where it fails, the server refuses that statement as well.
        const begun = client.query(this.session.begin);
        open.client = client;
        const [, result] = await together(begun, work(open as unknown as Transaction));
        open.client = undefined;
        committing = true;
        // If a statement of the transaction failed, the reply to COMMIT is ROLLBACK, without an error.
        const { command } = await client.query('COMMIT');
        if (command !== 'COMMIT') throw new Error('a statement of the transaction failed, so it was rolled back');
        const position = open.users.size > 0 ? await this.positionOn(client) : undefined;
        client.release();
        for (const hook of open.afterCommit) hook();
        if (position !== undefined) await this.writtenFor?.([...open.users], position);
        return result;
      } catch (err) {
        open.client = undefined;
        const lost = isConnectionError(err);
        if (client) {
          if (lost) this.discard(client, err);
          else await rollback(client);
        }
        const again = isConflict(err) || (lost && client !== undefined && (!committing || idempotent));
        if (!again || attempt === ATTEMPTS) throw asUnavailable(err);
        await sleep(BACKOFF_MS * 2 ** (attempt - 1) * (0.5 + Math.random()));
      }
    }
  }

  /** What the server has written by now. The transaction has ended, so that a failure is none of it. */
  private async positionOn(client: pg.PoolClient): Promise<LogPosition> {
    try {
      const { rows } = await client.query<{ position: bigint }>(this.configOf(LOG_POSITION, []));
      return rows[0]?.position ?? UNKNOWN_POSITION;
    } catch {
      return UNKNOWN_POSITION;
    }
  }

  override afterCommit(tx: Transaction, work: () => void): void {
    (tx as unknown as OpenTransaction).afterCommit.push(work);
  }

  /** @throws UNAVAILABLE when the server is away or takes no writes; then every connection is made anew */
  async ping(): Promise<void> {
    let client: pg.PoolClient | undefined;
    try {
      client = await this.connect();
      await this.refuseReadOnly(client, PING_TIMEOUT_MS);
      client.release();
    } catch (err) {
      if (client) this.discard(client, err);
      throw asUnavailable(err);
    }
  }

  /** A connection that was not made before the server became read-only. Each host has its turn once. */
  private async connect(): Promise<pg.PoolClient> {
    if (performance.now() < this.readOnlyUntilMs) throw new NotWanted('the database takes no writes');
    for (let hosts = this.hosts.count; ; ) {
      let client: pg.PoolClient;
      try {
        client = await this.pool.connect();
      } catch (err) {
        hosts -= 1;
        const isHosts = isConnectionError(err) && !isWaitOver(err);
        if (isHosts && hosts > 0) continue;
        // Each caller would otherwise open connections of its own, only to hear the same.
        if (isReadOnly(err) || (isHosts && this.hosts.count > 1))
          this.readOnlyUntilMs = performance.now() + READ_ONLY_PAUSE_MS;
        throw err;
      }
      if (this.generations.get(client) === this.generation) return client;
      client.release(true);
    }
  }

  private async refuseReadOnly(client: pg.ClientBase, timeoutMs: number): Promise<void> {
    const question = { text: READ_ONLY, query_timeout: timeoutMs };
    const { rows } = await client.query<{ read_only: string }>(question);
    if (rows[0]?.read_only === 'on') throw new NotWanted('the database takes no writes');
  }

  /** Closes a connection that failed, and all of its generation if its server takes no writes or does not answer. */
  private discard(client: pg.PoolClient, err: unknown): void {
    client.release(true);
    if (!(isReadOnly(err) || isSilent(err))) return;
    this.hosts.failed(client);
    if (this.generations.get(client) !== this.generation) return;
    this.generation += 1;
    this.onError(new Error('the server takes no writes or does not answer: connecting anew', { cause: err }));
  }

  /** Ends every connection to a server that was replaced. */
  private leaveReplaced(): void {
    this.generation += 1;
    for (const client of this.inUse) {
      if (!this.hosts.isReplaced(this.timelines.get(client) ?? 0)) continue;
      // `end` would wait for the answers to what was sent.
      (client as unknown as { connection: pg.Connection }).connection.stream.destroy();
    }
  }

  /** Exports the usage of the pool. */
  observe(metrics: Metrics): void {
    const { pool, transactionSlots } = this;
    metrics.gauge('postgres_pool_connections', 'Connections to PostgreSQL: idle and in use.', 'sum', () => [
      [{ state: 'idle' }, pool.idleCount],
      [{ state: 'in_use' }, pool.totalCount - pool.idleCount],
    ]);
    metrics.gauge('postgres_pool_limit', 'Connections that the pool may have.', 'sum', () => pool.options.max);
    metrics.gauge('postgres_pool_waiting', 'Callers that wait for a connection, by what for.', 'sum', () => [
      [{ for: 'statement' }, pool.waitingCount],
      [{ for: 'transaction' }, transactionSlots.waitingCount],
    ]);
    metrics.counter(
      'postgres_connection_errors_total',
      'Connections to PostgreSQL that were lost, and servers that were found to take no writes.',
      () => this.connectionErrors,
    );
  }

  async close(): Promise<void> {
    await this.pool.end();
  }
}

/** At least one connection is left to statements outside transactions, and a quarter of a larger pool. */
function transactionShare(poolSize: number): number {
  return Math.max(1, poolSize - Math.max(1, Math.floor(poolSize / 4)));
}

/** A number of places that are taken in the order of asking. */
class Slots {
  private readonly waiting: (() => void)[] = [];

  constructor(
    private left: number,
    private readonly timeoutMs: number,
  ) {}

  get waitingCount(): number {
    return this.waiting.length;
  }

  /** @throws UNAVAILABLE when none becomes free in time */
  async take(): Promise<void> {
    if (this.left > 0) {
      this.left -= 1;
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const given = () => {
        clearTimeout(timer);
        resolve();
      };
      const timer = setTimeout(() => {
        this.waiting.splice(this.waiting.indexOf(given), 1);
        reject(unavailable('every connection for transactions is in use'));
      }, this.timeoutMs);
      this.waiting.push(given);
    });
  }

  free(): void {
    const next = this.waiting.shift();
    if (next) next();
    else this.left += 1;
  }
}

/** The content of a Transaction. The client is removed at its end, so that a late statement cannot run on its own. */
interface OpenTransaction {
  client: pg.PoolClient | undefined;
  readonly afterCommit: (() => void)[];
  /** Those whose next reads must show what it writes. */
  readonly users: Set<string>;
}

export function clientOf(tx: Transaction): pg.PoolClient {
  const { client } = tx as unknown as OpenTransaction;
  if (!client) throw new Error('the transaction has ended');
  return client;
}

async function rollback(client: pg.PoolClient): Promise<void> {
  try {
    await client.query('ROLLBACK');
    client.release();
  } catch {
    // A connection that cannot roll back is closed. The server then rolls back.
    client.release(true);
  }
}
