import { INVALID_ARGUMENT, invalidArgument, isUnavailable } from '../../../gen/common/v1/errors.js';
import {
  isSaleUnavailable,
  purchaseNotFound,
  purchaseTokenInvalid,
  SALE_BACKLOG_FULL,
  SALE_UNAVAILABLE,
  saleBacklogFull,
  saleNotFound,
  saleUnavailable,
} from '../../../gen/seckill/v1/errors.js';
import { INT64_MAX } from '../int64.js';
import { type OrderStatus, PAY_TIMEOUT, REFUNDED } from '../order/order-state.js';
import type { Admission, AdmissionResult, PurchaseRequest } from './admission.js';
import { type PurchaseStream, parseEntry, reusedStreamId } from './purchase-stream.js';
import type { PurchaseTokens } from './purchase-token.js';
import { mayReturn } from './sale.js';
import type { SaleCache } from './sale-cache.js';
import { needsToken, type Sale, type SaleSummary } from './sale-state.js';
import { homeSegment, MAX_SEGMENTS, segmentStreamId } from './segment.js';
import type { SettlementOutcome, SettlementRepo } from './settlement-state.js';

export interface ItemPurchaseRequest extends PurchaseRequest {
  readonly itemId: bigint;
  /** A purchase token as it was given; empty: none. */
  readonly token: string;
}

export type PurchaseOutcome =
  | { readonly kind: 'QUEUED'; readonly seckillId: string }
  /** mayReturn: some units are not paid for or not settled yet. */
  | { readonly kind: 'SOLD_OUT'; readonly mayReturn: boolean }
  | { readonly kind: 'NOT_STARTED' | 'ENDED' | 'LIMIT_REACHED' }
  | { readonly kind: 'TOKEN_REQUIRED' | 'TOKEN_EXPIRED' };

/** What became of one purchase of many; failed: why it would have thrown by itself. The message is for people. */
export type BatchOutcome =
  | PurchaseOutcome
  | { readonly kind: 'FAILED'; readonly reason: string; readonly message: string };

/**
 * Status of a purchase; docs/documents.md has the names of document 004. NOT_KNOWN_YET: Redis lost data, and a consumer may
 * still have the purchase in memory and make it an order.
 */
export type PurchaseStatus =
  | 'QUEUED'
  | 'AWAIT_PAY'
  | 'PAID'
  | 'CANCELLED'
  | 'TIMED_OUT'
  | 'REFUNDED'
  | 'REJECTED'
  | 'NOT_KNOWN_YET';

export interface PurchaseRecord {
  readonly seckillId: string;
  readonly itemId: bigint;
  readonly quantity: number;
  readonly status: PurchaseStatus;
  readonly orderId: bigint | undefined;
  readonly reason: string;
}

/** Why the sweeper closes an order; `OrderUsecase.sweepOverdue` writes it. */
/** No consumer has an entry in memory for this long, so older ids need no question. */
const IN_MEMORY_MAX_MS = 24 * 3_600_000;
/** A purchase that failed by itself, for a reason that is not told. */
const INTERNAL = 'INTERNAL';
const BEING_PREPARED = 'the sale is being prepared; try again shortly';
const UNCONFIRMED = 'the purchase is not confirmed yet; repeat it with the same request id';
const TOO_MANY_WAIT = 'too many purchases wait to become orders; try again shortly';
const UINT64_MAX = 0xffff_ffff_ffff_ffffn;

export class SeckillUsecase {
  constructor(
    private readonly sales: SaleCache,
    private readonly admission: Admission,
    private readonly stream: PurchaseStream,
    private readonly settlements: SettlementRepo,
    private readonly tokens: PurchaseTokens,
  ) {}

  /**
   * @throws SALE_NOT_FOUND, INVALID_ARGUMENT, PURCHASE_TOKEN_INVALID, SALE_BACKLOG_FULL, SALE_UNAVAILABLE (then the
   * request may have been granted; repeating it with its request id tells)
   */
  async purchase(asked: ItemPurchaseRequest): Promise<PurchaseOutcome> {
    const sale = this.sales.peek(asked.itemId) ?? (await this.find(asked.itemId));
    const outcome = await this.purchaseFrom(sale, asked);
    if (outcome.kind !== 'STALE') return outcome;
    // Judged anew from the first check on: the sale may ask for a token now, be closed, or be the item's next sale.
    const now = await this.sales.refresh(sale);
    const again = now !== undefined && isOther(now, sale) ? await this.purchaseFrom(now, asked) : outcome;
    if (again.kind === 'STALE') throw saleUnavailable(BEING_PREPARED);
    return again;
  }

