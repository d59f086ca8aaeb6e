import assert from 'node:assert/strict';
import { Registry } from 'prom-client';
import { SilentLogger } from '../log/logger.js';
import { BackgroundMetrics } from './background-metrics.js';
import { Loop } from './loop.js';

function loop(round: (signal: AbortSignal) => Promise<number>, idleMs = 1): Loop {
  return new Loop({ name: 'test', round, idleMs, logger: new SilentLogger() });
}

describe('Loop', () => {
  it('goes on after rounds that throw', async () => {
    let rounds = 0;
    const reached = deferred();
    const server = loop(async () => {
      rounds += 1;
      if (rounds === 5) reached.resolve();
      throw new Error('down');
    });
    await server.start();
    await reached.promise;
    await server.stop(AbortSignal.timeout(1_000));
    assert.ok(rounds >= 5);
  });

  it('counts its rounds and failures', async () => {
    const prom = new Registry();
    const reached = deferred();
    let rounds = 0;
    const server = loop(async () => {
      rounds += 1;
      if (rounds === 1) throw new Error('down');
      if (rounds === 3) reached.resolve();
      return rounds < 3 ? 7 : 0;
    });
    const meter = new BackgroundMetrics(prom, 'test').of('test');
    server.observe(meter);
    meter.backlog(3, 1_500);
    await server.start();
    await reached.promise;
    await server.stop(AbortSignal.timeout(1_000));
    const text = await prom.metrics();
    assert.match(text, /test_background_units_total\{server="test"\} 7/);
    assert.match(text, /test_background_errors_total\{server="test"\} 1/);
    assert.match(text, /test_background_batch_units_count\{server="test"\} 1/);
    assert.match(text, /test_background_oldest_age_seconds\{server="test"\} 1\.5/);
  });

  it('finishes the round under way before it stops, and starts no other', async () => {
    const entered = deferred();
    const release = deferred();
    let rounds = 0;
    const server = loop(async () => {
      rounds += 1;
      entered.resolve();
      await release.promise;
      return 1;
    });
    await server.start();
    await entered.promise;
    const stopped = server.stop(AbortSignal.timeout(5_000));
    release.resolve();
    await stopped;
    assert.equal(rounds, 1);
  });

  it('aborts the round under way when the deadline is over', async () => {
    const entered = deferred();
    const server = loop(async (signal) => {
      entered.resolve();
      await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true }));
      return 0;
    });
    await server.start();
    await entered.promise;
    await server.stop(AbortSignal.abort());
  });

  it('wakes from a long wait to stop', async () => {
    const idle = deferred();
    const server = loop(async () => {
      idle.resolve();
      return 0;
    }, 3_600_000);
    await server.start();
    await idle.promise;
    await server.stop(AbortSignal.timeout(60_000));
  });

  it('can be stopped without having been started', () => loop(async () => 0).stop(AbortSignal.timeout(1_000)));
});

function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve = () => {};
  const promise = new Promise<void>((r) => {
    resolve = r;
  });
  return { promise, resolve };
}
