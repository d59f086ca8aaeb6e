import pg from 'pg';
import { type PostgresHosts, type ServerState, type StateRow, stateOf } from './hosts.js';

/**
 * What is between a process and PostgreSQL: nothing, or a pooler such as PgBouncer that gives out its connections for a
 * session or for a transaction.
 */
export type Pooler = 'none' | 'session' | 'transaction';

export interface SessionOptions {
  /** Default 'none'. */
  readonly pooler?: Pooler;
  /** Taken after connecting, so that a process can write only what is its own. Empty: none. */
  readonly role: string;
  readonly statementTimeoutMs: number;
  /** How long a transaction may wait for its client before the server ends its session. Default 2,000 ms. */
  readonly idleInTransactionTimeoutMs?: number;
}

/** A client that hangs holds its row locks this long. One that is alive needs milliseconds between two statements. */
const IDLE_IN_TRANSACTION_MS = 2_000;

/** "on" where the server takes no writes; on a standby, too. */
export const READ_ONLY = "SELECT current_setting('transaction_read_only') AS read_only";

/**
 * The settings that every statement runs under. They are not startup parameters (`options`), because PgBouncer rejects these.
 * A pooler in transaction mode gives each transaction any of its connections, so there they are set in each transaction,
 * together with BEGIN.
 */
export class Session {
  readonly perTransaction: boolean;
  /** Begins a transaction. */
  readonly begin: string;
  private readonly pooler: Pooler;
  private readonly settings: string;

  constructor(options: SessionOptions) {
    this.pooler = options.pooler ?? 'none';
    this.perTransaction = this.pooler === 'transaction';
    const settings = Object.entries({
      statement_timeout: String(options.statementTimeoutMs),
      lock_timeout: String(options.statementTimeoutMs),
      idle_in_transaction_session_timeout: String(options.idleInTransactionTimeoutMs ?? IDLE_IN_TRANSACTION_MS),
      // So that all times have one format.
      timezone: 'UTC',
      ...(options.role !== '' && { role: options.role }),
    });
    const local = settings.map(([name, value]) => `SET LOCAL ${name} = ${pg.escapeLiteral(value)}`);
    this.begin = this.perTransaction ? ['BEGIN', ...local].join('; ') : 'BEGIN';
    const set = settings.map(([name, value]) => `set_config('${name}', ${pg.escapeLiteral(value)}, false)`);
    this.settings = `pg_backend_pid() AS pid${this.perTransaction ? '' : `, ${set.join(', ')}`}`;
  }

  /**
   * Sets up a new connection, in one round trip.
   * @param timeoutMs longest wait for the answer
   * @throws if a pooler answers where none is configured: it would mix up the sessions, and with them the locks
   */
  async setUp(client: pg.ClientBase, hosts: PostgresHosts, timeoutMs: number): Promise<ServerState> {
    const question = { text: `SELECT ${hosts.stateColumns}, ${this.settings}`, query_timeout: timeoutMs };
    const { rows } = await client.query<StateRow & { pid: number }>(question);
    const row = rows[0]!;
    // A pooler invents the process id that it tells its clients.
    if (this.pooler === 'none' && row.pid !== (client as { processID?: number }).processID) {
      throw new Error('a connection pooler answers for PostgreSQL: set data.database.pooler to its mode');
    }
    return stateOf(row);
  }
}