  /**
   * Many users' purchases of one item, in their order. The callers are trusted: no token is asked for.
   * @returns one for each
   * @throws SALE_NOT_FOUND, SALE_UNAVAILABLE (then some may have been granted; repeating them with their request ids
   * tells)
   */
  async purchaseAll(itemId: bigint, requests: readonly PurchaseRequest[]): Promise<readonly BatchOutcome[]> {
    const sale = await this.find(itemId);
    const outcomes = await this.purchaseAllFrom(sale, requests);
    const stale = requests.filter((_, i) => outcomes[i] === STALE);
    if (stale.length === 0) return outcomes.map(batchOutcome);
    // Those that were answered before the sale changed, or by another segment, keep their answers.
    const again = await this.purchaseAllAgain(sale, stale).catch((err: unknown) => {
      if (stale.length === requests.length || !(isUnavailable(err) || isSaleUnavailable(err))) throw err;
      return stale.map((): RequestOutcome => ({ kind: 'UNCONFIRMED' }));
    });
    let next = 0;
    return outcomes.map((outcome) => batchOutcome(outcome === STALE ? (again[next++] ?? STALE) : outcome));
  }

  /** @returns nothing where the sale is still the one that was stale */
  private async purchaseAllAgain(
    stale: SaleSummary,
    requests: readonly PurchaseRequest[],
  ): Promise<readonly RequestOutcome[]> {
    const now = await this.sales.refresh(stale);
    return now === undefined || !isOther(now, stale) ? [] : this.purchaseAllFrom(now, requests);
  }

  /**
   * The segment that decides on the user's purchases of the item, as far as this process knows: purchases that are made
   * together need fewer script calls, and wait for no other server, if they have it in common.
   */
  homeOf(itemId: bigint, userId: string): number {
    return homeSegment(userId, this.sales.segmentsOf(itemId));
  }

  /** @throws PURCHASE_NOT_FOUND, for another user's purchase too; SALE_UNAVAILABLE while nothing can be said */
  async getPurchase(seckillId: string, userId: string): Promise<PurchaseRecord> {
    const { itemId, streamId } = parseSeckillId(seckillId);
    let away: unknown;
    // The stream first: an entry leaves it only after its outcome is committed.
    const entry = await this.stream.find(itemId, streamId).catch((err: unknown) => {
      if (!isUnavailable(err)) throw err;
      away = err;
      return undefined;
    });
    const outcome = await this.findOutcome(itemId, streamId, userId);
    if (outcome?.userId === userId) return { seckillId, itemId, ...recordOf(outcome) };
    if (away !== undefined) throw saleUnavailable('the purchase may still wait; try again shortly', { cause: away });
    const purchase = entry && parseEntry(entry);
    if (purchase?.kind === 'purchase' && purchase.userId === userId) {
      return { seckillId, itemId, quantity: purchase.quantity, status: 'QUEUED', orderId: undefined, reason: '' };
    }
    if (entry || outcome) throw noPurchase(seckillId);
    return this.getLostPurchase(seckillId, userId);
  }

  /** A purchase of which neither the stream nor the inbox knows. @throws PURCHASE_NOT_FOUND, SALE_UNAVAILABLE */
  private async getLostPurchase(seckillId: string, userId: string): Promise<PurchaseRecord> {
    const { itemId, streamId } = parseSeckillId(seckillId);
    const recent = Date.now() - Number(streamId.split('-', 1)[0]) < IN_MEMORY_MAX_MS;
    const inMemory = recent && (await this.stream.mayBeInMemory(itemId, streamId).catch(orSaleUnavailable));
    if (inMemory) {
      return { seckillId, itemId, quantity: 0, status: 'NOT_KNOWN_YET', orderId: undefined, reason: '' };
    }
    // It may have been committed between the look at the inbox and the question.
    const outcome = recent ? await this.findOutcome(itemId, streamId, userId) : undefined;
    if (outcome?.userId !== userId) throw noPurchase(seckillId);
    return { seckillId, itemId, ...recordOf(outcome) };
  }

