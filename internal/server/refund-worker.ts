import { Counter, type Registry } from 'prom-client';
import type { RefundUsecase } from '../biz/order/refund.js';
import type { RefundClaim } from '../biz/order/refund-state.js';
import { Loop } from '../kratos/background/loop.js';
import type { Logger } from '../kratos/log/logger.js';

export interface RefundWorkerOptions {
  readonly pollIntervalMs: number;
}

/** Payouts under way at a time: each waits for the provider. */
const LANES = 4;

/** Pays approved refunds out. Each is a job of its own, so that one that fails holds up no other. */
export function refundWorker(
  refunds: RefundUsecase,
  { pollIntervalMs }: RefundWorkerOptions,
  logger: Logger,
  registry: Registry,
): Loop<RefundClaim> {
  const log = logger.child({ server: 'refund_worker' });
  const payouts = new Counter({
    name: 'kaimai_refund_payouts_total',
    help: 'Payouts of refunds, by outcome: done, waiting (for CompleteRefund), retry, failed (an operator has to look).',
    labelNames: ['outcome'] as const,
    registers: [registry],
  });
  for (const outcome of ['done', 'waiting', 'retry', 'failed']) payouts.inc({ outcome }, 0);
  return new Loop<RefundClaim>({
    name: 'refund_worker',
    lanes: LANES,
    idleMs: pollIntervalMs,
    logger: log,
    claim: async () => (await refunds.claim(1))[0],
    run: async (claim) => {
      const outcome = await refunds.payOut(claim);
      payouts.inc({ outcome });
      if (outcome === 'failed') log.error('refund failed: all attempts are used up', { refund: claim.refund.id });
      return { kind: 'done', units: outcome === 'done' ? 1 : 0, isolated: outcome === 'failed' ? 1 : 0 };
    },
  });
}
