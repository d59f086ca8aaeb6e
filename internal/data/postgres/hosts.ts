import pg from 'pg';
import { parsePostgresUrl, type SessionTarget } from '../../conf/postgres-url.js';
import { READ_ONLY_SQL_TRANSACTION } from './connection-error.js';

/** What a server says of itself when a connection to it is new. */
export interface ServerState {
  /** It takes no writes. */
  readonly readOnly: boolean;
  /** It is a standby. */
  readonly inRecovery: boolean;
  /** Counts promotions; 0 where it was not asked for, and on a standby. */
  readonly timeline: number;
}

export interface HostsOptions {
  /** What is wanted of a server if the URL does not say. */
  readonly target: SessionTarget;
  /** Longest wait for a connection to one of the hosts. Each has an equal share of it. */
  readonly connectTimeoutMs: number;
}

/**
 * The servers that a URL names. pg connects to one host, so each new connection is made to the host that was found last, and
 * after a failure to the next one.
 *
 * A primary that was replaced may come back and take writes as if nothing had happened. Its timeline is older than that of the
 * server that was promoted: once a process has seen the newer one, it refuses the older.
 */
export class PostgresHosts {
  readonly target: SessionTarget;
  readonly connectTimeoutMs: number;
  /** Told when a server was found that was promoted in place of another; must not throw. */
  promoted: () => void = () => {};
  private readonly urls: readonly string[];
  private readonly hostOfClient = new WeakMap<object, number>();
  private current = 0;
  private newestTimeline = 0;

  /** @throws Error when the URL makes no sense; the configuration was checked before */
  constructor(source: string, { target, connectTimeoutMs }: HostsOptions) {
    const place = parsePostgresUrl(source);
    this.urls = place.urls;
    this.target = place.target ?? target;
    this.connectTimeoutMs = Math.ceil(connectTimeoutMs / place.urls.length);
  }

  get count(): number {
    return this.urls.length;
  }

  /** Asks what `accept` judges. The timeline is asked for only where it matters: not every service has the function. */
  get stateColumns(): string {
    const timeline = `('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int`;
    return `current_setting('transaction_read_only') = 'on' AS read_only, pg_is_in_recovery() AS in_recovery,
      ${this.count > 1 ? `CASE WHEN pg_is_in_recovery() THEN 0 ELSE ${timeline} END` : '0'} AS timeline`;
  }

  /** The URL of each host, beginning with the one that was found last. */
  inTurn(): string[] {
    return [...this.urls.slice(this.current), ...this.urls.slice(0, this.current)];
  }

  /** A client for the pool of pg, which connects to the host whose turn it is. */
  get Client(): new (
    config?: string | pg.ClientConfig,
  ) => pg.ClientBase {
    const hosts = this;
    return class extends pg.Client {
      constructor(config?: string | pg.ClientConfig) {
        const given = typeof config === 'string' ? { connectionString: config } : config;
        super({
          ...given,
          connectionString: hosts.urls[hosts.current],
          connectionTimeoutMillis: hosts.connectTimeoutMs,
        });
        hosts.hostOfClient.set(this, hosts.current);
      }

      override connect(): Promise<pg.Client>;
      override connect(callback: (err: Error) => void): void;
      override connect(callback?: (err: Error) => void): Promise<pg.Client> | undefined {
        if (!callback) return super.connect();
        super.connect((err: Error) => {
          if (err) hosts.failed(this);
          callback(err);
        });
        return undefined;
      }
    };
  }

  /** The next connection is made to another host than that of `client`, unless one was chosen meanwhile. */
  failed(client: object): void {
    if (this.hostOfClient.get(client) === this.current) this.current = (this.current + 1) % this.count;
  }

  /** The next connection is made to this host, which was found to be what is wanted. */
  found(url: string): void {
    this.current = Math.max(0, this.urls.indexOf(url));
  }

  /** @throws NotWanted when the server is not what is wanted */
  accept({ readOnly, inRecovery, timeline }: ServerState): void {
    const { target } = this;
    if (target === 'read-write' && readOnly) throw new NotWanted('the database takes no writes');
    if (target === 'primary' && inRecovery) throw new NotWanted('the database is a standby');
    if (target === 'standby' && !inRecovery) throw new NotWanted('the database is not a standby');
    if (target === 'read-only' && !readOnly) throw new NotWanted('the database takes writes');
    if (this.isReplaced(timeline)) throw new NotWanted('the database was replaced by one that was promoted');
    const promoted = this.newestTimeline > 0 && timeline > this.newestTimeline;
    this.newestTimeline = Math.max(this.newestTimeline, timeline);
    if (promoted) this.promoted();
  }

  /** Whether a server of that timeline was replaced by another, as far as this process has seen. */
  isReplaced(timeline: number): boolean {
    return timeline > 0 && timeline < this.newestTimeline;
  }
}

/** The server at an address is not the one that is wanted: it was demoted, or its successor is not promoted yet. */
export class NotWanted extends Error {
  readonly code = READ_ONLY_SQL_TRANSACTION;
}

export interface StateRow {
  readonly read_only: boolean;
  readonly in_recovery: boolean;
  readonly timeline: number;
}

export function stateOf({ read_only, in_recovery, timeline }: StateRow): ServerState {
  return { readOnly: read_only, inRecovery: in_recovery, timeline };
}

const CONNECT_TIMEOUT_MS = 10_000;

/**
 * A connection of its own to the first host of the URL that takes writes, or that is what the URL wants.
 * @throws the failure of the last host
 */
export async function connectClient(source: string, config: pg.ClientConfig = {}): Promise<pg.Client> {
  const hosts = new PostgresHosts(source, { target: 'read-write', connectTimeoutMs: CONNECT_TIMEOUT_MS });
  let failure: unknown;
  for (const connectionString of hosts.inTurn()) {
    const client = new pg.Client({
      ...config,
      connectionString,
      connectionTimeoutMillis: hosts.connectTimeoutMs,
    });
    // The next query fails with it.
    client.on('error', () => {});
    try {
      await client.connect();
      const { rows } = await client.query<StateRow>(`SELECT ${hosts.stateColumns}`);
      hosts.accept(stateOf(rows[0]!));
      return client;
    } catch (err) {
      client.end().catch(() => {});
      failure = err;
    }
  }
  throw failure;
}
