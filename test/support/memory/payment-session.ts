import type { StartedPayment } from '../../../internal/biz/order/payment-provider.js';
import { type PaymentSession, PaymentSessionRepo } from '../../../internal/biz/order/payment-session-state.js';
import type { Transaction } from '../../../internal/biz/transaction.js';
import type { MemoryOrderRepo } from './order.js';
import { type MemoryStore, MemoryTable } from './store.js';

interface SessionRow extends Omit<PaymentSession, 'expired'> {
  readonly nextLookUpAt: Date;
}

const NEAR_MS = 5_000;

export class MemoryPaymentSessionRepo extends PaymentSessionRepo {
  readonly sessions: MemoryTable<SessionRow>;

  constructor(
    protected readonly store: MemoryStore,
    private readonly orders: MemoryOrderRepo,
  ) {
    super();
    this.sessions = new MemoryTable<SessionRow>(store, 'payment_sessions', (s) => String(s.id));
  }

  override findOpen(tx: Transaction, orderId: bigint, provider: string): Promise<PaymentSession | undefined> {
    return this.store.statement('session.findOpen', tx, async () =>
      this.sessions
        .rows(tx)
        .map((row) => this.sessionOf(row))
        .filter(
          (s) => s.orderId === orderId && s.provider === provider && s.status === 'OPEN' && !s.expired && !s.closing,
        )
        .sort((a, b) => (a.id < b.id ? 1 : -1))
        .at(0),
    );
  }

  override insert(
    tx: Transaction,
    { id, orderId, provider, amountFen }: Pick<PaymentSession, 'id' | 'orderId' | 'provider' | 'amountFen'>,
    lookUpAfterMs: number,
  ): Promise<PaymentSession | undefined> {
    return this.store.statement('session.insert', tx, async () => {
      const expiresAt = this.orders.orders.find(String(orderId), tx)?.payDeadline;
      const nowMs = this.store.now().getTime();
      if (expiresAt === undefined || expiresAt.getTime() <= nowMs) return undefined;
      const row: SessionRow = {
        ...{ id, orderId, provider, amountFen, status: 'OPEN', payUrl: undefined, expiresAt, lookUps: 0 },
        closing: false,
        nextLookUpAt: new Date(nowMs + lookUpAfterMs),
      };
      await this.sessions.insert(tx, row);
      return this.sessionOf(row);
    });
  }

  override setStarted(id: bigint, { payUrl, expiresAt }: StartedPayment): Promise<PaymentSession> {
    return this.store.statement('session.setStarted', undefined, async (tx) => {
      const set = await this.sessions.update(tx, String(id), (s) =>
        s.payUrl === undefined ? { ...s, payUrl, expiresAt: expiresAt < s.expiresAt ? expiresAt : s.expiresAt } : s,
      );
      if (!set) throw new Error(`payment session ${id} does not exist`);
      return this.sessionOf(set);
    });
  }

  override end(
    { id, orderId, provider }: Pick<PaymentSession, 'id' | 'orderId' | 'provider'>,
    status: 'PAID' | 'CLOSED',
  ): Promise<void> {
    return this.store.statement('session.end', undefined, async (tx) => {
      await this.sessions.update(tx, String(id), (s) =>
        s.orderId === orderId && s.provider === provider && s.status === 'OPEN' ? { ...s, status } : undefined,
      );
    });
  }

  override requestClose(tx: Transaction, orderIds: readonly bigint[]): Promise<void> {
    return this.store.statement('session.requestClose', tx, async () => {
      const now = this.store.now();
      for (const { id, orderId } of this.sessions.rows(tx)) {
        if (!orderIds.includes(orderId)) continue;
        await this.sessions.update(tx, String(id), (s) =>
          s.status === 'OPEN' && s.expiresAt > now
            ? { ...s, closing: true, nextLookUpAt: now, lookUps: s.lookUps + 1 }
            : undefined,
        );
      }
    });
  }

  override claim(limit: number, leaseMs: number): Promise<readonly PaymentSession[]> {
    return this.store.statement('session.claim', undefined, async (tx) => {
      const nowMs = this.store.now().getTime();
      const isDue = (s: SessionRow) => s.status === 'OPEN' && s.nextLookUpAt.getTime() <= nowMs;
      const due = this.sessions
        .rows()
        .filter(isDue)
        .sort((a, b) => a.nextLookUpAt.getTime() - b.nextLookUpAt.getTime());
      const claimed: PaymentSession[] = [];
      for (const { id } of due) {
        if (claimed.length === limit) break;
        const row = this.sessions.tryLock(tx, String(id));
        if (!row || !isDue(row)) continue;
        const nextLookUpAt = new Date(nowMs + leaseMs);
        const taken = await this.sessions.update(tx, String(id), (s) => ({
          ...s,
          lookUps: s.lookUps + 1,
          nextLookUpAt,
        }));
        if (taken) claimed.push(this.sessionOf(taken));
      }
      return claimed;
    });
  }

  override lookUpAgain({ id, lookUps }: PaymentSession, waitMs: number): Promise<void> {
    return this.store.statement('session.lookUpAgain', undefined, async (tx) => {
      const nowMs = this.store.now().getTime();
      await this.sessions.update(tx, String(id), (s) => {
        if (s.lookUps !== lookUps || s.status !== 'OPEN') return undefined;
        const expiresAtMs = s.expiresAt.getTime();
        const later = nowMs + waitMs;
        const before = Math.min(later, expiresAtMs - NEAR_MS);
        const atMs = expiresAtMs > nowMs + NEAR_MS ? before : expiresAtMs > nowMs ? expiresAtMs + 1_000 : later;
        return { ...s, nextLookUpAt: new Date(atMs) };
      });
    });
  }

  private sessionOf({ nextLookUpAt: _, ...row }: SessionRow): PaymentSession {
    return { ...row, expired: row.expiresAt.getTime() <= this.store.now().getTime() };
  }
}
