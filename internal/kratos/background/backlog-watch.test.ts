import assert from 'node:assert/strict';
import { Registry } from 'prom-client';
import { SilentLogger } from '../log/logger.js';
import { BackgroundMetrics } from './background-metrics.js';
import { backlogWatch } from './backlog-watch.js';

describe('backlogWatch', () => {
  it('measures the other backlogs when one cannot be measured, and counts the failure', async () => {
    const registry = new Registry();
    let measured = () => {};
    const both = new Promise<void>((resolve) => {
      measured = resolve;
    });
    const watch = backlogWatch(
      [
        { server: 'relay', read: () => Promise.reject(new Error('away')) },
        {
          server: 'sweeper',
          read: async () => {
            measured();
            return { units: 3, oldestAgeMs: 2_000 };
          },
        },
      ],
      new BackgroundMetrics(registry, 'shop'),
      new SilentLogger(),
    );
    await watch.start();
    await both;
    await watch.stop(AbortSignal.timeout(5_000));
    const text = await registry.metrics();
    assert.match(text, /^shop_background_backlog\{server="sweeper"\} 3$/m);
    assert.ok(!text.includes('shop_background_backlog{server="relay"}'));
    assert.match(text, /^shop_background_errors_total\{server="backlog_watch"\} 1$/m);
  });
});
