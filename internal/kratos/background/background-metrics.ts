import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import { BackgroundMeter } from './background-meter.js';

/** Prometheus metrics of the background servers, by their names. */
export class BackgroundMetrics {
  private readonly units: Counter<'server'>;
  private readonly errors: Counter<'server'>;
  private readonly isolated: Counter<'server'>;
  private readonly batch: Histogram<'server'>;
  private readonly seconds: Histogram<'server'>;
  private readonly backlog: Gauge<'server'>;
  private readonly oldest: Gauge<'server'>;

  /** @param namespace prefix of the metric names */
  constructor(registry: Registry, namespace: string) {
    const common = { labelNames: ['server'] as const, registers: [registry] };
    this.units = new Counter({ name: `${namespace}_background_units_total`, help: 'Units of work done.', ...common });
    this.errors = new Counter({
      name: `${namespace}_background_errors_total`,
      help: 'Rounds that failed.',
      ...common,
    });
    this.isolated = new Counter({
      name: `${namespace}_background_isolated_total`,
      help: 'Units that failed on their own and were set aside.',
      ...common,
    });
    this.batch = new Histogram({
      name: `${namespace}_background_batch_units`,
      help: 'Units of work of a round that found work.',
      buckets: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000],
      ...common,
    });
    this.seconds = new Histogram({
      name: `${namespace}_background_round_seconds`,
      help: 'Duration of a round that found work.',
      buckets: [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
      ...common,
    });
    this.backlog = new Gauge({
      name: `${namespace}_background_backlog`,
      help: 'Units that were waiting at the last look. Each replica sees the same ones: take the maximum, not the sum.',
      aggregator: 'max',
      ...common,
    });
    this.oldest = new Gauge({
      name: `${namespace}_background_oldest_age_seconds`,
      help: 'Age of the oldest unit that was waiting at the last look; the same at each replica.',
      aggregator: 'max',
      ...common,
    });
  }

  of(name: string): BackgroundMeter {
    const labels = { server: name };
    // Exported as 0 before the first event, because an alert on a rate needs a starting point.
    this.units.inc(labels, 0);
    this.errors.inc(labels, 0);
    this.isolated.inc(labels, 0);
    return new Meter(
      (units, tookMs) => {
        if (units === 0) return;
        this.units.inc(labels, units);
        this.batch.observe(labels, units);
        this.seconds.observe(labels, tookMs / 1000);
      },
      () => this.errors.inc(labels),
      (units) => this.isolated.inc(labels, units),
      (units, oldestAgeMs) => {
        this.backlog.set(labels, units);
        this.oldest.set(labels, oldestAgeMs / 1000);
      },
    );
  }
}

class Meter extends BackgroundMeter {
  constructor(
    override readonly round: (units: number, tookMs: number) => void,
    override readonly failed: () => void,
    override readonly isolated: (units: number) => void,
    override readonly backlog: (units: number, oldestAgeMs: number) => void,
  ) {
    super();
  }
}
