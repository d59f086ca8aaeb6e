import { SALE_BACKLOG_FULL, SALE_UNAVAILABLE } from '../../gen/seckill/v1/errors.js';
import type { PurchaseOutcome } from '../biz/seckill/seckill.js';
import { KratosError } from '../kratos/errors/error.js';
import { INTERNAL, UNAVAILABLE } from '../kratos/errors/reasons.js';
import type { Count, Metrics } from '../kratos/metrics/metrics.js';

/** What became of a purchase; the last four end with an error. */
const OUTCOMES = [
  'QUEUED',
  'SOLD_OUT',
  'NOT_STARTED',
  'ENDED',
  'LIMIT_REACHED',
  'TOKEN_REQUIRED',
  'TOKEN_EXPIRED',
  'BACKLOG_FULL',
  'UNAVAILABLE',
  'REFUSED',
  'FAILED',
] as const;
type Outcome = (typeof OUTCOMES)[number];

const BY_REASON: Readonly<Record<string, Outcome>> = {
  [SALE_BACKLOG_FULL.reason]: 'BACKLOG_FULL',
  [SALE_UNAVAILABLE.reason]: 'UNAVAILABLE',
  [UNAVAILABLE.reason]: 'UNAVAILABLE',
  [INTERNAL.reason]: 'FAILED',
};

/** Counts the purchases of all items by outcome. */
export class PurchaseCounts {
  private readonly counts: Readonly<Record<Outcome, Count>>;

  constructor(metrics: Metrics) {
    this.counts = metrics.counts(
      'purchases_total',
      'Purchases, one by one, in batches and over streams, by outcome. REFUSED: not valid, or no such sale.',
      'outcome',
      OUTCOMES,
    );
  }

  add(kind: PurchaseOutcome['kind']): void {
    this.counts[kind].add();
  }

  addError(err: unknown): void {
    this.addReason(err instanceof KratosError ? err.reason : INTERNAL.reason);
  }

  addReason(reason: string): void {
    this.counts[BY_REASON[reason] ?? 'REFUSED'].add();
  }
}
