import { invalidArgument, isUnavailable, unavailable } from '../../../gen/common/v1/errors.js';
import {
  isOrderAlreadyPaid,
  isOrderCancelled,
  isPaymentAmountMismatch,
  orderAlreadyPaid,
  orderCancelled,
} from '../../../gen/order/v1/errors.js';
import { errorText } from '../../kratos/errors/error-text.js';
import type { IdGenerator } from '../id-generator.js';
import type { TransactionRunner } from '../transaction.js';
import type { OrderUsecase, PaymentNotice } from './order.js';
import { noOrder, type Order, type OrderRepo, statusConflict } from './order-state.js';
import type { PaymentProvider } from './payment-provider.js';
import type { PaymentSession, PaymentSessionRepo } from './payment-session-state.js';

export interface PaymentSessionPolicy {
  /** Time that a provider's callback has before the payment is looked up. It doubles up to five minutes. */
  readonly lookUpAfterMs: number;
}

/** What a provider reports of a payment. */
export interface SessionNotice extends PaymentNotice {
  /** undefined: the payment was started elsewhere. */
  readonly sessionId: bigint | undefined;
}

export type CheckOutcome =
  /** Also where the order could not take the payment: then it is refunded. */
  | { readonly kind: 'paid' }
  | { readonly kind: 'open' | 'closed' }
  /** The provider did not answer. It is asked again. */
  | { readonly kind: 'failed' }
  /** The payment cannot be recorded, such as an event that paid another order. It is tried again. */
  | { readonly kind: 'rejected'; readonly reason: string };

const LEASE_MS = 60_000;
const WAIT_MAX_MS = 300_000;

/*
 * The way of a payment that is started here:
 *
 *   start → the session is stored, with the id by which the provider knows it → the provider is asked → its pay URL is
 *     stored. Killed anywhere, the next start asks again with the same id and gets the same payment
 *   → the buyer pays → the provider's callback pays the order and ends the session
 *   → a callback that never arrives: `check` asks the provider, before the order times out and after, and pays the order
 *     with the same event id. An order that has timed out refunds it
 *
 * An order that is cancelled, or costs another amount, writes down in the same transaction that its payment must be closed.
 * `check` then asks the provider to close it, until it is closed. A buyer who was faster is paid back.
 */
export class PaymentSessionUsecase {
  private readonly providers: ReadonlyMap<string, PaymentProvider>;

  constructor(
    private readonly transactions: TransactionRunner,
    private readonly ids: IdGenerator,
    private readonly orders: OrderRepo,
    private readonly sessions: PaymentSessionRepo,
    private readonly usecase: OrderUsecase,
    providers: readonly PaymentProvider[],
    private readonly policy: PaymentSessionPolicy,
  ) {
    this.providers = new Map(providers.map((p) => [p.name, p]));
  }

  /**
   * Starts the payment of a PENDING order. Starting it again returns the same payment until that has expired or is closed.
   * @param providerName empty: the first one
   * @throws INVALID_ARGUMENT provider, ORDER_NOT_FOUND, ORDER_ALREADY_PAID, ORDER_CANCELLED, ORDER_STATUS_CONFLICT once its
   * time to pay is over, UNAVAILABLE when the provider does not answer
   */
  async start(orderId: bigint, userId: string | undefined, providerName: string): Promise<PaymentSession> {
    const provider = this.providerOf(providerName);
    const id = this.ids.nextId();
    const session = await this.transactions.run(
      async (tx) => {
        const order = (await this.orders.lock(tx, orderId, userId)) ?? noOrder(orderId);
        checkPayable(order);
        const open = await this.sessions.findOpen(tx, orderId, provider.name);
        if (open) return open;
        const { amountFen } = order;
        const wanted = { id, orderId, provider: provider.name, amountFen };
        const opened = await this.sessions.insert(tx, wanted, this.policy.lookUpAfterMs);
        if (!opened) throw statusConflict(order, 'its time to pay is over');
        return opened;
      },
      { idempotent: true },
    );
    if (session.payUrl !== undefined) return session;
    const { amountFen, expiresAt } = session;
    const started = await provider
      .start({ sessionId: session.id, orderId, amountFen, expiresAt })
      .catch((err: unknown) => {
        throw unavailable(`${provider.name} did not start the payment: ${errorText(err)}`);
      });
    const stored = await this.sessions.setStarted(session.id, started);
    // The order changed while the provider was asked: this payment will be closed.
    return stored.closing ? this.start(orderId, userId, providerName) : stored;
  }