  /** @returns the user's outcome, else another user's outcome with this stream id */
  private async findOutcome(itemId: bigint, streamId: string, userId: string): Promise<SettlementOutcome | undefined> {
    const outcome = await this.settlements.find(itemId, streamId);
    if (outcome === undefined || outcome.userId === userId) return outcome;
    return (await this.settlements.find(itemId, reusedStreamId(streamId, userId))) ?? outcome;
  }

  private async find(itemId: bigint): Promise<SaleSummary> {
    const sale = await this.sales.find(itemId);
    if (!sale) throw saleNotFound(`item ${itemId} has no sale`, { metadata: { item_id: String(itemId) } });
    return sale;
  }

  private async purchaseFrom(sale: SaleSummary, asked: ItemPurchaseRequest): Promise<PurchaseOutcome | Stale> {
    if (!mayBuy(sale, asked.quantity)) throw onlyOne();
    if (sale.status === 'SCHEDULED') return { kind: 'NOT_STARTED' };
    let request: PurchaseRequest = asked;
    if (asked.token !== '') {
      const token = this.tokens.check({ saleId: sale.id, userId: asked.userId }, asked.token);
      if (token.kind === 'FOREIGN') throw purchaseTokenInvalid('the token is not one of this user for this sale');
      if (token.kind === 'EXPIRED') return { kind: sale.status === 'CLOSED' ? 'ENDED' : 'TOKEN_EXPIRED' };
      request = { ...asked, tokenId: token.id };
    } else if (needsToken(sale) && sale.status === 'OPEN') {
      return { kind: 'TOKEN_REQUIRED' };
    }
    const outcome =
      sale.status === 'CLOSED'
        ? (await this.findAdmitted(sale, [request]))[0]!
        : outcomeOf(sale, await this.admission.admit(sale, request));
    switch (outcome.kind) {
      case 'BACKLOG_FULL':
        throw saleBacklogFull(TOO_MANY_WAIT);
      case 'INVALID':
        throw outOfBounds(outcome.field);
      case 'UNCONFIRMED':
        throw saleUnavailable(UNCONFIRMED);
      case 'FAILED':
        throw outcome.cause;
      default:
        return outcome;
    }
  }

  private async purchaseAllFrom(
    sale: SaleSummary,
    requests: readonly PurchaseRequest[],
  ): Promise<readonly RequestOutcome[]> {
    const good = requests.filter((r) => mayBuy(sale, r.quantity));
    const outcomes = await this.askAll(sale, good);
    let next = 0;
    return requests.map((r) =>
      mayBuy(sale, r.quantity) ? (outcomes[next++] ?? STALE) : { kind: 'INVALID', field: 'quantity' },
    );
  }

  private async askAll(sale: SaleSummary, requests: readonly PurchaseRequest[]): Promise<readonly RequestOutcome[]> {
    if (sale.status === 'SCHEDULED') return requests.map(() => ({ kind: 'NOT_STARTED' }));
    if (sale.status === 'CLOSED') return this.findAdmitted(sale, requests);
    return (await this.admission.admitAll(sale, requests)).map((result) => outcomeOf(sale, result));
  }

  /** Of a closed sale: a repeated request still learns that it was granted, and no other is. */
  private async findAdmitted(
    sale: SaleSummary,
    requests: readonly PurchaseRequest[],
  ): Promise<readonly RequestOutcome[]> {
    const repeatable = sale.epoch === 0n ? [] : requests.filter(isRepeatable);
    if (repeatable.length === 0) return requests.map(() => ({ kind: 'ENDED' }));
    const found = await this.admission.findAdmitted(sale.itemId, repeatable, sale.segments);
    let next = 0;
    return requests.map((r) => (isRepeatable(r) ? outcomeOf(sale, found[next++]!) : { kind: 'ENDED' }));
  }
}

type Stale = Extract<AdmissionResult, { kind: 'STALE' }>;
/** What admission makes of one request: an outcome, or why there is none. */
type RequestOutcome = PurchaseOutcome | Exclude<AdmissionResult, { kind: 'QUEUED' | 'SOLD_OUT' }>;
const STALE: Stale = { kind: 'STALE' };

