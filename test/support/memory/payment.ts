import { type Payment, PaymentRepo, type Refund } from '../../../internal/biz/order/payment.js';
import type { Transaction } from '../../../internal/biz/transaction.js';
import { ConstraintViolation, type MemoryStore, MemoryTable } from './store.js';

const EVENT_KEY = 'provider and event';

export class MemoryPaymentRepo extends PaymentRepo {
  readonly payments: MemoryTable<Payment>;
  readonly refunds: MemoryTable<Refund>;

  constructor(protected readonly store: MemoryStore) {
    super();
    this.payments = new MemoryTable(store, 'payments', (p) => String(p.id), [
      { name: EVENT_KEY, of: (p) => `${p.provider} ${p.eventId}` },
    ]);
    this.refunds = new MemoryTable(store, 'refunds', (r) => String(r.id), [
      { name: 'payment', of: (r) => r.paymentId?.toString() },
    ]);
  }

  override find(tx: Transaction, provider: string, eventId: string): Promise<Payment | undefined> {
    return this.store.statement('payment.find', tx, async () =>
      this.payments.rows(tx).find((p) => p.provider === provider && p.eventId === eventId),
    );
  }

  override findApplied(tx: Transaction, orderId: bigint): Promise<Payment | undefined> {
    return this.store.statement('payment.findApplied', tx, async () =>
      this.payments.rows(tx).find((p) => p.orderId === orderId && p.outcome === 'APPLIED'),
    );
  }

  override insert(tx: Transaction, payment: Payment): Promise<boolean> {
    return this.store.statement('payment.insert', tx, async () => {
      const { id, orderId, provider, eventId, amountFen, outcome } = payment;
      return !(await this.payments.insert(tx, { id, orderId, provider, eventId, amountFen, outcome }, EVENT_KEY));
    });
  }

  override insertRefund(tx: Transaction, refund: Refund): Promise<void> {
    return this.store.statement('payment.insertRefund', tx, async () => {
      if (refund.paymentId !== undefined && !this.payments.find(String(refund.paymentId), tx)) {
        throw new ConstraintViolation(`refunds: no payment ${refund.paymentId}`);
      }
      await this.refunds.insert(tx, refund);
    });
  }

  override findRefund(tx: Transaction, paymentId: bigint): Promise<Refund | undefined> {
    return this.store.statement('payment.findRefund', tx, async () =>
      this.refunds.rows(tx).find((r) => r.paymentId === paymentId),
    );
  }
}
