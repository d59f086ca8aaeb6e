import { Counter, type Registry } from 'prom-client';
import type { PaymentSessionUsecase } from '../biz/order/payment-session.js';
import type { PaymentSession } from '../biz/order/payment-session-state.js';
import { Loop } from '../kratos/background/loop.js';
import type { Logger } from '../kratos/log/logger.js';

/** Look-ups under way at a time: each waits for the provider. */
const LANES = 4;
const POLL_INTERVAL_MS = 1_000;

/** Asks the payment providers about payments whose callback did not come. */
export function paymentChecker(
  sessions: PaymentSessionUsecase,
  logger: Logger,
  registry: Registry,
): Loop<PaymentSession> {
  const log = logger.child({ server: 'payment_checker' });
  const lookUps = new Counter({
    name: 'kaimai_payment_look_ups_total',
    help: 'Look-ups of payments at their providers, by outcome: paid (the callback was lost), open, closed, failed (no answer), rejected (it cannot be recorded).',
    labelNames: ['outcome'] as const,
    registers: [registry],
  });
  for (const outcome of ['paid', 'open', 'closed', 'failed', 'rejected']) lookUps.inc({ outcome }, 0);
  return new Loop<PaymentSession>({
    name: 'payment_checker',
    lanes: LANES,
    idleMs: POLL_INTERVAL_MS,
    logger: log,
    claim: async () => (await sessions.claim(1))[0],
    run: async (session) => {
      const outcome = await sessions.check(session);
      lookUps.inc({ outcome: outcome.kind });
      const { id: payment, orderId: order, provider } = session;
      if (outcome.kind === 'paid') {
        log.warn('a payment was found whose callback did not come', { payment, order, provider });
      } else if (outcome.kind === 'rejected') {
        log.error('a payment was found that cannot be recorded', { payment, order, provider, reason: outcome.reason });
      }
      return { kind: 'done', units: 1 };
    },
  });
}
