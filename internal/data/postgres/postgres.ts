import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { unavailable } from '../../../gen/common/v1/errors.js';
import { type Transaction, TransactionRunner } from '../../biz/transaction.js';
import { KaimaiError } from '../../kratos/errors/error.js';

export interface PostgresOptions {
  /** Connection URL. */
  readonly source: string;
  readonly poolSize: number;
  /** Taken after connecting, so that a process can write only what is its own. Empty: none. */
  readonly role: string;
  readonly statementTimeoutMs: number;
  /** Longest wait for a connection, new or from the pool. */
  readonly connectTimeoutMs: number;
  /** Shown in pg_stat_activity. */
  readonly applicationName: string;
}

/** A prepared statement: planned once per connection under its name. */
export interface Statement {
  readonly name: string;
  readonly text: string;
}

const ATTEMPTS = 5;
const BACKOFF_MS = 20;
const INT8 = 20;
const INT8_ARRAY = 1016;
const TIMESTAMPTZ = 1184;

const otherTimestamp = pg.types.getTypeParser(TIMESTAMPTZ) as (text: string) => Date;

/**
 * A time of a session in UTC in the years of four digits, `2026-01-31 23:59:59.123456+00`, by the digits' places: a page of
 * orders has a hundred times, and pg's own way took longer than all other columns. Any other goes that way.
 */
export function parseTimestamp(text: string): Date {
  if (text.charCodeAt(4) !== DASH || !text.endsWith('+00')) return otherTimestamp(text);
  let ms = 0;
  for (let i = 20; i < 23; i++) {
    const digit = text.charCodeAt(i) - ZERO;
    ms = ms * 10 + (i < text.length - 3 && digit >= 0 ? digit : 0);
  }
  return new Date(
    Date.UTC(
      digits(text, 0, 4),
      digits(text, 5, 7) - 1,
      digits(text, 8, 10),
      digits(text, 11, 13),
      digits(text, 14, 16),
      digits(text, 17, 19),
      ms,
    ),
  );
}

const DASH = '-'.charCodeAt(0);
const ZERO = '0'.charCodeAt(0);

function digits(text: string, from: number, to: number): number {
  let n = 0;
  for (let i = from; i < to; i++) n = n * 10 + text.charCodeAt(i) - ZERO;
  return n;
}

/** Types of PostgreSQL's that lose digits as JavaScript numbers come as bigint. */
const TYPES: pg.CustomTypesConfig = {
  getTypeParser(oid: number, format?: 'text' | 'binary') {
    if (oid === INT8) return BigInt;
    if (oid === INT8_ARRAY) return (value: string) => (value === '{}' ? [] : value.slice(1, -1).split(',').map(BigInt));
    if (oid === TIMESTAMPTZ) return parseTimestamp;
    return pg.types.getTypeParser(oid, format as 'text');
  },
};

/** The pool of one process, and its transactions. */
export class Postgres extends TransactionRunner {
  readonly pool: pg.Pool;

  /** @param onError told of connections that died while nobody used them */
  constructor(options: PostgresOptions, onError: (err: Error) => void = () => {}) {
    super();
    const settings = [
      `statement_timeout=${options.statementTimeoutMs}`,
      `lock_timeout=${options.statementTimeoutMs}`,
      `idle_in_transaction_session_timeout=${options.statementTimeoutMs * 2}`,
      // So that times come in one form.
      'timezone=UTC',
      ...(options.role === '' ? [] : [`role=${options.role}`]),
    ];
    this.pool = new pg.Pool({
      connectionString: options.source,
      max: options.poolSize,
      connectionTimeoutMillis: options.connectTimeoutMs,
      // The server cancels a slow statement; this ends the wait for a server that no longer answers at all.
      query_timeout: options.statementTimeoutMs + 1_000,
      idleTimeoutMillis: 60_000,
      keepAlive: true,
      application_name: options.applicationName,
      options: settings.map((s) => `-c ${s}`).join(' '),
      types: TYPES,
    });
    // Without a listener a connection that dies ends the process.
    this.pool.on('error', onError);
    this.pool.on('connect', (client) => client.on('error', onError));
  }

