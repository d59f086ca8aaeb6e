import { type Metric, Registry } from 'prom-client';
import { SHORT_TIMES, Times } from './times.js';

export type Labels = Readonly<Record<string, string>>;

/** What a gauge or counter has at a scrape: one number, or one for each set of labels. */
export type Scraped = number | Iterable<readonly [labels: Labels, value: number]>;

/** How the numbers of several worker processes of a replica become one. */
export type Aggregator = 'sum' | 'min' | 'max';

/** A number that only grows. */
export class Count {
  value = 0;

  add(n = 1): void {
    this.value += n;
  }
}

interface Value {
  readonly metricName?: string;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
}

/** All series of one name, in the form that the Prometheus client registers. */
class Family {
  readonly series = new Map<string, Count | Times>();
  readonly readers: (() => Iterable<Value>)[] = [];

  constructor(
    readonly name: string,
    readonly help: string,
    readonly type: 'counter' | 'gauge' | 'histogram',
    readonly aggregator: Aggregator,
  ) {}

  async get(): Promise<unknown> {
    const values = this.readers.flatMap((read) => [...read()]);
    return { name: this.name, help: this.help, type: this.type, aggregator: this.aggregator, values };
  }

  reset(): void {}
}

/**
 * Counts in plain objects, whose numbers are handed to the Prometheus client when it is scraped: the client hashes all
 * labels at each increment, which would cost a purchase more than the rest of the chain. A series exists from the moment
 * it is asked for, so that a counter starts at 0 and an alert on its rate sees the first event.
 *
 * Ask for each series once and keep it. The same name and labels give the same series.
 */
export class Metrics {
  private readonly families = new Map<string, Family>();

  /**
   * @param registry default: one that is not exported
   * @param namespace prefix of the metric names
   */
  constructor(
    private readonly registry: Registry = new Registry(),
    private readonly namespace = 'app',
  ) {}

  count(name: string, help: string, labels: Labels = {}): Count {
    const family = this.family(name, help, 'counter', 'sum');
    return this.series(family, labels, () => {
      const count = new Count();
      family.readers.push(() => [{ labels, value: count.value }]);
      return count;
    });
  }

  /** One count for each value of a label. */
  counts<Value extends string>(
    name: string,
    help: string,
    label: string,
    values: readonly Value[],
    labels: Labels = {},
  ): Readonly<Record<Value, Count>> {
    const counts = values.map((value) => [value, this.count(name, help, { ...labels, [label]: value })] as const);
    return Object.fromEntries(counts) as Record<Value, Count>;
  }

  /** @param bounds upper bounds in seconds */
  times(name: string, help: string, labels: Labels = {}, bounds: readonly number[] = SHORT_TIMES): Times {
    return this.histogram(name, help, bounds)(labels);
  }

  /** For series that are made when they are first needed. @returns the series of a set of labels */
  histogram(name: string, help: string, bounds: readonly number[] = SHORT_TIMES): (labels: Labels) => Times {
    const family = this.family(name, help, 'histogram', 'sum');
    return (labels) =>
      this.series(family, labels, () => {
        const times = new Times(bounds);
        family.readers.push(() => histogramOf(family.name, labels, times));
        return times;
      });
  }

  /** @param read called at each scrape; must not throw */
  gauge(name: string, help: string, aggregator: Aggregator, read: () => Scraped): void {
    this.family(name, help, 'gauge', aggregator).readers.push(() => valuesOf(read()));
  }

  /** A counter that is kept elsewhere. @param read called at each scrape; must not throw */
  counter(name: string, help: string, read: () => Scraped): void {
    this.family(name, help, 'counter', 'sum').readers.push(() => valuesOf(read()));
  }

  private family(name: string, help: string, type: Family['type'], aggregator: Aggregator): Family {
    const full = `${this.namespace}_${name}`;
    let family = this.families.get(full);
    if (!family) {
      family = new Family(full, help, type, aggregator);
      this.families.set(full, family);
      this.registry.registerMetric(family as unknown as Metric);
    }
    return family;
  }

  private series<S extends Count | Times>(family: Family, labels: Labels, make: () => S): S {
    const key = JSON.stringify(labels);
    let series = family.series.get(key);
    if (!series) {
      series = make();
      family.series.set(key, series);
    }
    return series as S;
  }
}

function valuesOf(reading: Scraped): Value[] {
  if (typeof reading === 'number') return [{ labels: {}, value: reading }];
  return Array.from(reading, ([labels, value]) => ({ labels, value }));
}

function* histogramOf(name: string, labels: Labels, times: Times): Iterable<Value> {
  for (const [le, value] of times.cumulative())
    yield { metricName: `${name}_bucket`, labels: { ...labels, le }, value };
  yield { metricName: `${name}_sum`, labels, value: times.sum };
  yield { metricName: `${name}_count`, labels, value: times.count };
}
