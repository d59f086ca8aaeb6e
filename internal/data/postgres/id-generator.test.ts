import assert from 'node:assert/strict';
import { isUnavailable } from '../../../gen/common/v1/errors.js';
import { useServers } from '../../../test/support/servers.js';
import { AdvisoryLocks } from './advisory-locks.js';
import { LeasedIdGenerator, Snowflake, snowflakeTime } from './id-generator.js';

describe('Snowflake', () => {
  it('generates increasing ids, also in a burst and when the clock is set back', () => {
    let now = Date.UTC(2026, 0, 1);
    const ids = new Snowflake(7, () => now);
    let last = 0n;
    for (let i = 0; i < 20_000; i++) {
      if (i === 9_000) now -= 3_000;
      const id = ids.next();
      assert.ok(id > last);
      last = id;
    }
    assert.equal((last >> 12n) & 1023n, 7n);
  });

  it('refuses when the clock was set back too far', () => {
    let now = Date.UTC(2026, 0, 1);
    const ids = new Snowflake(7, () => now);
    ids.next();
    now -= 10_000;
    assert.throws(() => ids.next(), isUnavailable);
  });

  it('contains the time at which it was generated', () => {
    const now = Date.UTC(2026, 5, 5, 5, 5, 5, 555);
    assert.equal(snowflakeTime(new Snowflake(0, () => now).next()).getTime(), now);
  });
});

describe('LeasedIdGenerator', () => {
  const servers = useServers('postgres');

  it('gives two processes different worker numbers', async () => {
    const processes = Array.from({ length: 8 }, () => new AdvisoryLocks(servers.postgresUrl, 5_000));
    try {
      const generators = processes.map((locks) => new LeasedIdGenerator(locks));
      await Promise.all(generators.map((g) => g.open()));
      const workers = generators.map((g) => (g.nextId() >> 12n) & 1023n);
      assert.equal(new Set(workers).size, generators.length);
    } finally {
      await Promise.all(processes.map((p) => p.close()));
    }
  });

  it('generates no id before it has a worker number, nor after it was closed', async () => {
    const locks = new AdvisoryLocks(servers.postgresUrl, 5_000);
    const generator = new LeasedIdGenerator(locks);
    assert.throws(() => generator.nextId(), isUnavailable);
    await generator.open();
    generator.nextId();
    await locks.close();
    assert.throws(() => generator.nextId(), isUnavailable);
  });
});
