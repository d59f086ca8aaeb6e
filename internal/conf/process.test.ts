import assert from 'node:assert/strict';
import type { Config } from './config.js';
import { processSettings } from './process.js';

describe('The settings of a process', () => {
  const settings = (server: object, endpoint = '') =>
    processSettings(
      { server: { workers: 'auto', replica: '', ...server }, log: {}, trace: { endpoint } } as Config,
      'p',
    );

  it('name its replica only if the configuration does', () => {
    assert.equal(settings({ replica: 'b' }).replica, 'b');
    assert.equal(settings({}).replica, undefined);
  });

  it('have a number of workers, or leave it to the machine', () => {
    assert.equal(settings({ workers: '3' }).workers, 3);
    assert.equal(settings({}).workers, 'auto');
  });

  it('trace only to an endpoint', () => {
    assert.equal(settings({}).tracing, undefined);
    assert.deepEqual(settings({}, 'http://traces').tracing, { endpoint: 'http://traces', serviceName: 'kaimai.p' });
  });
});
