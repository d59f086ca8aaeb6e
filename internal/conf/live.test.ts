import assert from 'node:assert/strict';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ConfigError } from '../kratos/config/config-error.js';
import { LiveConfig } from './live.js';

const BASE = {
  data: { database: { source: 'postgres://x' }, redis: { addr: 'x' }, rabbitmq: { url: 'amqp://x' } },
};

describe('LiveConfig', () => {
  let dir: string;
  let file: string;
  const write = (settings: object) => writeFileSync(file, JSON.stringify({ ...BASE, ...settings }));

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'kaimai-live-'));
    file = join(dir, 'a.yaml');
    write({});
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  it('applies live settings and reports those that wait for a restart', () => {
    const live = new LiveConfig(dir);
    const told: number[] = [];
    live.onChange((c) => told.push(c.seckill.backlogLimit));
    assert.equal(live.refresh(), undefined);
    write({
      log: { level: 'debug' },
      seckill: { backlog_limit: 7 },
      server: { workers: 3, rate_limit: { cpu_percent: 50 } },
    });
    assert.deepEqual(live.refresh(), {
      applied: ['server.rateLimit.cpuPercent', 'log.level', 'seckill.backlogLimit'],
      waiting: ['server.workers'],
    });
    assert.deepEqual(told, [7]);
    assert.equal(live.current.log.level, 'debug');
    assert.equal(live.current.server.rateLimit.cpuPercent, 50);
    assert.equal(live.current.server.workers, '1');
    assert.throws(() => Object.assign(live.current.log, { level: 'x' }), TypeError);
    assert.equal(live.refresh(), undefined);
  });

  it('keeps the settings in force while the files are invalid, and throws once', () => {
    const live = new LiveConfig(file);
    write({ log: { level: 'loud' } });
    assert.throws(() => live.refresh(), ConfigError);
    assert.equal(live.refresh(), undefined);
    assert.equal(live.current.log.level, 'info');
    renameSync(file, `${file}.old`);
    assert.equal(live.refresh(), undefined);
    write({ log: { level: 'warn' } });
    assert.deepEqual(live.refresh()?.applied, ['log.level']);
  });
});
