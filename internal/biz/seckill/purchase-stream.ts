import { createHash } from 'node:crypto';
import { KratosError } from '../../kratos/errors/error.js';
import { formatUserId } from '../identity.js';
import { INT64_MAX } from '../int64.js';
import type { Sale } from './sale-state.js';

/** One entry of an item's stream, as stored. */
export interface StreamEntry {
  /** `<ms>-<sequence>`, and in segment k > 0 `-<k>` behind it. */
  readonly streamId: string;
  readonly fields: ReadonlyMap<string, string>;
}

/** An entry that was delivered to a consumer. */
export interface Delivery extends StreamEntry {
  /** How often it was delivered, this time included. */
  readonly deliveries: number;
}

/** Units that admission has to add or subtract because an entry's outcome differs from the admission result. */
export interface StockCorrection {
  /** The sale's when the outcome was committed. */
  readonly epoch: bigint;
  readonly entryEpoch: bigint | undefined;
  readonly userId: string;
  readonly quantity: number;
  readonly outcome: 'ORDER' | 'REFUSED';
}

/** An entry whose outcome is committed. */
export interface SettledEntry {
  readonly streamId: string;
  /** The entry's field as it is in the stream; empty for an entry that cannot be read. */
  readonly uid: string;
  /** undefined where admission's stock is right as it is. */
  readonly correction: StockCorrection | undefined;
}

/** The streams of admitted purchases, to be looked at: those of all segments of an item as one. @throws UNAVAILABLE when they cannot be read */
export abstract class PurchaseStream {
  abstract find(itemId: bigint, streamId: string): Promise<StreamEntry | undefined>;
  /** The first entry that is in the stream now, delivered or not. */
  abstract oldest(itemId: bigint, segments?: number): Promise<StreamEntry | undefined>;
  /** All entries that are in the stream now, delivered or not, in the order of their ids. */
  abstract waiting(itemId: bigint, segments?: number): Promise<readonly StreamEntry[]>;
  /** Whether an entry that the item's stream lost may still be in a consumer's memory and become an order. */
  abstract mayBeInMemory(itemId: bigint, streamId: string): Promise<boolean>;
}

export interface ReadRequest {
  readonly itemId: bigint;
  /** new: entries that were delivered to no consumer; pending: entries that were delivered to this one and not finished. */
  readonly from: 'new' | 'pending';
}

export interface ReadResult {
  /** By item; an empty list where there was nothing. */
  readonly deliveries: ReadonlyMap<bigint, readonly Delivery[]>;
  /** Items whose consumer group is gone, as after a flush: join them again. */
  readonly groupless: readonly bigint[];
  /** Items whose key cannot be read as a stream, with the error. Other segments of the item may have deliveries. */
  readonly unreadable: ReadonlyMap<bigint, unknown>;
  /**
   * Items with a stream whose server is away while others answer, with the error. The stream is left out, and tried again in
   * the background. Other segments of the item may have deliveries.
   */
  readonly away: ReadonlyMap<bigint, unknown>;
  /** Items with a stream that was away and is no longer: join them again, since a reply may have been lost with it. */
  readonly back: readonly bigint[];
}

/** An item that may be bought. */
export interface ItemSegments {
  readonly itemId: bigint;
  readonly segments: number;
}

/**
 * One consumer of the group `product`. It reads the streams of all segments of an item as one. A stream whose server is away
 * is left out where other servers may answer. @throws UNAVAILABLE when no stream can be reached
 */
export abstract class PurchaseConsumer {
  /** @returns those of `candidates` that have a stream, and the items of every other stream that was found so far */
  abstract discover(candidates: readonly ItemSegments[]): Promise<readonly bigint[]>;
  /**
   * Creates the streams and the consumer group where they are missing.
   * @returns the items whose key cannot be used as a stream, with the error
   */
  abstract join(itemIds: readonly bigint[]): Promise<ReadonlyMap<bigint, unknown>>;
  /**
   * Up to `count` entries of each segment of each item. Waits up to `blockMs` if every request is for new entries and there are none. An
   * item that cannot be read does not keep the others from being read.
   */
  abstract read(requests: readonly ReadRequest[], count: number, blockMs: number): Promise<ReadResult>;
  /** Whether the server of an entry's stream answers, as far as is known. */
  abstract reaches(itemId: bigint, streamId: string): boolean;
  /** Takes over entries that another consumer has held for longer than `idleMs`. */
  abstract claim(itemId: bigint, idleMs: number, count: number): Promise<readonly Delivery[]>;
  /**
   * Removes entries from the stream and corrects admission's stock. An entry of another user that got the same stream id
   * meanwhile stays.
   * @returns the ids of entries that have to be finished later, because admission has not loaded their sale yet, or their
   * stream is away
   */
  abstract finish(itemId: bigint, entries: readonly SettledEntry[]): Promise<ReadonlySet<string>>;
  /**
   * Reports for `PurchaseStream.mayBeInMemory`, at least every few seconds.
   * @param oldestReadMs age of the oldest read whose entries are not all settled; 0: there is none; undefined: this
   * consumer holds nothing and reads no more
   */
  abstract report(oldestReadMs: number | undefined): Promise<void>;
  /** Ends a waiting `read` early. */
  abstract interrupt(): void;
}

