import { invalidArgument, isUnavailable } from '../../gen/common/v1/errors.js';
import { purchaseNotFound, saleBacklogFull, saleNotFound, saleUnavailable } from '../../gen/seckill/v1/errors.js';
import type { Admission, Admitted, Wish } from './admission.js';
import type { OrderStatus } from './order-state.js';
import { type PurchaseStream, parseEntry } from './purchase-stream.js';
import type { SaleDirectory } from './sale-directory.js';
import type { Sale } from './sale-state.js';
import type { Outcome, SettlementRepo } from './settlement.js';

export interface PurchaseWish extends Wish {
  readonly itemId: bigint;
}

export type PurchaseOutcome =
  | { readonly kind: 'QUEUED'; readonly seckillId: string }
  | { readonly kind: 'SOLD_OUT' | 'NOT_STARTED' | 'ENDED' | 'LIMIT_REACHED' };

/** Where a purchase stands, in the fifth document's words. */
export type PurchaseStatus = 'QUEUED' | 'AWAIT_PAY' | 'PAID' | 'CANCELLED' | 'TIMED_OUT' | 'REJECTED';

export interface PurchaseRecord {
  readonly seckillId: string;
  readonly itemId: bigint;
  readonly quantity: number;
  readonly status: PurchaseStatus;
  readonly orderId: bigint | undefined;
  readonly reason: string;
}

/** Why the sweeper closes an order; `OrderUsecase.sweepOverdue` writes it. */
const PAY_TIMEOUT = 'PAY_TIMEOUT';
const INT64_MAX = 0x7fff_ffff_ffff_ffffn;
const UINT64_MAX = 0xffff_ffff_ffff_ffffn;

export class SeckillUsecase {
  constructor(
    private readonly sales: SaleDirectory,
    private readonly admission: Admission,
    private readonly stream: PurchaseStream,
    private readonly settlements: SettlementRepo,
  ) {}

  /**
   * @throws SALE_NOT_FOUND, INVALID_ARGUMENT quantity, SALE_BACKLOG_FULL, SALE_UNAVAILABLE (then the wish may have been
   * granted; repeating it with its request id tells)
   */
  async purchase(wish: PurchaseWish): Promise<PurchaseOutcome> {
    const sale = this.sales.peek(wish.itemId) ?? (await this.sales.find(wish.itemId));
    if (!sale) throw saleNotFound(`item ${wish.itemId} has no sale`, { metadata: { item_id: String(wish.itemId) } });
    validateQuantity(wish.quantity);
    if (sale.status === 'SCHEDULED') return { kind: 'NOT_STARTED' };
    // A repeated wish of a sale that closed meanwhile still learns that it was granted.
    if (sale.status === 'CLOSED' && (wish.requestId === '' || sale.epoch === 0n)) return { kind: 'ENDED' };
    const admitted = await this.admission.admit(sale, wish);
    return outcomeOf(wish, admitted.kind === 'STALE' ? await this.admitAgain(sale, wish) : admitted);
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
    const outcome = await this.settlements.find(itemId, streamId);
    if (outcome) {
      if (outcome.userId !== userId) throw noPurchase(seckillId);
      return { seckillId, itemId, ...recordOf(outcome) };
    }
    if (away !== undefined) throw saleUnavailable('the purchase may still wait; try again shortly', { cause: away });
    const purchase = entry && parseEntry(entry);
    if (purchase?.kind !== 'purchase' || purchase.userId !== userId) throw noPurchase(seckillId);
    return { seckillId, itemId, quantity: purchase.quantity, status: 'QUEUED', orderId: undefined, reason: '' };
  }

  private async admitAgain(known: Sale, wish: PurchaseWish): Promise<Admitted> {
    if (known.status === 'CLOSED') return { kind: 'ENDED' };
    const sale = await this.sales.refresh(known);
    if (sale?.status === 'CLOSED') return { kind: 'ENDED' };
    return sale === undefined || sale.epoch === known.epoch ? { kind: 'STALE' } : this.admission.admit(sale, wish);
  }
}

function outcomeOf(wish: PurchaseWish, admitted: Admitted): PurchaseOutcome {
  switch (admitted.kind) {
    case 'QUEUED':
      return { kind: 'QUEUED', seckillId: `${wish.itemId}-${admitted.streamId}` };
    case 'SOLD_OUT':
    case 'NOT_STARTED':
    case 'ENDED':
    case 'LIMIT_REACHED':
      return { kind: admitted.kind };
    case 'BACKLOG_FULL':
      throw saleBacklogFull('too many purchases wait to become orders; try again shortly');
    case 'STALE':
      throw saleUnavailable('the sale is being prepared; try again shortly');
    default:
      return admitted satisfies never;
  }
}

/** Every item is an instance plan, and an instance comes one to an order. */
function validateQuantity(quantity: number): void {
  if (quantity === 1) return;
  throw invalidArgument('a purchase of an instance plan has quantity 1: each order is one instance', {
    violations: [{ field: 'quantity', description: 'must be 1 for an instance plan' }],
  });
}

function parseSeckillId(seckillId: string): { itemId: bigint; streamId: string } {
  const match = /^([0-9]{1,19})-([0-9]{1,20})-([0-9]{1,20})$/.exec(seckillId);
  const [item, ms, sequence] = (match?.slice(1) ?? []).map(BigInt);
  if (item === undefined || ms === undefined || sequence === undefined) throw noPurchase(seckillId);
  if (item > INT64_MAX || ms > UINT64_MAX || sequence > UINT64_MAX) throw noPurchase(seckillId);
  return { itemId: item, streamId: `${ms}-${sequence}` };
}

function noPurchase(seckillId: string) {
  return purchaseNotFound(`no purchase ${seckillId}`, { metadata: { seckill_id: seckillId } });
}

function recordOf(outcome: Outcome): Pick<PurchaseRecord, 'quantity' | 'status' | 'orderId' | 'reason'> {
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
      return closeReason === PAY_TIMEOUT ? 'TIMED_OUT' : 'CANCELLED';
    default:
      return status satisfies never;
  }
}
