import {
  type DeadLetter,
  type DeadLetterFilter,
  DeadLetterStore,
  replayFields,
} from '../../biz/dead-letter/dead-letter.js';
import type { Postgres, Statement } from './postgres.js';
import { SALE_STATUS } from './status.js';
import { storableText } from './text.js';

const RESOLUTION_MAX = 255;

/** A table of dead letters. */
abstract class PgDeadLetters<R extends LetterRow> extends DeadLetterStore {
  protected abstract readonly listStatement: Statement;
  protected abstract readonly findStatement: Statement;

  constructor(protected readonly db: Postgres) {
    super();
  }

  override async list({ includeResolved, limit }: DeadLetterFilter): Promise<readonly DeadLetter[]> {
    const { rows } = await this.db.query<R>(this.listStatement, [includeResolved, limit]);
    return rows.map((row) => this.letterOf(row));
  }

  override async find(key: string): Promise<DeadLetter | undefined> {
    const row = await this.findRow(key);
    return row && this.letterOf(row);
  }

  override async replay(key: string): Promise<string | undefined> {
    const row = await this.findRow(key);
    if (!row || row.resolved_at) return undefined;
    // Before it is marked, because a repetition is harmless and a letter that is marked but not delivered would be lost.
    const where = await this.deliver(row);
    return this.resolve(row, `replayed ${where}`);
  }

  override async drop(key: string, reason: string): Promise<string | undefined> {
    const row = await this.findRow(key);
    return row && this.resolve(row, `dropped: ${reason}`);
  }

  /** @returns where to, as the resolution names it */
  protected abstract deliver(row: R): Promise<string>;
  /** @returns false if the letter is resolved already */
  protected abstract markResolved(row: R, resolution: string): Promise<boolean>;
  protected abstract sourceOf(row: R): Pick<DeadLetter, 'origin' | 'content'>;

  private async resolve(row: R, resolution: string): Promise<string | undefined> {
    const text = storableText(resolution, RESOLUTION_MAX);
    return (await this.markResolved(row, text)) ? text : undefined;
  }

  private async findRow(key: string): Promise<R | undefined> {
    const id = rowId(key);
    if (id === undefined) return undefined;
    const { rows } = await this.db.query<R>(this.findStatement, [id]);
    return rows[0];
  }

  private letterOf(row: R): DeadLetter {
    return {
      ...this.sourceOf(row),
      id: `${this.name}-${row.id}`,
      messageId: row.message_id,
      reason: row.reason,
      createdAt: row.created_at,
      resolvedAt: row.resolved_at ?? undefined,
      resolution: row.resolution,
    };
  }
}

interface LetterRow {
  id: bigint;
  message_id: string;
  reason: string;
  created_at: Date;
  resolved_at: Date | null;
  resolution: string;
}

const LIST_ENTRIES: Statement = {
  name: 'dead_letter_list',
  text: `SELECT id, origin, message_id, payload, reason, created_at, resolved_at, resolution FROM dead_letters
    WHERE $1 OR resolved_at IS NULL ORDER BY id DESC LIMIT $2`,
};

const FIND_ENTRY: Statement = {
  name: 'dead_letter_find',
  text: `SELECT id, origin, message_id, payload, reason, created_at, resolved_at, resolution FROM dead_letters WHERE id = $1`,
};

const RESOLVE_ENTRY: Statement = {
  name: 'dead_letter_resolve',
  text: `UPDATE dead_letters SET resolved_at = now(), resolution = $2 WHERE id = $1 AND resolved_at IS NULL`,
};

const SALE_IS_OPEN: Statement = {
  name: 'dead_letter_sale_is_open',
  text: `SELECT FROM sales WHERE item_id = $1 AND status = ${SALE_STATUS.OPEN} AND first_epoch <= $2 AND $2 <= epoch`,
};

/** Adds an entry to the stream of an item. @returns its stream id */
export type AddEntry = (itemId: bigint, fields: ReadonlyMap<string, string>) => Promise<string>;