  /**
   * Takes a payment, as `OrderUsecase.markPaid`, and ends its session. A session that is not ended, because the process
   * died in between, is looked up and repeats the payment, which changes nothing.
   */
  async receive({ sessionId, ...notice }: SessionNotice): Promise<Order> {
    const { orderId, provider } = notice;
    const end = () =>
      sessionId === undefined ? undefined : this.sessions.end({ id: sessionId, orderId, provider }, 'PAID');
    let order: Order;
    try {
      order = await this.usecase.markPaid(notice);
    } catch (err) {
      if (isRecorded(err)) await end();
      throw err;
    }
    await end();
    return order;
  }

  /**
   * The buyer gave up the payment, and it cannot be paid any more.
   * @throws ORDER_NOT_FOUND
   */
  async close({ sessionId, orderId, provider, userId }: SessionNotice): Promise<Order> {
    const order = (await this.orders.find(orderId, userId)) ?? noOrder(orderId);
    if (sessionId !== undefined) await this.sessions.end({ id: sessionId, orderId, provider }, 'CLOSED');
    return order;
  }

  /** Sessions whose look-up is due; none: there is nothing to do. */
  claim(limit: number): Promise<readonly PaymentSession[]> {
    return this.sessions.claim(limit, LEASE_MS);
  }

  /** Asks the provider what became of a payment, or to close it. @throws UNAVAILABLE when the database is unavailable */
  async check(session: PaymentSession): Promise<CheckOutcome> {
    const { id: sessionId, orderId } = session;
    const waitMs = Math.min(this.policy.lookUpAfterMs * 2 ** Math.min(session.lookUps, 20), WAIT_MAX_MS);
    const provider = this.providers.get(session.provider);
    const asked = session.closing ? provider?.close(sessionId) : provider?.lookUp(sessionId);
    const found = await asked?.catch(() => undefined);
    if (!found) {
      await this.sessions.lookUpAgain(session, waitMs);
      return { kind: 'failed' };
    }
    switch (found.kind) {
      case 'paid': {
        const { eventId, amountFen } = found;
        const notice = { orderId, userId: undefined, provider: session.provider, eventId, amountFen, sessionId };
        try {
          await this.receive(notice);
        } catch (err) {
          if (isUnavailable(err)) throw err;
          if (!isRecorded(err)) {
            await this.sessions.lookUpAgain(session, waitMs);
            return { kind: 'rejected', reason: errorText(err) };
          }
        }
        return { kind: 'paid' };
      }
      case 'unknown':
      case 'open':
        // A provider that was never asked may still be, until the session has expired.
        if (found.kind === 'unknown' && session.expired) break;
        await this.sessions.lookUpAgain(session, waitMs);
        return { kind: 'open' };
      case 'closed':
        break;
      default:
        return found satisfies never;
    }
    await this.sessions.end(session, 'CLOSED');
    return { kind: 'closed' };
  }

  private providerOf(name: string): PaymentProvider {
    const [first] = this.providers.values();
    const provider = name === '' ? first : this.providers.get(name);
    if (provider) return provider;
    const names = [...this.providers.keys()].join(', ') || 'none';
    throw invalidArgument(`there is no payment provider ${name}`, {
      violations: [{ field: 'provider', description: `must be one of the payment providers: ${names}` }],
    });
  }
}

/** Whether a payment was recorded, with its refund, although its order could not take it. */
function isRecorded(err: unknown): boolean {
  return isOrderAlreadyPaid(err) || isOrderCancelled(err) || isPaymentAmountMismatch(err);
}

function checkPayable(order: Order): void {
  const { id, status } = order;
  if (status === 'PENDING') return;
  const facts = { metadata: { order_id: String(id), status } };
  if (status === 'CANCELLED') throw orderCancelled(`order ${id} was cancelled (${order.closeReason})`, facts);
  throw orderAlreadyPaid(`order ${id} is already paid; its status is ${status}`, facts);
}
