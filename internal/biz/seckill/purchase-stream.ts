import { createHash } from 'node:crypto';
import { KaimaiError } from '../../kratos/errors/error.js';
import { formatUserId } from '../identity.js';
import type { Sale } from './sale-state.js';

/** One entry of an item's stream, as it stands there. */
export interface StreamEntry {
  /** `<ms>-<sequence>`. */
  readonly streamId: string;
  readonly fields: ReadonlyMap<string, string>;
}

/** An entry that a consumer was given. */
export interface Delivery extends StreamEntry {
  /** How many times it was given to a consumer, this one included. */
  readonly deliveries: number;
}

export interface Waiting {
  /** No entry of `entries` has a greater id; `0-0` for an empty stream. */
  readonly fence: string;
  readonly entries: readonly StreamEntry[];
}

/** What admission has to be told of an entry's outcome; undefined where its stock stays as it is. */
export interface Squaring {
  /** The sale's when the outcome was committed. */
  readonly epoch: bigint;
  readonly entryEpoch: bigint | undefined;
  readonly userId: string;
  readonly quantity: number;
  readonly outcome: 'ORDER' | 'REFUSED' | 'SOLD_OUT';
}

/** An entry whose outcome is committed. */
export interface Finished {
  readonly streamId: string;
  readonly squaring: Squaring | undefined;
}

/** The streams of admitted purchases, for whoever looks at them. @throws UNAVAILABLE when they cannot be read */
export abstract class PurchaseStream {
  abstract find(itemId: bigint, streamId: string): Promise<StreamEntry | undefined>;
  /** The first entry that is in the stream now, delivered or not. */
  abstract oldest(itemId: bigint): Promise<StreamEntry | undefined>;
  /** All entries that are in the stream now, delivered or not. */
  abstract waiting(itemId: bigint): Promise<Waiting>;
}

export interface ReadRequest {
  readonly itemId: bigint;
  /** new: what nobody was given; own: what this consumer was given and has not finished. */
  readonly from: 'new' | 'own';
}

/** One consumer of the group `product`. @throws UNAVAILABLE when the streams cannot be reached */
export abstract class PurchaseConsumer {
  /** Items that may have entries: those of live sales, products on sale, and whatever stream there is. */
  abstract discover(): Promise<readonly bigint[]>;
  /** Makes the streams and the group where they are missing. */
  abstract join(itemIds: readonly bigint[]): Promise<void>;
  /**
   * Up to `count` entries of each item. Waits up to `blockMs` when all requests are for new ones and there are none.
   * An item whose group is gone is left out of the answer's keys.
   */
  abstract read(
    requests: readonly ReadRequest[],
    count: number,
    blockMs: number,
  ): Promise<ReadonlyMap<bigint, readonly Delivery[]>>;
  /** Takes over entries that another consumer has had for longer than `idleMs`. */
  abstract claim(itemId: bigint, idleMs: number, count: number): Promise<readonly Delivery[]>;
  /** Takes entries off the stream. @returns ids that have to be finished later, since admission is not loaded yet */
  abstract finish(itemId: bigint, entries: readonly Finished[]): Promise<ReadonlySet<string>>;
  /** Ends a wait of `read` early. */
  abstract interrupt(): void;
}

/** A purchase as an entry tells it. */
export interface Purchase {
  readonly kind: 'purchase';
  readonly streamId: string;
  readonly userId: string;
  readonly quantity: number;
  /** undefined: somebody else than admission added the entry. */
  readonly epoch: bigint | undefined;
  readonly reqId: bigint | undefined;
}

export interface Malformed {
  readonly kind: 'malformed';
  readonly streamId: string;
  readonly reason: string;
}

const QTY = /^[1-9][0-9]{0,8}$/;
const DECIMAL = /^[0-9]{1,19}$/;
const EPOCH_MAX = 0x7fff_ffffn;
const INT64_MAX = 0x7fff_ffff_ffff_ffffn;

/** Reads an entry; whoever added it, nothing of it is trusted. Only uid is required. */
export function parseEntry(entry: StreamEntry): Purchase | Malformed {
  const malformed = (reason: string): Malformed => ({ kind: 'malformed', streamId: entry.streamId, reason });
  const uid = entry.fields.get('uid');
  if (uid === undefined) return malformed('uid is missing');
  let userId: string;
  try {
    userId = formatUserId(uid, 'uid');
  } catch (err) {
    if (err instanceof KaimaiError) return malformed(err.message);
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
 * Whether a purchase takes units of this sale. One that admission let in names its epoch; an item's sales follow one
 * another, so their epochs do not overlap. One that somebody else added counts while the sale runs, judged by the time
 * in its stream id.
 */
export function belongsTo(purchase: Purchase, sale: Sale): boolean {
  if (purchase.epoch !== undefined) return sale.firstEpoch <= purchase.epoch && purchase.epoch <= sale.epoch;
  if (sale.status !== 'OPEN') return false;
  const atMs = Number(purchase.streamId.split('-', 1)[0]);
  return atMs >= sale.startsAt.getTime() && (sale.endsAt === undefined || atMs < sale.endsAt.getTime());
}

/** Their order in the stream: below, at or above 0. */
export function compareStreamIds(a: string, b: string): number {
  const [aMs = '', aSeq = ''] = a.split('-');
  const [bMs = '', bSeq = ''] = b.split('-');
  return compareDecimals(aMs, bMs) || compareDecimals(aSeq, bSeq);
}

/** Both parts go up to 2^64, beyond what a number holds; they have no leading zeros. */
function compareDecimals(a: string, b: string): number {
  return a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);
}

const MS_BITS = 42n;
const SEQUENCE_BITS = 20n;

/**
 * A request number for an entry that brings none. Always negative, so that it never meets one of the counter, which
 * starts at epoch << 32; and always the same for the same stream id.
 */
export function derivedReqId(streamId: string): bigint {
  const [ms = '', sequence = ''] = streamId.split('-');
  const m = BigInt(ms);
  const s = BigInt(sequence);
  if (m >> MS_BITS === 0n && s >> SEQUENCE_BITS === 0n) return -((m << SEQUENCE_BITS) | s) - 1n;
  // An id that no clock made. Its own half of the negative numbers, by hash, since 128 bits do not fit.
  const hash = createHash('sha256').update(streamId).digest().readBigUInt64BE() >> 2n;
  return -(1n << (MS_BITS + SEQUENCE_BITS)) - hash - 1n;
}