/** Tells an entry from another one that was given the same stream id. */
export function entryKey({ streamId, fields }: StreamEntry): string {
  return `${streamId} ${fields.get('uid') ?? ''}`;
}

/** What an entry asks for. */
export interface Purchase {
  readonly kind: 'purchase';
  readonly streamId: string;
  readonly userId: string;
  readonly quantity: number;
  /** undefined: the entry was not added by admission. */
  readonly epoch: bigint | undefined;
  readonly reqId: bigint | undefined;
}

/** An entry that cannot be read. */
export interface MalformedEntry {
  readonly kind: 'malformed';
  readonly streamId: string;
  readonly reason: string;
}

const QTY = /^[1-9][0-9]{0,8}$/;
const DECIMAL = /^[0-9]{1,19}$/;
const EPOCH_MAX = 0x7fff_ffffn;

/** Parses an entry. Any client of Redis may have added it, so no field is trusted; only uid is required. */
export function parseEntry(entry: StreamEntry): Purchase | MalformedEntry {
  const malformed = (reason: string): MalformedEntry => ({ kind: 'malformed', streamId: entry.streamId, reason });
  const uid = entry.fields.get('uid');
  if (uid === undefined) return malformed('uid is missing');
  let userId: string;
  try {
    userId = formatUserId(uid, 'uid');
  } catch (err) {
    if (err instanceof KratosError) return malformed(err.message);
    throw err;
  }
  const qty = entry.fields.get('qty') ?? '1';
  if (!QTY.test(qty)) return malformed('qty must be a decimal from 1 to 999999999');
  const epoch = decimal(entry.fields.get('epoch'), EPOCH_MAX);
  if (epoch === null) return malformed('epoch must be a decimal from 1 to 2147483647');
  const reqId = decimal(entry.fields.get('req_id'), INT64_MAX);
  if (reqId === null) return malformed('req_id must be a decimal int64 of at least 1');
  return { kind: 'purchase', streamId: entry.streamId, userId, quantity: Number(qty), epoch, reqId };
}

/** undefined: not given; null: not a decimal from 1 to `max`. */
function decimal(text: string | undefined, max: bigint): bigint | undefined | null {
  if (text === undefined) return undefined;
  const n = DECIMAL.test(text) ? BigInt(text) : 0n;
  return n >= 1n && n <= max ? n : null;
}

/**
 * Whether a purchase takes units of this sale. An entry of admission names its epoch; an item's sales follow one another,
 * so their epochs do not overlap. An entry without an epoch, added by another client, counts while the sale runs, judged
 * by the time in its stream id.
 */
export function belongsTo(purchase: Purchase, sale: Sale): boolean {
  if (purchase.epoch !== undefined) return sale.firstEpoch <= purchase.epoch && purchase.epoch <= sale.epoch;
  if (sale.status !== 'OPEN') return false;
  const atMs = Number(purchase.streamId.split('-', 1)[0]);
  return atMs >= sale.startsAt.getTime() && (sale.endsAt === undefined || atMs < sale.endsAt.getTime());
}

/** Compares two ids by their order in the stream: negative, 0 or positive. */
export function compareStreamIds(a: string, b: string): number {
  const [aMs = '', aSeq = ''] = a.split('-');
  const [bMs = '', bSeq = ''] = b.split('-');
  return compareDecimals(aMs, bMs) || compareDecimals(aSeq, bSeq);
}

/** Both parts go up to 2^64, beyond what a number holds. They have no leading zeros, so the longer one is greater. */
function compareDecimals(a: string, b: string): number {
  return a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);
}

/**
 * The id under which an entry is settled whose stream id belongs to another user's purchase. After a failover to a server
 * whose clock is behind and that missed the last entries, Redis gives their ids a second time. The time is kept; the rest
 * is never equal to an id of Redis.
 */
export function reusedStreamId(streamId: string, userId: string): string {
  const hash = createHash('sha256').update(`${streamId} ${userId}`).digest('hex');
  return `${streamId.split('-', 1)[0]}-r${hash.slice(0, 16)}`;
}

/** The ids that an entry's outcome may have: its own, or that of a reused stream id. */
export function outcomeIdsOf(entry: StreamEntry): readonly string[] {
  const parsed = parseEntry(entry);
  const userId = parsed.kind === 'purchase' ? parsed.userId : '';
  return [entry.streamId, reusedStreamId(entry.streamId, userId)];
}

const MS_BITS = 42n;
const SEQUENCE_BITS = 20n;

/**
 * The request number of an entry that has none. It is always negative, so that it never equals one of the counter, which
 * starts at epoch << 32, and always the same for the same stream id.
 */
export function derivedReqId(streamId: string): bigint {
  const [, ms, sequence] = /^([0-9]+)-([0-9]+)$/.exec(streamId) ?? [];
  if (ms !== undefined && sequence !== undefined) {
    const m = BigInt(ms);
    const s = BigInt(sequence);
    if (m >> MS_BITS === 0n && s >> SEQUENCE_BITS === 0n) return -((m << SEQUENCE_BITS) | s) - 1n;
  }
  // An id beyond any clock's, or a reused one: a hash, since they do not fit, in a half of the negative numbers of its own.
  const hash = createHash('sha256').update(streamId).digest().readBigUInt64BE() >> 2n;
  return -(1n << (MS_BITS + SEQUENCE_BITS)) - hash - 1n;
}
