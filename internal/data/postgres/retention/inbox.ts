import {
  type ExpiredPage,
  type ExpiredRow,
  type ExpiredRows,
  type RetentionKind,
  RetentionStore,
} from '../../../biz/retention/retention.js';
import type { PurchaseStream } from '../../../biz/seckill/purchase-stream.js';
import type { Transaction } from '../../../biz/transaction.js';
import type { Postgres, Statement } from '../postgres.js';
import { LOCK_ITEM } from '../settlement.js';
import { BEFORE } from './keyed.js';
import { addMark } from './marks.js';
import { saleOver } from './sale-over.js';

/** The same, or an earlier time that `limitOf` gave. */
const BEFORE_OLDEST = `least(${BEFORE}, to_timestamp($4::float8 / 1000))`;

const SALE_OVER = saleOver('i.sale_id');
/** The clock of Redis wrote the first part of the id, and that of PostgreSQL created_at. Numbers, because an id may exceed every time. */
const OLD_ENTRY = `i.created_at < ${BEFORE_OLDEST}
  AND split_part(i.stream_id, '-', 1)::numeric < extract(epoch FROM ${BEFORE_OLDEST})::numeric * 1000`;

const SEGMENTS: Statement = {
  name: 'retention_segments',
  text: 'SELECT coalesce(max(segments), 1)::int AS segments FROM sales WHERE item_id = $1',
};

/** Behind every stream id of an item, whose first character is a digit. */
const LAST = 'z';

// One page of the primary key. Rows of an item are in the order of time, as long as their times have the same length.
const FIND: Statement = {
  name: 'retention_inbox_find',
  text: `SELECT i.item_id::text AS item, i.stream_id AS stream, i.created_at >= ${BEFORE} AS young,
      i.outcome <> 'DEAD' AND i.created_at < ${BEFORE} AND ${SALE_OVER} AS deletable
    FROM (SELECT * FROM stream_inbox WHERE (item_id, stream_id) > ($1::bigint, $4)
      ORDER BY item_id, stream_id LIMIT $3) AS i ORDER BY i.item_id, i.stream_id`,
};

const DELETE: Statement = {
  name: 'retention_inbox_delete',
  text: `WITH gone AS (DELETE FROM stream_inbox i
      WHERE i.item_id = $3::bigint AND i.stream_id = ANY ($1::text[]) AND i.outcome <> 'DEAD' AND ${SALE_OVER} AND ${OLD_ENTRY}
      RETURNING i.item_id, i.outcome),
    mark AS (${addMark('product', `'inbox_' || lower(outcome)`, 'item_id::text', BEFORE_OLDEST)})
    SELECT count(*)::int AS n FROM gone`,
};

const FIND_LETTERS: Statement = {
  name: 'retention_dead_letters_find',
  text: `SELECT id::text AS key, substr(origin, length('stream:seckill:') + 1) AS item,
      coalesce(resolved_at < ${BEFORE}, false) AND origin ~ '^stream:seckill:[1-9][0-9]{0,18}$' AS deletable
    FROM (SELECT * FROM dead_letters WHERE id > $1::bigint ORDER BY id LIMIT $3) AS d ORDER BY id`,
};

// A letter without its inbox row, or the reverse, is damage that the audit reports: it stays.
const DELETE_LETTERS: Statement = {
  name: 'retention_dead_letters_delete',
  text: `WITH letters AS (SELECT id, message_id FROM dead_letters
      WHERE id = ANY ($1::bigint[]) AND origin = 'stream:seckill:' || $3::bigint AND resolved_at < ${BEFORE} FOR UPDATE),
    gone AS (DELETE FROM stream_inbox i USING letters l
      WHERE i.item_id = $3::bigint AND i.stream_id = l.message_id AND i.outcome = 'DEAD' AND ${SALE_OVER} AND ${OLD_ENTRY}
      RETURNING i.item_id, l.id),
    deleted AS (DELETE FROM dead_letters WHERE id IN (SELECT id FROM gone)),
    inbox_mark AS (${addMark('product', `'inbox_dead'`, 'item_id::text', BEFORE_OLDEST)}),
    mark AS (${addMark('product', `'dead_letters'`, `''`, BEFORE)})
    SELECT count(*)::int AS n FROM gone`,
};

/**
 * Rows about stream entries. An entry must never be settled twice, so its row stays while the stream may deliver it again:
 * while its sale is not over, and while the stream has an entry that is as old. What was deleted is behind the mark, and
 * settlement rejects entries behind it: they can only come from a copy of Redis that was put back.
 */
abstract class EntryRetention extends RetentionStore {
  constructor(
    protected readonly db: Postgres,
    private readonly stream: PurchaseStream,
    override readonly kind: RetentionKind,
    private readonly deletion: Statement,
  ) {
    super();
  }

  override async limitOf(scope: string): Promise<number | undefined> {
    const { rows } = await this.db.query<{ segments: number }>(SEGMENTS, [scope]);
    const oldest = await this.stream.oldest(BigInt(scope), rows[0]?.segments ?? 1);
    // An id may exceed every time. Then nothing is older than everything.
    return oldest && Math.min(Number(oldest.streamId.split('-', 1)[0]), MAX_TIME_MS);
  }

  override async delete(tx: Transaction, { scope, keys, beforeMs }: ExpiredRows, keepMs: number): Promise<number> {
    await this.db.query(LOCK_ITEM, [scope], tx);
    const { rows } = await this.db.query<{ n: number }>(
      this.deletion,
      [keys, keepMs, scope, beforeMs ?? MAX_TIME_MS],
      tx,
    );
    return rows[0]?.n ?? 0;
  }
}

/** The year 9999. */
const MAX_TIME_MS = 253_402_300_799_000;

/** Orders and rejections of sales that are over. Their dead entries go with their letters. */
export class PgInboxRetention extends EntryRetention {
  constructor(db: Postgres, stream: PurchaseStream) {
    super(db, stream, 'inbox', DELETE);
  }

  override async find(keepMs: number, from = '0 ', limit = 0): Promise<ExpiredPage> {
    const [afterItem, afterStream] = from.split(' ');
    const { rows } = await this.db.query<{ item: string; stream: string; young: boolean; deletable: boolean }>(FIND, [
      afterItem,
      keepMs,
      limit,
      afterStream,
    ]);
    const expired: ExpiredRow[] = [];
    for (const [i, { item, stream, young, deletable }] of rows.entries()) {
      if (deletable) expired.push({ scope: item, key: stream });
      // Nothing behind a young row of this item is old: on to the next item.
      const skips = young && rows[i + 1]?.item === item;
      if (skips) return { rows: expired, next: `${item} ${LAST}` };
    }
    const last = rows.at(-1);
    return { rows: expired, next: rows.length === limit && last ? `${last.item} ${last.stream}` : undefined };
  }
}

/** Resolved dead letters of stream entries, with their inbox rows. */
export class PgDeadLetterRetention extends EntryRetention {
  constructor(db: Postgres, stream: PurchaseStream) {
    super(db, stream, 'dead_letters', DELETE_LETTERS);
  }

  override async find(keepMs: number, from = '0', limit = 0): Promise<ExpiredPage> {
    const { rows } = await this.db.query<{ key: string; item: string; deletable: boolean }>(FIND_LETTERS, [
      from,
      keepMs,
      limit,
    ]);
    return {
      rows: rows.filter((row) => row.deletable).map(({ key, item }) => ({ scope: item, key })),
      next: rows.length === limit ? rows.at(-1)?.key : undefined,
    };
  }
}