  /** Runs one statement, in `tx` or by itself. @throws UNAVAILABLE when the database is away */
  async query<Row extends pg.QueryResultRow>(
    statement: Statement,
    values: readonly unknown[],
    tx?: Transaction,
  ): Promise<pg.QueryResult<Row>> {
    const runner = tx === undefined ? this.pool : clientOf(tx);
    const config = { name: statement.name, text: statement.text, values: values as unknown[] };
    if (tx !== undefined) return runner.query<Row>(config);
    try {
      return await runner.query<Row>(config);
    } catch (err) {
      throw asUnavailable(err);
    }
  }

  override async run<T>(
    work: (tx: Transaction) => Promise<T>,
    options: { readonly idempotent?: boolean } = {},
  ): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      let committing = false;
      let client: pg.PoolClient | undefined;
      const open: OpenTransaction = { client: undefined };
      try {
        client = await this.pool.connect();
        await client.query('BEGIN');
        open.client = client;
        const result = await work(open as unknown as Transaction);
        open.client = undefined;
        committing = true;
        // A transaction in which a statement failed answers COMMIT with ROLLBACK, and no error.
        const { command } = await client.query('COMMIT');
        if (command !== 'COMMIT') throw new Error('a statement of the transaction failed, so it was rolled back');
        client.release();
        return result;
      } catch (err) {
        open.client = undefined;
        const lost = isConnectionError(err);
        if (client) {
          if (lost) client.release(true);
          else await rollback(client);
        }
        const again = isConflict(err) || (lost && client !== undefined && (!committing || options.idempotent === true));
        if (!again || attempt === ATTEMPTS) throw asUnavailable(err);
        await sleep(BACKOFF_MS * 2 ** (attempt - 1) * (0.5 + Math.random()));
      }
    }
  }

  async ping(): Promise<void> {
    await this.query({ name: 'ping', text: 'SELECT 1' }, []);
  }

  async close(): Promise<void> {
    await this.pool.end();
  }
}

/** What a Transaction is here. Without a client once it ended: a statement that comes late must not run by itself. */
interface OpenTransaction {
  client: pg.PoolClient | undefined;
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
    // A connection that cannot even roll back is thrown away; the server rolls back by itself.
    client.release(true);
  }
}

function codeOf(err: unknown): string {
  return typeof err === 'object' && err !== null && 'code' in err && typeof err.code === 'string' ? err.code : '';
}

/** Deadlock or serialization failure: nothing was done, and trying again is what the server asks for. */
function isConflict(err: unknown): boolean {
  const code = codeOf(err);
  return code === '40001' || code === '40P01';
}

const NETWORK_CODES = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'ENOTFOUND',
  'EHOSTUNREACH',
  'EAI_AGAIN',
]);

/** Codes with which the server ends a connection, or takes none: going away, full, or idle for too long. */
const CLOSING_CODES = new Set(['57P01', '57P02', '57P03', '57P05', '25P03', '53300']);

/** The server is away, going away, or full; class 08 and the others as PostgreSQL's appendix A has them. */
export function isConnectionError(err: unknown): boolean {
  const code = codeOf(err);
  if (NETWORK_CODES.has(code) || code.startsWith('08') || CLOSING_CODES.has(code)) return true;
  // pg gives these no code.
  return (
    err instanceof Error &&
    /Connection terminated|timeout exceeded when trying to connect|Query read timeout|Client has encountered a connection error|not queryable/.test(
      err.message,
    )
  );
}

/** A statement or a wait for a lock that took too long, and class 53: no memory, no disk. */
function isOverload(err: unknown): boolean {
  const code = codeOf(err);
  return code === '57014' || code === '55P03' || code.startsWith('53');
}

function asUnavailable(err: unknown): unknown {
  if (err instanceof KaimaiError) return err;
  if (isConnectionError(err) || isConflict(err) || isOverload(err))
    return unavailable('the database does not answer', { cause: err });
  return err;
}
