import { isUnavailable } from '../../gen/common/v1/errors.js';
import { errorText } from '../kratos/errors/error-text.js';
import { whileRenewing } from './lease.js';
import type { OutgoingMessage, QueuePublisher } from './message-queue.js';
import type { Transaction } from './transaction.js';

/** An event of record, written in the transaction of the fact that it reports. */
export interface OutboxRow {
  readonly id: bigint;
  readonly topic: string;
  /** Of topic instance.created the instance id, of seckill.return the order id. */
  readonly refId: bigint;
  readonly payload: Uint8Array;
  readonly headers: Readonly<Record<string, string>> | undefined;
  /** Including the current one. */
  readonly attempts: number;
}

export type NewOutboxRow = Pick<OutboxRow, 'topic' | 'refId' | 'payload'>;

/** Where an event of record is written. Relaying it is the work of `OutboxRepo` and `OutboxUsecase`. */
export abstract class Outbox {
  /** Appends the rows in one statement, in the transaction of the facts that they report. */
  abstract append(tx: Transaction, rows: readonly NewOutboxRow[]): Promise<void>;
}

export interface OutboxFailure {
  readonly row: OutboxRow;
  readonly reason: string;
  /** Wait before the row may be claimed again. */
  readonly retryAfterMs: number;
}

export abstract class OutboxRepo {
  /**
   * Claims waiting rows of a topic for `leaseMs`, oldest first. After that any relay may claim them again, so the death of
   * a relay loses nothing.
   */
  abstract claim(topic: string, limit: number, leaseMs: number): Promise<readonly OutboxRow[]>;
  /** The same for rows of all other topics. */
  abstract claimOthers(knownTopics: readonly string[], limit: number, leaseMs: number): Promise<readonly OutboxRow[]>;
  /** Keeps claimed rows for `leaseMs` from now. Rows that another relay has claimed meanwhile are not changed. */
  abstract renew(rows: readonly OutboxRow[], leaseMs: number): Promise<void>;
  abstract markPublished(rows: readonly OutboxRow[]): Promise<void>;
  /** Records the reasons. A row that another relay has claimed since stays as it is. */
  abstract markFailed(failures: readonly OutboxFailure[]): Promise<void>;
}

/** Why a row was not dispatched. It is tried again. */
export interface DispatchFailure {
  readonly reason: string;
  /**
   * `destination`: the destination is unavailable, which is no fault of the row. `row`: the row fails on its own, so it
   * backs off even if nothing else was dispatched.
   */
  readonly scope: 'destination' | 'row';
}

/** Dispatches the rows of one topic. Dispatching a row twice must have no further effect. */
export abstract class OutboxHandler {
  abstract readonly topic: string;
  /**
   * @returns one result for each row, in order; undefined: dispatched
   * @throws UNAVAILABLE when the destination is unavailable. After any other error the rows are dispatched one by one.
   */
  abstract dispatch(rows: readonly OutboxRow[]): Promise<readonly (DispatchFailure | undefined)[]>;
}

export interface OutboxOptions {
  /** Rows that are claimed together at most. */
  readonly batchSize: number;
  /** Renewed while rows are dispatched. The rows of a dead relay wait for its end. */
  readonly leaseMs: number;
}

/** Rows of one topic that were claimed together. */
export interface OutboxBatch {
  readonly topic: string;
  /** At least one. */
  readonly rows: readonly OutboxRow[];
  /** Whether the batch is full, so that more rows may be waiting. */
  readonly full: boolean;
}

export interface DispatchResult {
  readonly published: number;
  readonly failed: number;
  /** Failed rows that failed on their own. */
  readonly isolated: number;
  /** Why the first of the failed rows failed; undefined if none did. */
  readonly reason: string | undefined;
}

const FIRST_RETRY_MS = 200;
const LAST_RETRY_MS = 60_000;
const UNKNOWN_TOPIC_RETRY_MS = 60_000;

/** Dispatches waiting rows. Any number of processes may do so at once. */
export class OutboxUsecase {
  private readonly handlers: ReadonlyMap<string, OutboxHandler>;

  constructor(
    private readonly outbox: OutboxRepo,
    handlers: readonly OutboxHandler[],
    private readonly options: OutboxOptions,
  ) {
    this.handlers = new Map(handlers.map((h) => [h.topic, h]));
    if (this.handlers.size !== handlers.length) throw new Error('two outbox handlers share a topic');
  }

  get topics(): readonly string[] {
    return [...this.handlers.keys()];
  }

