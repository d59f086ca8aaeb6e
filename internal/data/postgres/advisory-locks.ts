import pg from 'pg';
import { PostgresHosts, type StateRow, stateOf } from './hosts.js';
import type { Pooler } from './session.js';

/** Takes a lock on the connection that holds the locks of a process. @returns whether the process has it now */
export type TryLock = (lockClass: number, key: number | string) => Promise<boolean>;

/** Something that one process at a time holds by an advisory lock. */
export interface LockHolder {
  /** Takes the lock on a new connection. @throws when it cannot be had */
  take(tryLock: TryLock): Promise<void>;
  /** The connection is gone, and the lock with it. */
  lost(): void;
}

const RETRY_MS = 500;
/** How often the connection is asked whether its server still takes writes. */
const CHECK_MS = 1_000;

/**
 * The advisory locks of one process, on a connection of their own. PostgreSQL releases them when the process dies,
 * however it dies. When the connection is lost, or its server no longer takes writes, so are the locks: a lock on a
 * demoted server says nothing to processes that lock on its successor. They are taken again as soon as possible.
 *
 * A pooler in transaction mode would give the connection to others, and with it the locks. There the locks belong to a
 * transaction that stays open for as long as they are held. It reads and writes no row, so it keeps nothing from vacuum.
 */
export class AdvisoryLocks {
  private readonly holders: LockHolder[] = [];
  private client: pg.Client | undefined;
  private timer: NodeJS.Timeout | undefined;
  private turn: Promise<void> = Promise.resolve();
  private closed = false;

  private readonly hosts: PostgresHosts;

  /** @param place the URL; or the hosts of the process' pool, so that both leave a server that was replaced */
  constructor(
    place: string | PostgresHosts,
    private readonly connectTimeoutMs: number,
    private readonly onError: (err: Error) => void = () => {},
    private readonly pooler: Pooler = 'none',
  ) {
    this.hosts =
      typeof place === 'string' ? new PostgresHosts(place, { target: 'read-write', connectTimeoutMs }) : place;
  }

  /** Resolves when `holder` has its lock, or when that failed: then it gets the lock as soon as the database answers. */
  hold(holder: LockHolder): Promise<void> {
    this.holders.push(holder);
    return this.inTurn(async () => {
      if (!this.client) return this.connect();
      await holder.take(this.tryLock(this.client));
    });
  }

  async close(): Promise<void> {
    this.closed = true;
    clearTimeout(this.timer);
    await this.turn;
    clearTimeout(this.timer);
    const { client } = this;
    this.drop();
    await client?.end();
  }

  /** One at a time; a failure costs the connection and is tried again. */
  private inTurn(step: () => Promise<void>): Promise<void> {
    this.turn = this.turn.then(async () => {
      if (this.closed) return;
      try {
        await step();
      } catch (err) {
        this.onError(err as Error);
        this.client?.end().catch(() => {});
        this.drop();
        this.again();
      }
    });
    return this.turn;
  }

  /** Each host has its turn once. */
  private async connect(): Promise<void> {
    let failure: unknown;
    for (const url of this.hosts.inTurn()) {
      try {
        return await this.connectTo(url);
      } catch (err) {
        failure = err;
      }
    }
    throw failure;
  }

  private async connectTo(url: string): Promise<void> {
    const client = new pg.Client({
      connectionString: url,
      connectionTimeoutMillis: this.hosts.connectTimeoutMs,
      query_timeout: this.connectTimeoutMs,
      keepAlive: true,
      keepAliveInitialDelayMillis: 2_000,
      application_name: 'kaimai-locks',
    });
    const gone = (err?: Error) => this.lost(client, err ?? new Error('the connection that holds the locks ended'));
    client.on('error', gone);
    client.on('end', () => gone());
    try {
      await client.connect();
      if (this.pooler === 'transaction') await client.query(BEGIN);
      const { rows } = await client.query<StateRow>(`SELECT ${this.hosts.stateColumns}`);
      const state = stateOf(rows[0]!);
      this.hosts.accept(state);
      this.hosts.found(url);
      await refuseReadOnly(client);
      this.client = client;
      for (const holder of this.holders) await holder.take(this.tryLock(client));
      this.checkLater(client, state.timeline);
    } catch (err) {
      if (client === this.client) this.drop();
      client.end().catch(() => {});
      throw err;
    }
  }

  private tryLock(client: pg.Client): TryLock {
    const lock = this.pooler === 'transaction' ? 'pg_try_advisory_xact_lock' : 'pg_try_advisory_lock';
    return async (lockClass, key) => {
      const number = typeof key === 'number' ? '$2::int' : 'hashtext($2)';
      const { rows } = await client.query<{ held: boolean }>(`SELECT ${lock}($1, ${number}) AS held`, [lockClass, key]);
      return rows[0]?.held === true;
    };
  }

  private lost(client: pg.Client, err: Error): void {
    if (this.closed || client !== this.client) return;
    this.onError(err);
    client.end().catch(() => {});
    this.drop();
    this.again();
  }

  private drop(): void {
    this.client = undefined;
    for (const holder of this.holders) holder.lost();
  }

  private again(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      void this.inTurn(async () => {
        if (!this.client) await this.connect();
      });
    }, RETRY_MS);
  }

  private checkLater(client: pg.Client, timeline: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      const check = async () => {
        if (this.hosts.isReplaced(timeline)) throw new Error('the server that holds the locks was replaced');
        await refuseReadOnly(client);
      };
      check().then(
        () => {
          if (!this.closed && client === this.client) this.checkLater(client, timeline);
        },
        (err: Error) => this.lost(client, err),
      );
    }, CHECK_MS);
  }
}

/** The server would end a transaction that waits, if its timeout is set for the login or the database. */
const BEGIN = 'BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0';

/** What a transaction began with stands, so it does not show a server that was demoted since. */
const TAKES_NO_WRITES = `SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool AS read_only`;

async function refuseReadOnly(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ read_only: boolean }>(TAKES_NO_WRITES);
  if (rows[0]?.read_only === true) throw new Error('the server that holds the locks takes no writes');
}
