import assert from 'node:assert/strict';
import { Registry } from 'prom-client';
import type { ReconcileResult, SaleSchedule } from '../biz/seckill/sale-schedule.js';
import { BackgroundMetrics } from '../kratos/background/background-metrics.js';
import { type LogFields, Logger } from '../kratos/log/logger.js';
import { saleKeeper } from './sale-keeper.js';

const NOTHING: ReconcileResult = {
  ...{ opened: 0, closed: 0, released: 0, propagated: 0, spread: 0n },
  ...{ reloaded: [], leased: [], drifts: [], failures: [], drifting: new Map() },
};

class RecordingLogger extends Logger {
  override readonly debugs = false;
  readonly lines: string[] = [];
  override debug(): void {}
  override info(): void {}
  override error(): void {}
  override warn(message: string, fields: LogFields = {}): void {
    this.lines.push(`${message} ${fields.itemId ?? ''}`.trim());
  }
  override child(): Logger {
    return this;
  }
}

describe('saleKeeper', () => {
  /** Rounds with these results, one after the other; then the metrics. */
  async function keep(...results: ReconcileResult[]): Promise<{ lines: readonly string[]; metrics: string }> {
    const logger = new RecordingLogger();
    const registry = new Registry();
    let rounds = 0;
    let done = () => {};
    const all = new Promise<void>((resolve) => {
      done = resolve;
    });
    const schedule = {
      reconcile: async () => {
        const result = results[rounds++];
        if (rounds === results.length) done();
        return result ?? NOTHING;
      },
    } as Partial<SaleSchedule> as SaleSchedule;
    const keeper = saleKeeper(schedule, logger, registry, { intervalMs: 1 });
    keeper.observe(new BackgroundMetrics(registry, 'kaimai').of(keeper.name));
    await keeper.start();
    await all;
    await keeper.stop(AbortSignal.timeout(5_000));
    return { lines: logger.lines, metrics: await registry.metrics() };
  }

  it('counts what it did as units, and exports every kind of difference before it occurs', async () => {
    const reloaded = [{ itemId: 1n, kind: 'NOT_LOADED', detail: '' }] as const;
    const { metrics } = await keep({ ...NOTHING, opened: 2, closed: 1, released: 1, propagated: 1, reloaded }, NOTHING);
    assert.match(metrics, /^kaimai_background_units_total\{server="sale_keeper"\} 6$/m);
    assert.match(metrics, /^kaimai_sale_drift\{kind="STREAM_EXHAUSTED"\} 0$/m);
    assert.match(metrics, /^kaimai_sale_reloads_total\{kind="BUYERS"\} 0$/m);
  });

  it('logs a fault of a sale once although every round meets it, and counts each', async () => {
    const fault = { ...NOTHING, failures: [{ itemId: 7n, cause: new Error('broken') }], leased: [8n] };
    const { lines, metrics } = await keep(fault, fault, fault, { ...NOTHING, failures: fault.failures });
    assert.deepEqual(lines, ['load refused: another process holds the load lease 8', 'sale could not be reconciled 7']);
    assert.match(metrics, /^kaimai_sale_keeper_failures_total 4$/m);
    assert.match(metrics, /^kaimai_sale_load_refusals_total 3$/m);
  });

  it('exports the sales that differ now by kind, and 0 once none does', async () => {
    const drifting = { ...NOTHING, drifting: new Map([['BALANCE', 2] as const, ['LIMIT', 1] as const]) };
    const during = await keep(drifting);
    assert.match(during.metrics, /^kaimai_sale_drift\{kind="BALANCE"\} 2$/m);
    assert.match(during.metrics, /^kaimai_sale_drift\{kind="LIMIT"\} 1$/m);
    const after = await keep(drifting, NOTHING);
    assert.match(after.metrics, /^kaimai_sale_drift\{kind="BALANCE"\} 0$/m);
  });

  it('logs each reload with its cause and counts it', async () => {
    const reloaded = [{ itemId: 7n, kind: 'UNREADABLE', detail: 'Redis holds something else as meta' } as const];
    const { lines, metrics } = await keep({ ...NOTHING, reloaded }, { ...NOTHING, reloaded });
    assert.deepEqual(lines, ['sale reloaded into Redis 7', 'sale reloaded into Redis 7']);
    assert.match(metrics, /^kaimai_sale_reloads_total\{kind="UNREADABLE"\} 2$/m);
  });
});
