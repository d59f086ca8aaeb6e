import { RefundableLines, type RefundLine } from '../../../internal/biz/order/refund-lines.js';
import {
  type NewRefund,
  type Refund,
  type RefundClaim,
  type RefundFilter,
  type RefundMove,
  RefundRepo,
} from '../../../internal/biz/order/refund-state.js';
import type { Page, PageRequest } from '../../../internal/biz/page.js';
import type { Transaction } from '../../../internal/biz/transaction.js';
import type { MemoryOrderRepo } from './order.js';
import type { MemoryPaymentRepo } from './payment.js';
import { ConstraintViolation, type MemoryStore, MemoryTable } from './store.js';

interface RefundRow extends Omit<Refund, 'provider'> {
  readonly nextAttemptAt: Date;
}

export class MemoryRefundRepo extends RefundRepo {
  readonly refunds: MemoryTable<RefundRow>;

  constructor(
    protected readonly store: MemoryStore,
    private readonly payments: MemoryPaymentRepo,
    private readonly orders: MemoryOrderRepo,
  ) {
    super();
    this.refunds = new MemoryTable<RefundRow>(store, 'refunds', (r) => String(r.id), [
      { name: 'payment', of: (r) => (r.kind === 'PAYMENT' ? r.paymentId?.toString() : undefined) },
      { name: 'request', of: (r) => (r.requestId === undefined ? undefined : `${r.orderId} ${r.requestId}`) },
      {
        name: 'order',
        of: (r) => (r.kind === 'WHOLE' && r.status !== 'REFUSED' ? String(r.orderId) : undefined),
      },
    ]);
  }

  override insert(tx: Transaction, refund: NewRefund): Promise<void> {
    return this.store.statement('refund.insert', tx, async () => {
      if (refund.paymentId !== undefined && !this.payments.payments.find(String(refund.paymentId), tx)) {
        throw new ConstraintViolation(`refunds: no payment ${refund.paymentId}`);
      }
      const at = this.store.now();
      const none = { decision: '', attempts: 0, lastError: '', doneAt: undefined, returnedAt: undefined };
      const lines = refund.lines ?? [];
      this.countLines(tx, refund.orderId, lines);
      await this.refunds.insert(tx, {
        ...{ ...refund, ...none, lines, restocked: false, createdAt: at, nextAttemptAt: at },
        ...{ requestId: refund.requestId, requestFingerprint: refund.requestFingerprint },
      });
    });
  }

  override find(id: bigint, userId: string | undefined): Promise<Refund | undefined> {
    return this.store.statement('refund.find', undefined, async () => {
      const found = this.refunds.find(String(id));
      return found && (userId === undefined || found.userId === userId) ? this.refundOf(found) : undefined;
    });
  }

  override lock(tx: Transaction, id: bigint): Promise<Refund | undefined> {
    return this.store.statement('refund.lock', tx, async () => {
      const found = await this.refunds.lock(tx, String(id));
      return found && this.refundOf(found);
    });
  }

  override findByPayment(tx: Transaction, paymentId: bigint): Promise<Refund | undefined> {
    return this.store.statement('refund.findByPayment', tx, async () => {
      const found = this.refunds.rows(tx).find((r) => r.kind === 'PAYMENT' && r.paymentId === paymentId);
      return found && this.refundOf(found);
    });
  }

  override listOfOrder(tx: Transaction, orderId: bigint): Promise<readonly Refund[]> {
    return this.store.statement('refund.listOfOrder', tx, async () =>
      this.refunds
        .rows(tx)
        .filter((r) => r.orderId === orderId && r.kind !== 'PAYMENT')
        .sort((a, b) => (a.id < b.id ? -1 : 1))
        .map((r) => this.refundOf(r)),
    );
  }

  override list({ status, userId, orderId }: RefundFilter, { offset, limit }: PageRequest): Promise<Page<Refund>> {
    return this.store.statement('refund.list', undefined, async () => {
      const found = this.refunds
        .rows()
        .filter((r) => status === undefined || r.status === status)
        .filter((r) => userId === undefined || r.userId === userId)
        .filter((r) => orderId === undefined || r.orderId === orderId)
        .sort((a, b) => (a.id < b.id ? 1 : -1));
      return { items: found.slice(offset, offset + limit).map((r) => this.refundOf(r)), total: BigInt(found.length) };
    });
  }

