import assert from 'node:assert/strict';
import { AggregatorRegistry, Registry } from 'prom-client';
import { Metrics } from './metrics.js';

describe('Metrics', () => {
  function make(): { metrics: Metrics; text: () => Promise<string> } {
    const registry = new Registry();
    return { metrics: new Metrics(registry, 'shop'), text: () => registry.metrics() };
  }

  it('export each value of a label as 0 before its first event', async () => {
    const { metrics, text } = make();
    const moves = metrics.counts('moves_total', 'Moves.', 'to', ['PAID', 'DONE']);
    moves.DONE.add(2);
    assert.equal(
      (await text()).trim(),
      [
        '# HELP shop_moves_total Moves.',
        '# TYPE shop_moves_total counter',
        'shop_moves_total{to="PAID"} 0',
        'shop_moves_total{to="DONE"} 2',
      ].join('\n'),
    );
  });

  it('give the same series for the same name and labels', async () => {
    const { metrics, text } = make();
    metrics.count('errors_total', 'Errors.', { queue: 'a' }).add();
    metrics.count('errors_total', 'Errors.', { queue: 'a' }).add();
    metrics.count('errors_total', 'Errors.', { queue: 'b' });
    assert.match(await text(), /shop_errors_total\{queue="a"\} 2\nshop_errors_total\{queue="b"\} 0/);
  });

  it('export times with cumulative buckets', async () => {
    const { metrics, text } = make();
    const times = metrics.times('wait_seconds', 'Waits.', { at: 'x' }, [0.1, 1]);
    for (const seconds of [0.1, 0.5, 3]) times.add(seconds);
    assert.deepEqual((await text()).trim().split('\n').slice(2), [
      'shop_wait_seconds_bucket{at="x",le="0.1"} 1',
      'shop_wait_seconds_bucket{at="x",le="1"} 2',
      'shop_wait_seconds_bucket{at="x",le="+Inf"} 3',
      'shop_wait_seconds_sum{at="x"} 3.6',
      'shop_wait_seconds_count{at="x"} 3',
    ]);
  });

  it('read gauges and counters of other objects at each scrape', async () => {
    const { metrics, text } = make();
    let connections = 1;
    metrics.gauge('connections', 'Connections.', 'sum', () => connections);
    metrics.counter('refused_total', 'Refusals.', () => [[{ limit: 'user' }, connections * 10]]);
    connections = 3;
    assert.match(await text(), /^shop_connections 3$/m);
    assert.match(await text(), /^shop_refused_total\{limit="user"\} 30$/m);
  });

  it('of several workers are added, except gauges that name another rule', async () => {
    const workers = [2, 5].map((n) => {
      const registry = new Registry();
      const metrics = new Metrics(registry, 'shop');
      metrics.count('calls_total', 'Calls.').add(n);
      metrics.gauge('streams', 'Streams.', 'max', () => n);
      metrics.gauge('up', 'Up.', 'min', () => n);
      metrics.times('wait_seconds', 'Waits.', {}, [3]).add(n);
      return registry.getMetricsAsJSON();
    });
    const text = await AggregatorRegistry.aggregate(await Promise.all(workers)).metrics();
    assert.match(text, /^shop_calls_total 7$/m);
    assert.match(text, /^shop_streams 5$/m);
    assert.match(text, /^shop_up 2$/m);
    assert.match(text, /^shop_wait_seconds_bucket\{le="3"\} 1$/m);
    assert.match(text, /^shop_wait_seconds_sum 7$/m);
  });
});
