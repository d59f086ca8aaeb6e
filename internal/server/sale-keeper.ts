import { Counter, Gauge, type Registry } from 'prom-client';
import type { DriftKind } from '../biz/seckill/sale-drift.js';
import type { ReconcileResult, SaleSchedule } from '../biz/seckill/sale-schedule.js';
import { Loop } from '../kratos/background/loop.js';
import type { Logger } from '../kratos/log/logger.js';

const INTERVAL_MS = 500;
/** Longest wait after failed rounds: buyers of a sale that Redis lost wait for the keeper. */
const MAX_STALL_MS = 1_000;
/** How often the same fault of the same sale is logged. */
const LOG_EVERY_MS = 60_000;

/** Each is exported as 0 before it occurs. */
const DRIFT_KINDS: Readonly<Record<DriftKind, 0>> = {
  UNREADABLE: 0,
  NOT_LOADED: 0,
  STREAM_EXHAUSTED: 0,
  SETTINGS: 0,
  LIMIT: 0,
  ADMIT_RATE: 0,
  WINDOW: 0,
  BALANCE: 0,
  BUYERS: 0,
  NOT_CLOSED: 0,
  TOTAL: 0,
};

const KINDS = Object.keys(DRIFT_KINDS) as DriftKind[];

/** Opens and closes sales by their schedule, and brings Redis back to what PostgreSQL has. */
export function saleKeeper(
  schedule: SaleSchedule,
  logger: Logger,
  registry: Registry,
  { intervalMs = INTERVAL_MS } = {},
): Loop {
  const report = new Report(logger, registry);
  return new Loop({
    name: 'sale_keeper',
    idleMs: intervalMs,
    maxStallMs: MAX_STALL_MS,
    logger,
    round: async () => {
      const result = await schedule.reconcile();
      report.add(result);
      const { opened, closed, released, reloaded, propagated, failures } = result;
      const units = opened + closed + released + reloaded.length + propagated;
      // What was done needs no second look at once; what failed waits for the next round.
      return { units, isolated: failures.length, again: false };
    },
  });
}

class Report {
  private readonly drift: Gauge<'kind'>;
  private readonly reloads: Counter<'kind'>;
  private readonly propagations: Counter;
  private readonly refusals: Counter;
  private readonly failures: Counter;
  private readonly spreadUnits: Counter;
  /** By message and item. */
  private readonly loggedAtMs = new Map<string, number>();

  constructor(
    private readonly logger: Logger,
    registry: Registry,
  ) {
    const registers = [registry];
    this.drift = new Gauge({
      name: 'kaimai_sale_drift',
      help: 'Sales whose state in Redis differs from PostgreSQL, by kind of difference',
      labelNames: ['kind'],
      // Each worker and replica sees the same sales.
      aggregator: 'max',
      registers,
    });
    this.reloads = new Counter({
      name: 'kaimai_sale_reloads_total',
      help: 'Open sales loaded into Redis again, by kind of difference',
      labelNames: ['kind'],
      registers,
    });
    for (const kind of KINDS) {
      this.drift.set({ kind }, 0);
      this.reloads.inc({ kind }, 0);
    }
    this.propagations = new Counter({
      name: 'kaimai_sale_propagations_total',
      help: 'Settings and closes that Redis had missed and was told of by the sale keeper',
      registers,
    });
    this.refusals = new Counter({
      name: 'kaimai_sale_load_refusals_total',
      help: 'Loads refused because another process held the load lease',
      registers,
    });
    this.failures = new Counter({
      name: 'kaimai_sale_keeper_failures_total',
      help: 'Sales that a round of the sale keeper failed at',
      registers,
    });
    this.spreadUnits = new Counter({
      name: 'kaimai_sale_spread_units_total',
      help: 'Units that the sale keeper moved between segments of a sale',
      registers,
    });
  }

  add(result: ReconcileResult): void {
    const { opened, closed, released, reloaded, spread, propagated, leased, drifts, drifting, failures } = result;
    if (opened + closed > 0) this.logger.info('sales opened and closed on schedule', { opened, closed });
    if (released > 0) this.logger.info('unsold units of closed sales returned to their skus', { sales: released });
    if (propagated > 0)
      this.logger.warn('Redis was told of settings or closes that it had missed', { sales: propagated });
    for (const { itemId, kind, detail } of reloaded) {
      this.reloads.inc({ kind });
      this.logger.warn('sale reloaded into Redis', { itemId: String(itemId), kind, detail });
    }
    for (const itemId of leased) {
      this.refusals.inc();
      this.logSometimes(itemId, 'load refused: another process holds the load lease', () => ({}));
    }
    for (const { itemId, kind, detail } of drifts) {
      this.logSometimes(itemId, `sale differs between Redis and PostgreSQL: ${kind}`, () => ({ detail }));
    }
    for (const { itemId, cause } of failures) {
      this.failures.inc();
      this.logSometimes(itemId, 'sale could not be reconciled', () => ({ err: cause }));
    }
    this.spreadUnits.inc(Number(spread));
    if (spread > 0n) this.logger.info('units moved between segments of sales', { units: String(spread) });
    this.propagations.inc(propagated);
    for (const kind of KINDS) this.drift.set({ kind }, drifting.get(kind) ?? 0);
  }

  private logSometimes(itemId: bigint | undefined, message: string, fields: () => Record<string, unknown>): void {
    const key = `${itemId} ${message}`;
    const nowMs = performance.now();
    if (nowMs - (this.loggedAtMs.get(key) ?? Number.NEGATIVE_INFINITY) < LOG_EVERY_MS) return;
    for (const [known, atMs] of this.loggedAtMs) if (nowMs - atMs >= LOG_EVERY_MS) this.loggedAtMs.delete(known);
    this.loggedAtMs.set(key, nowMs);
    this.logger.warn(message, { ...(itemId !== undefined && { itemId: String(itemId) }), ...fields() });
  }
}
