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

/** Dead stream entries of the product domain. */
export class PgStreamDeadLetters extends DeadLetterStore {
  override readonly name = 'product';

  constructor(
    private readonly db: Postgres,
    private readonly addEntry: AddEntry,
  ) {
    super();
  }

  override async list({ includeResolved, limit }: DeadLetterFilter): Promise<readonly DeadLetter[]> {
    const { rows } = await this.db.query<EntryRow>(LIST_ENTRIES, [includeResolved, limit]);
    return rows.map((row) => this.letterOf(row));
  }

  override async find(key: string): Promise<DeadLetter | undefined> {
    const row = await this.findRow(key);
    return row && this.letterOf(row);
  }

  override async replay(key: string): Promise<string | undefined> {
    const row = await this.findRow(key);
    if (!row || row.resolved_at) return undefined;
    const itemId = itemOf(row.origin);
    if (itemId === undefined) throw new Error(`${row.origin} is not the stream of an item`);
    const fields = new Map(row.payload);
    const epoch = /^[0-9]{1,10}$/.exec(fields.get('epoch') ?? '')?.[0];
    const open = epoch === undefined ? undefined : await this.db.query(SALE_IS_OPEN, [itemId, epoch]);
    // Before it is marked, because a repetition is harmless and a letter that is marked but not delivered would be lost.
    const streamId = await this.addEntry(itemId, replayFields({ number: row.id, fields }, open?.rowCount === 1));
    return this.resolve(row.id, `replayed as ${itemId}-${streamId}`);
  }

  override async drop(key: string, reason: string): Promise<string | undefined> {
    const row = await this.findRow(key);
    return row && this.resolve(row.id, `dropped: ${reason}`);
  }

  private async resolve(id: bigint, resolution: string): Promise<string | undefined> {
    const text = storableText(resolution, RESOLUTION_MAX);
    const { rowCount } = await this.db.query(RESOLVE_ENTRY, [id, text]);
    return rowCount === 1 ? text : undefined;
  }

  private async findRow(key: string): Promise<EntryRow | undefined> {
    const id = rowId(key);
    if (id === undefined) return undefined;
    const { rows } = await this.db.query<EntryRow>(FIND_ENTRY, [id]);
    return rows[0];
  }

  private letterOf(row: EntryRow): DeadLetter {
    return {
      id: `${this.name}-${row.id}`,
      origin: row.origin,
      messageId: row.message_id,
      content: new Map(row.payload),
      reason: row.reason,
      createdAt: row.created_at,
      resolvedAt: row.resolved_at ?? undefined,
      resolution: row.resolution,
    };
  }
}

interface EntryRow {
  id: bigint;
  origin: string;
  message_id: string;
  payload: [string, string][];
  reason: string;
  created_at: Date;
  resolved_at: Date | null;
  resolution: string;
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

/** Dead queue messages of the resource domain. */
export class PgQueueDeadLetters extends DeadLetterStore {
  override readonly name = 'resource';

  constructor(
    private readonly db: Postgres,
    private readonly publish: PublishMessage,
  ) {
    super();
  }

  override async list({ includeResolved, limit }: DeadLetterFilter): Promise<readonly DeadLetter[]> {
    const { rows } = await this.db.query<MessageRow>(LIST_MESSAGES, [includeResolved, limit]);
    return rows.map((row) => this.letterOf(row));
  }

  override async find(key: string): Promise<DeadLetter | undefined> {
    const row = await this.findRow(key);
    return row && this.letterOf(row);
  }

  override async replay(key: string): Promise<string | undefined> {
    const row = await this.findRow(key);
    if (!row || row.resolved_at) return undefined;
    await this.publish(row.queue, row.payload);
    return this.resolve(row, `replayed to ${row.queue}`);
  }

  override async drop(key: string, reason: string): Promise<string | undefined> {
    const row = await this.findRow(key);
    return row && this.resolve(row, `dropped: ${reason}`);
  }

  private async resolve(row: MessageRow, resolution: string): Promise<string | undefined> {
    const text = storableText(resolution, RESOLUTION_MAX);
    const { rowCount } = await this.db.query(RESOLVE_MESSAGE, [row.id, text, row.deliveries]);
    return rowCount === 1 ? text : undefined;
  }

  private async findRow(key: string): Promise<MessageRow | undefined> {
    const id = rowId(key);
    if (id === undefined) return undefined;
    const { rows } = await this.db.query<MessageRow>(FIND_MESSAGE, [id]);
    return rows[0];
  }

  private letterOf(row: MessageRow): DeadLetter {
    return {
      id: `${this.name}-${row.id}`,
      origin: row.queue,
      messageId: row.message_id,
      content: row.payload,
      reason: row.reason,
      createdAt: row.created_at,
      resolvedAt: row.resolved_at ?? undefined,
      resolution: row.resolution,
    };
  }
}

interface MessageRow {
  id: bigint;
  queue: string;
  message_id: string;
  payload: Buffer;
  reason: string;
  created_at: Date;
  resolved_at: Date | null;
  resolution: string;
  deliveries: number;
}

/** undefined for a key that no row can have. */
function rowId(key: string): bigint | undefined {
  return /^[1-9][0-9]{0,17}$/.test(key) ? BigInt(key) : undefined;
}

function itemOf(origin: string): bigint | undefined {
  const item = /^stream:seckill:([1-9][0-9]{0,18})$/.exec(origin)?.[1];
  return item === undefined ? undefined : BigInt(item);
}