  override setStatus(tx: Transaction, refund: Refund, { to, decision }: RefundMove): Promise<Refund> {
    return this.store.statement('refund.setStatus', tx, async () => {
      const at = this.store.now();
      const set = await this.refunds.update(tx, String(refund.id), (r) => ({
        ...r,
        status: to,
        decision: decision ?? r.decision,
        doneAt: to === 'DONE' ? at : undefined,
        ...(to === 'APPROVED' && { attempts: 0, nextAttemptAt: at }),
      }));
      if (!set) throw new Error(`refund ${refund.id} does not exist`);
      return this.refundOf(set);
    });
  }

  override setReturned(tx: Transaction, refund: Refund, restocked: boolean): Promise<Refund> {
    return this.store.statement('refund.setReturned', tx, async () => {
      const returnedAt = this.store.now();
      const set = await this.refunds.update(tx, String(refund.id), (r) => ({ ...r, returnedAt, restocked }));
      if (!set) throw new Error(`refund ${refund.id} does not exist`);
      return this.refundOf(set);
    });
  }

  override claim(limit: number, leaseMs: number): Promise<readonly RefundClaim[]> {
    return this.store.statement('refund.claim', undefined, async (tx) => {
      const nowMs = this.store.now().getTime();
      const due = this.refunds
        .rows()
        .filter((r) => r.status === 'APPROVED' && r.nextAttemptAt.getTime() <= nowMs)
        .sort((a, b) => a.nextAttemptAt.getTime() - b.nextAttemptAt.getTime());
      const claims: RefundClaim[] = [];
      for (const { id } of due) {
        if (claims.length === limit) break;
        const row = this.refunds.tryLock(tx, String(id));
        if (row?.status !== 'APPROVED' || row.nextAttemptAt.getTime() > nowMs) continue;
        const nextAttemptAt = new Date(nowMs + leaseMs);
        const claimed = await this.refunds.update(tx, String(id), (r) => ({
          ...r,
          attempts: r.attempts + 1,
          nextAttemptAt,
        }));
        if (claimed) claims.push({ refund: this.refundOf(claimed), payment: this.paymentOf(claimed) });
      }
      return claims;
    });
  }

  override recordFailure(refund: Refund, reason: string, retryAfterMs: number): Promise<void> {
    return this.store.statement('refund.recordFailure', undefined, async (tx) => {
      const nextAttemptAt = new Date(this.store.now().getTime() + retryAfterMs);
      await this.refunds.update(tx, String(refund.id), (r) =>
        r.attempts === refund.attempts && r.status === 'APPROVED'
          ? { ...r, lastError: reason, nextAttemptAt }
          : undefined,
      );
    });
  }

  /** What `order_items.refunded_quantity` guards. The order is locked. */
  private countLines(tx: Transaction, orderId: bigint, lines: readonly RefundLine[]): void {
    const granted = this.refunds.rows(tx).filter((r) => r.orderId === orderId && r.status !== 'REFUSED');
    const items = this.orders.items.rows(tx).filter((i) => i.orderId === orderId);
    const left = new RefundableLines(
      items,
      granted.map((r) => r.lines),
    );
    const unitsOf = new Map(left.units.map(({ skuId, quantity }) => [skuId, quantity]));
    for (const { skuId, quantity } of lines) {
      if ((unitsOf.get(skuId) ?? 0) < quantity) throw new ConstraintViolation('order_items: refunded once');
    }
  }

  private refundOf({ nextAttemptAt: _, ...refund }: RefundRow): Refund {
    return { ...refund, provider: this.paymentOf(refund)?.provider };
  }

  private paymentOf({ paymentId }: Pick<Refund, 'paymentId'>): RefundClaim['payment'] {
    if (paymentId === undefined) return undefined;
    const payment = this.payments.payments.find(String(paymentId));
    return payment && { provider: payment.provider, eventId: payment.eventId };
  }
}