function outcomeOf(sale: SaleSummary, result: AdmissionResult): RequestOutcome {
  switch (result.kind) {
    case 'QUEUED':
      return { kind: 'QUEUED', seckillId: `${sale.itemId}-${result.streamId}` };
    case 'SOLD_OUT':
      return { kind: 'SOLD_OUT', mayReturn: mayReturn(sale) };
    case 'STALE':
      return STALE;
    default:
      return result;
  }
}

function batchOutcome(outcome: RequestOutcome): BatchOutcome {
  switch (outcome.kind) {
    case 'STALE':
      return { kind: 'FAILED', reason: SALE_UNAVAILABLE.reason, message: BEING_PREPARED };
    case 'UNCONFIRMED':
      return { kind: 'FAILED', reason: SALE_UNAVAILABLE.reason, message: UNCONFIRMED };
    case 'BACKLOG_FULL':
      return { kind: 'FAILED', reason: SALE_BACKLOG_FULL.reason, message: TOO_MANY_WAIT };
    case 'INVALID':
      return { kind: 'FAILED', reason: INVALID_ARGUMENT.reason, message: `${outcome.field} is out of bounds` };
    case 'FAILED':
      return { kind: 'FAILED', reason: INTERNAL, message: 'internal error' };
    default:
      return outcome;
  }
}

/** Whether a sale that was read again is in another state than the one that was known. */
function isOther(now: Sale, known: Sale): boolean {
  return now.id !== known.id || now.epoch !== known.epoch || now.status !== known.status;
}

function outOfBounds(field: string) {
  return invalidArgument(`${field} is out of bounds`, { violations: [{ field, description: 'is out of bounds' }] });
}

/** Whether admission remembers what it granted to the request. */
function isRepeatable({ requestId, tokenId }: PurchaseRequest): boolean {
  return requestId !== '' || tokenId !== undefined;
}

/** Instances and contents come one to an order; of goods the sale's limits are the bound. */
function mayBuy(sale: Sale, quantity: number): boolean {
  return quantity === 1 || sale.orderType === 'GOODS';
}

function onlyOne() {
  return invalidArgument('a purchase of an instance plan or a content has quantity 1: each order is one of it', {
    violations: [{ field: 'quantity', description: 'must be 1 for an instance plan or a content' }],
  });
}

function parseSeckillId(seckillId: string): { itemId: bigint; streamId: string } {
  const match = /^([0-9]{1,19})-([0-9]{1,20})-([0-9]{1,20})(?:-([1-9][0-9]?))?$/.exec(seckillId);
  const [item, ms, sequence, segment = 0n] = (match?.slice(1) ?? []).flatMap((n) => (n === undefined ? [] : BigInt(n)));
  if (item === undefined || ms === undefined || sequence === undefined) throw noPurchase(seckillId);
  if (item > INT64_MAX || ms > UINT64_MAX || sequence > UINT64_MAX) throw noPurchase(seckillId);
  if (segment >= MAX_SEGMENTS) throw noPurchase(seckillId);
  return { itemId: item, streamId: segmentStreamId(`${ms}-${sequence}`, Number(segment)) };
}

function orSaleUnavailable(err: unknown): never {
  if (!isUnavailable(err)) throw err;
  throw saleUnavailable('it is not known whether the purchase still waits; try again shortly', { cause: err });
}

function noPurchase(seckillId: string) {
  return purchaseNotFound(`no purchase ${seckillId}`, { metadata: { seckill_id: seckillId } });
}

function recordOf(outcome: SettlementOutcome): Pick<PurchaseRecord, 'quantity' | 'status' | 'orderId' | 'reason'> {
  const quantity = outcome.quantity ?? 0;
  if (outcome.kind !== 'ORDER' || outcome.order === undefined) {
    return { quantity, status: 'REJECTED', orderId: undefined, reason: outcome.reason };
  }
  const { id, status, closeReason } = outcome.order;
  return { quantity, status: statusOf(status, closeReason), orderId: id, reason: closeReason };
}

function statusOf(status: OrderStatus, closeReason: string): PurchaseStatus {
  switch (status) {
    case 'PENDING':
      return 'AWAIT_PAY';
    case 'PAID':
    case 'SHIPPED':
    case 'COMPLETED':
    case 'REFUNDING':
      return 'PAID';
    case 'CANCELLED':
      if (closeReason === REFUNDED) return 'REFUNDED';
      return closeReason === PAY_TIMEOUT ? 'TIMED_OUT' : 'CANCELLED';
    default:
      return status satisfies never;
  }
}