interface EntryRow extends LetterRow {
  origin: string;
  payload: [string, string][];
}

/** Dead stream entries of the product domain. */
export class PgStreamDeadLetters extends PgDeadLetters<EntryRow> {
  override readonly name = 'product';
  protected override readonly listStatement = LIST_ENTRIES;
  protected override readonly findStatement = FIND_ENTRY;

  constructor(
    db: Postgres,
    private readonly addEntry: AddEntry,
  ) {
    super(db);
  }

  protected override async deliver(row: EntryRow): Promise<string> {
    const itemId = itemOf(row.origin);
    if (itemId === undefined) throw new Error(`${row.origin} is not the stream of an item`);
    const fields = new Map(row.payload);
    const epoch = /^[0-9]{1,10}$/.exec(fields.get('epoch') ?? '')?.[0];
    const open = epoch === undefined ? undefined : await this.db.query(SALE_IS_OPEN, [itemId, epoch]);
    const streamId = await this.addEntry(itemId, replayFields({ number: row.id, fields }, open?.rowCount === 1));
    return `as ${itemId}-${streamId}`;
  }

  protected override async markResolved({ id }: EntryRow, resolution: string): Promise<boolean> {
    return (await this.db.query(RESOLVE_ENTRY, [id, resolution])).rowCount === 1;
  }

  protected override sourceOf({ origin, payload }: EntryRow): Pick<DeadLetter, 'origin' | 'content'> {
    return { origin, content: new Map(payload) };
  }
}

const LIST_MESSAGES: Statement = {
  name: 'resource_dead_letter_list',
  text: `SELECT id, queue, message_id, payload, reason, created_at, resolved_at, resolution, deliveries
    FROM resource_dead_letters WHERE $1 OR resolved_at IS NULL ORDER BY id DESC LIMIT $2`,
};

const FIND_MESSAGE: Statement = {
  name: 'resource_dead_letter_find',
  text: `SELECT id, queue, message_id, payload, reason, created_at, resolved_at, resolution, deliveries
    FROM resource_dead_letters WHERE id = $1`,
};

// A message that the consumer rejected again between the look at it and this statement still waits.
const RESOLVE_MESSAGE: Statement = {
  name: 'resource_dead_letter_resolve',
  text: `UPDATE resource_dead_letters SET resolved_at = now(), resolution = $2
    WHERE id = $1 AND resolved_at IS NULL AND deliveries = $3`,
};

/** Publishes a message to a queue. Resolves when the broker has it. */
export type PublishMessage = (queue: string, payload: Uint8Array) => Promise<void>;

interface MessageRow extends LetterRow {
  queue: string;
  payload: Buffer;
  deliveries: number;
}

/** Dead queue messages of the resource domain. */
export class PgQueueDeadLetters extends PgDeadLetters<MessageRow> {
  override readonly name = 'resource';
  protected override readonly listStatement = LIST_MESSAGES;
  protected override readonly findStatement = FIND_MESSAGE;

  constructor(
    db: Postgres,
    private readonly publish: PublishMessage,
  ) {
    super(db);
  }

  protected override async deliver({ queue, payload }: MessageRow): Promise<string> {
    await this.publish(queue, payload);
    return `to ${queue}`;
  }

  protected override async markResolved({ id, deliveries }: MessageRow, resolution: string): Promise<boolean> {
    return (await this.db.query(RESOLVE_MESSAGE, [id, resolution, deliveries])).rowCount === 1;
  }

  protected override sourceOf({ queue, payload }: MessageRow): Pick<DeadLetter, 'origin' | 'content'> {
    return { origin: queue, content: payload };
  }
}

/** undefined for a key that no row can have. */
function rowId(key: string): bigint | undefined {
  return /^[1-9][0-9]{0,17}$/.test(key) ? BigInt(key) : undefined;
}

function itemOf(origin: string): bigint | undefined {
  const item = /^stream:seckill:([1-9][0-9]{0,18})$/.exec(origin)?.[1];
  return item === undefined ? undefined : BigInt(item);
}