  /**
   * Claims the next rows of a topic: by a lease, not by an open transaction, since dispatching waits for other servers.
   * @returns undefined if none are waiting
   */
  async claim(topic: string): Promise<OutboxBatch | undefined> {
    const rows = await this.outbox.claim(topic, this.options.batchSize, this.options.leaseMs);
    return rows.length === 0 ? undefined : { topic, rows, full: rows.length === this.options.batchSize };
  }

  /**
   * Dispatches claimed rows and marks them. If none was published because the destination is unavailable, the rows stay
   * first and the caller waits. Rows that fail on their own, or while others are published, back off, so that they do not
   * hold up the rows behind them.
   */
  async dispatch({ topic, rows }: OutboxBatch): Promise<DispatchResult> {
    const handler = this.handlers.get(topic);
    if (!handler) throw new Error(`no outbox handler for topic ${topic}`);
    const { leaseMs } = this.options;
    const failures = await whileRenewing(
      leaseMs,
      () => this.outbox.renew(rows, leaseMs),
      () => this.failuresOf(handler, rows),
    );
    const published = rows.filter((_, i) => failures[i] === undefined);
    const failed = rows.flatMap((row, i) => {
      const failure = failures[i];
      if (!failure) return [];
      const staysFirst = published.length === 0 && failure.scope === 'destination';
      return [{ row, reason: failure.reason, retryAfterMs: staysFirst ? 0 : retryAfterMs(row.attempts) }];
    });
    const isolated = failures.filter((failure) => failure?.scope === 'row').length;
    await Promise.all([
      published.length > 0 ? this.outbox.markPublished(published) : undefined,
      failed.length > 0 ? this.outbox.markFailed(failed) : undefined,
    ]);
    return { published: published.length, failed: failed.length, isolated, reason: failed[0]?.reason };
  }

  /** Records the reason on rows whose topic has no handler here, and leaves them for a version that has one. */
  async flagUnknownTopics(): Promise<DispatchResult> {
    const rows = await this.outbox.claimOthers(this.topics, this.options.batchSize, UNKNOWN_TOPIC_RETRY_MS);
    const failures = rows.map((row) => ({
      row,
      reason: `no handler for topic ${row.topic}`,
      retryAfterMs: UNKNOWN_TOPIC_RETRY_MS,
    }));
    if (failures.length > 0) await this.outbox.markFailed(failures);
    const failed = failures.length;
    return { published: 0, failed, isolated: failed, reason: failures[0]?.reason };
  }

  private async failuresOf(
    handler: OutboxHandler,
    rows: readonly OutboxRow[],
  ): Promise<readonly (DispatchFailure | undefined)[]> {
    try {
      const failures = await handler.dispatch(rows);
      if (failures.length !== rows.length)
        throw new Error(`the handler of ${handler.topic} must return one result for each row`);
      return failures;
    } catch (err) {
      const reason = errorText(err);
      if (isUnavailable(err)) return rows.map(() => ({ reason, scope: 'destination' }));
      if (rows.length === 1) return [{ reason, scope: 'row' }];
      const failures: (DispatchFailure | undefined)[] = [];
      for (const row of rows) failures.push(...(await this.failuresOf(handler, [row])));
      return failures;
    }
  }
}

/** Publishes the rows of a topic to a queue. */
export class PublishingHandler extends OutboxHandler {
  constructor(
    readonly topic: string,
    private readonly publisher: QueuePublisher,
    /** The message of a row's payload. */
    private readonly encode: (payload: Uint8Array) => Uint8Array = (payload) => payload,
  ) {
    super();
  }

  override async dispatch(rows: readonly OutboxRow[]): Promise<readonly (DispatchFailure | undefined)[]> {
    const outcomes = await this.publisher.publish(rows.map((row) => messageOf(row, this.encode(row.payload))));
    return outcomes.map((outcome) => {
      switch (outcome.kind) {
        case 'published':
          return undefined;
        case 'returned':
          return { reason: `returned: ${outcome.reason}`, scope: 'destination' };
        case 'nacked':
          return { reason: 'nacked: the queue is full or failed', scope: 'destination' };
        case 'unconfirmed':
          return { reason: `unconfirmed: ${outcome.reason}`, scope: 'destination' };
        default:
          return outcome satisfies never;
      }
    });
  }
}

function messageOf(row: OutboxRow, payload: Uint8Array): OutgoingMessage {
  return { messageId: `outbox-${row.id}`, payload, headers: row.headers };
}

function retryAfterMs(attempts: number): number {
  return Math.min(FIRST_RETRY_MS * 2 ** Math.min(attempts - 1, 20), LAST_RETRY_MS);
}
