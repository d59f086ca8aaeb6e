import assert from 'node:assert/strict';
import { Registry } from 'prom-client';
import { BackgroundMetrics } from './background-metrics.js';

describe('BackgroundMetrics', () => {
  async function values(work: (metrics: BackgroundMetrics) => void): Promise<(name: string) => number | undefined> {
    const registry = new Registry();
    work(new BackgroundMetrics(registry, 'shop'));
    const lines = (await registry.metrics()).split('\n');
    return (name) => {
      const line = lines.find((l) => l.startsWith(`shop_background_${name}{server="relay"`));
      return line === undefined ? undefined : Number(line.split(' ').at(-1));
    };
  }

  it('shows 0 units, errors and isolated units of a server before its first round', async () => {
    const value = await values((metrics) => metrics.of('relay'));
    assert.equal(value('units_total'), 0);
    assert.equal(value('errors_total'), 0);
    assert.equal(value('isolated_total'), 0);
    assert.equal(value('round_seconds_count'), undefined);
  });

  it('counts the units of rounds and their times in seconds, without rounds that found nothing', async () => {
    const value = await values((metrics) => {
      const meter = metrics.of('relay');
      meter.round(3, 2_500);
      meter.round(0, 9_000);
      meter.round(1, 500);
    });
    assert.equal(value('units_total'), 4);
    assert.equal(value('batch_units_sum'), 4);
    assert.equal(value('round_seconds_sum'), 3);
    assert.equal(value('round_seconds_count'), 2);
  });

  it('counts failed rounds', async () => {
    const value = await values((metrics) => metrics.of('relay').failed());
    assert.equal(value('errors_total'), 1);
  });

  it('shows the last backlog, with the age of the oldest unit in seconds', async () => {
    const value = await values((metrics) => {
      const meter = metrics.of('relay');
      meter.backlog(7, 1_000);
      meter.backlog(4, 90_000);
    });
    assert.equal(value('backlog'), 4);
    assert.equal(value('oldest_age_seconds'), 90);
  });
});
