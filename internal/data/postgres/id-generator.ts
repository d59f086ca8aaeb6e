import { randomInt } from 'node:crypto';
import pg from 'pg';
import { unavailable } from '../../../gen/common/v1/errors.js';
import { IdGenerator } from '../../biz/id-generator.js';
import { READ_ONLY } from './postgres.js';

const EPOCH_MS = Date.UTC(2024, 0, 1);
const WORKERS = 1024;
const SEQUENCES = 4096;
/** How far ids may run ahead of the clock, when it stepped back or a burst used up its sequences. */
const MAX_AHEAD_MS = 5_000;
/** First half of the advisory lock's key; the second is the worker number. */
const LOCK_CLASS = 0x6b6d;
const RETRY_MS = 500;
/** How often the connection is asked whether its server is still the one that takes writes. */
const CHECK_MS = 1_000;

/** The arithmetic of snowflake ids. Never goes back, whatever the clock does. */
export class Snowflake {
  private lastMs = 0;
  private sequence = 0;

  constructor(
    private readonly worker: number,
    private readonly now: () => number = Date.now,
  ) {}

  /** @throws UNAVAILABLE when the clock stepped back too far to bridge */
  next(): bigint {
    const nowMs = this.now();
    if (nowMs > this.lastMs) {
      this.lastMs = nowMs;
      this.sequence = 0;
    } else if (++this.sequence === SEQUENCES) {
      this.lastMs += 1;
      this.sequence = 0;
    }
    if (this.lastMs - nowMs > MAX_AHEAD_MS) {
      throw unavailable(`the clock is ${this.lastMs - nowMs} ms behind the last id`);
    }
    return (BigInt(this.lastMs - EPOCH_MS) << 22n) | (BigInt(this.worker) << 12n) | BigInt(this.sequence);
  }
}

/** When the id was made. */
export function snowflakeTime(id: bigint): Date {
  return new Date(Number(id >> 22n) + EPOCH_MS);
}

/**
 * Holds a worker number by an advisory lock on a connection of its own, so that no two processes have the same one.
 * When that connection is lost, or its server no longer takes writes, so is the number: a lock on a demoted server says
 * nothing to processes that lock on its successor. Ids stop until another is held. An id made in the moment between the
 * loss and its notice could still meet another's; the primary keys then refuse it, so it costs a retry, not an order.
 */
export class LeasedIdGenerator extends IdGenerator {
  private client: pg.Client | undefined;
  private snowflake: Snowflake | undefined;
  private timer: NodeJS.Timeout | undefined;
  private closed = false;

  constructor(
    private readonly source: string,
    private readonly connectTimeoutMs: number,
    private readonly onError: (err: Error) => void = () => {},
  ) {
    super();
  }

  override nextId(): bigint {
    if (!this.snowflake) throw unavailable('no worker number for ids is held: the database does not answer');
    return this.snowflake.next();
  }

  /** Takes a number, now or as soon as the database answers. */
  async open(): Promise<void> {
    try {
      await this.start();
    } catch (err) {
      this.onError(err as Error);
      if (!this.closed) this.again();
    }
  }

  /** Takes a number. @throws when the database does not answer or all numbers are taken */
  async start(): Promise<void> {
    const client = new pg.Client({
      connectionString: this.source,
      connectionTimeoutMillis: this.connectTimeoutMs,
      query_timeout: this.connectTimeoutMs,
      keepAlive: true,
      keepAliveInitialDelayMillis: 2_000,
      application_name: 'kaimai-snowflake',
    });
    client.on('error', (err) => this.lost(client, err));
    client.on('end', () => this.lost(client, undefined));
    try {
      await client.connect();
      await refuseReadOnly(client);
      const worker = await takeNumber(client);
      if (this.closed) throw unavailable('the id generator is closed');
      this.client = client;
      this.snowflake = new Snowflake(worker);
      this.checkLater(client);
    } catch (err) {
      client.end().catch(() => {});
      throw err;
    }
  }

  async close(): Promise<void> {
    this.closed = true;
    clearTimeout(this.timer);
    this.snowflake = undefined;
    const client = this.client;
    this.client = undefined;
    await client?.end();
  }

  private lost(client: pg.Client, err: Error | undefined): void {
    if (this.closed || client !== this.client) return;
    this.client = undefined;
    this.snowflake = undefined;
    clearTimeout(this.timer);
    this.onError(err ?? new Error('the connection that holds the worker number ended'));
    client.end().catch(() => {});
    this.again();
  }

  private again(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.open(), RETRY_MS);
  }

  private checkLater(client: pg.Client): void {
    this.timer = setTimeout(() => {
      refuseReadOnly(client).then(
        () => {
          if (!this.closed && client === this.client) this.checkLater(client);
        },
        (err: Error) => this.lost(client, err),
      );
    }, CHECK_MS);
  }
}

/** @throws UNAVAILABLE when all numbers are taken */
async function takeNumber(client: pg.Client): Promise<number> {
  const first = randomInt(WORKERS);
  for (let i = 0; i < WORKERS; i++) {
    const worker = (first + i) % WORKERS;
    const { rows } = await client.query<{ held: boolean }>('SELECT pg_try_advisory_lock($1, $2) AS held', [
      LOCK_CLASS,
      worker,
    ]);
    if (rows[0]?.held) return worker;
  }
  throw unavailable(`all ${WORKERS} worker numbers are taken`);
}

async function refuseReadOnly(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ read_only: string }>(READ_ONLY);
  if (rows[0]?.read_only === 'on') throw new Error('the server that holds the worker number takes no writes');
}
