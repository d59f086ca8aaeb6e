import { type Payment, PaymentRepo } from '../../../internal/biz/order/payment.js';
import type { Transaction } from '../../../internal/biz/transaction.js';
import { type MemoryStore, MemoryTable } from './store.js';

const EVENT_KEY = 'provider and event';

export class MemoryPaymentRepo extends PaymentRepo {
  readonly payments: MemoryTable<Payment>;

  constructor(protected readonly store: MemoryStore) {
    super();
    this.payments = new MemoryTable(store, 'payments', (p) => String(p.id), [
      { name: EVENT_KEY, of: (p) => `${p.provider} ${p.eventId}` },
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
}
