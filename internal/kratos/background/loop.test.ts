import assert from 'node:assert/strict';
import { Registry } from 'prom-client';
import { type LogFields, Logger, SilentLogger } from '../log/logger.js';
import { BackgroundMetrics } from './background-metrics.js';
import { type JobOutcome, Loop, type WorkDone } from './loop.js';

function loop(round: (signal: AbortSignal) => Promise<number | WorkDone>, idleMs = 1): Loop {
  return new Loop({ name: 'test', round, idleMs, logger: new SilentLogger() });
}

describe('Loop', () => {
  it('continues after rounds that throw', async () => {
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

  it('counts units, failures and isolated units', async () => {
    const prom = new Registry();
    const reached = deferred();
    let rounds = 0;
    const server = loop(async () => {
      rounds += 1;
      if (rounds === 1) throw new Error('down');
      if (rounds === 3) reached.resolve();
      return rounds < 3 ? { units: 7, isolated: 2 } : 0;
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
    assert.match(text, /test_background_isolated_total\{server="test"\} 2/);
    assert.match(text, /test_background_batch_units_count\{server="test"\} 1/);
    assert.match(text, /test_background_oldest_age_seconds\{server="test"\} 1\.5/);
  });

  it('begins the next round at once if the round says so, also after it did nothing', async () => {
    const meter = new BackgroundMetrics(new Registry(), 'test').of('test');
    const reached = deferred();
    let rounds = 0;
    const server = loop(async () => {
      if (++rounds === 3) reached.resolve();
      return { units: 0, again: rounds < 3 };
    }, 3_600_000);
    server.observe(meter);
    await server.start();
    await reached.promise;
    await server.stop(AbortSignal.timeout(1_000));
    assert.equal(rounds, 3);
  });

  it('keeps to its interval if the round says so, although it did something', async () => {
    const prom = new Registry();
    let rounds = 0;
    const server = loop(async () => {
      rounds += 1;
      return { units: 4, again: false };
    }, 3_600_000);
    server.observe(new BackgroundMetrics(prom, 'test').of('test'));
    await server.start();
    await settled();
    await server.stop(AbortSignal.timeout(1_000));
    assert.equal(rounds, 1);
    assert.match(await prom.metrics(), /test_background_units_total\{server="test"\} 4/);
  });

  it('finishes the round in progress before it stops, and begins no other', async () => {
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

  it('aborts the round in progress at the deadline', async () => {
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

  it('stops during a long wait', async () => {
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

describe('Loop with jobs', () => {
  const HOUR_MS = 3_600_000;
  const done: JobOutcome = { kind: 'done', units: 1 };

  it('runs as many jobs side by side as it has lanes', async () => {
    const all = deferred();
    const release = deferred();
    let claimed = 0;
    let running = 0;
    const server = new Loop({
      name: 'test',
      lanes: 3,
      idleMs: HOUR_MS,
      logger: new SilentLogger(),
      claim: async () => ++claimed,
      run: async () => {
        if (++running === 3) all.resolve();
        await release.promise;
        return done;
      },
    });
    await server.start();
    await all.promise;
    await settled();
    assert.deepEqual([claimed, running], [3, 3]);
    const stopped = server.stop(AbortSignal.timeout(5_000));
    release.resolve();
    await stopped;
  });

  it('does not wake the other lanes for a job that suggests no more', async () => {
    const ran = deferred();
    const release = deferred();
    let claims = 0;
    let found = 0;
    const server = new Loop({
      name: 'test',
      lanes: 3,
      idleMs: HOUR_MS,
      logger: new SilentLogger(),
      // The lanes find nothing at the start, and one job when the first is woken.
      claim: async () => (++claims > 3 && found++ === 0 ? 'job' : undefined),
      suggestsMore: () => false,
      run: async () => {
        ran.resolve();
        await release.promise;
        return done;
      },
    });
    await server.start();
    await settled();
    assert.equal(claims, 3);
    server.wake();
    await ran.promise;
    await settled();
    assert.equal(claims, 6);
    const stopped = server.stop(AbortSignal.timeout(5_000));
    release.resolve();
    await stopped;
  });

  it('claims at once when it is woken while idle, but not while stalled', async () => {
    let claims = 0;
    let next: string | undefined;
    const server = new Loop({
      name: 'test',
      lanes: 1,
      idleMs: HOUR_MS,
      logger: new SilentLogger(),
      claim: async () => {
        claims++;
        return next;
      },
      run: async () => ({ kind: 'stalled', reason: 'away' }),
    });
    await server.start();
    await settled();
    assert.equal(claims, 1);
    next = 'job';
    server.wake();
    await settled();
    assert.equal(claims, 2);
    server.wake();
    await settled();
    assert.equal(claims, 2);
    await server.stop(AbortSignal.timeout(5_000));
  });

  it('logs the first of the jobs that stall and the first that is done again, and counts the failures', async () => {
    const prom = new Registry();
    const lines: string[] = [];
    const reached = deferred();
    const outcomes: JobOutcome[] = [
      { kind: 'stalled', reason: 'away' },
      { kind: 'stalled', reason: 'still away' },
      { kind: 'done', units: 5 },
      done,
    ];
    const server = new Loop({
      name: 'test',
      lanes: 1,
      idleMs: 1,
      logger: new ListLogger(lines),
      claim: async () => outcomes.shift(),
      run: async (outcome) => {
        if (outcomes.length === 0) reached.resolve();
        return outcome;
      },
    });
    server.observe(new BackgroundMetrics(prom, 'test').of('test'));
    await server.start();
    await reached.promise;
    await server.stop(AbortSignal.timeout(5_000));
    assert.deepEqual(lines, ['test: stalled away', 'test: resumed']);
    const text = await prom.metrics();
    assert.match(text, /test_background_units_total\{server="test"\} 6/);
    assert.match(text, /test_background_errors_total\{server="test"\} 2/);
  });
});

/** Keeps the messages of lines, with their reasons. */
class ListLogger extends Logger {
  override readonly debugs = false;
  constructor(private readonly lines: string[]) {
    super();
  }
  override debug(): void {}
  override info(message: string): void {
    this.lines.push(message);
  }
  override warn(message: string): void {
    this.lines.push(message);
  }
  override error(message: string, fields?: LogFields): void {
    this.lines.push(`${message} ${String(fields?.reason)}`);
  }
  override child(): Logger {
    return this;
  }
}

/** Long enough for every promise that is already resolved to have its effects. */
async function settled(): Promise<void> {
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
}

function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve = () => {};
  const promise = new Promise<void>((r) => {
    resolve = r;
  });
  return { promise, resolve };
}
