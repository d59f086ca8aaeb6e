import assert from 'node:assert/strict';
import { eventually } from '../../test/support/wait.js';
import { type Supervised, Supervisor, type SupervisorOptions } from './supervisor.js';

describe('supervisor', () => {
  const controllers: AbortController[] = [];

  afterEach(() => {
    for (const controller of controllers.splice(0)) controller.abort();
  });

  class Unit implements Supervised {
    readonly name = 'unit';
    running = true;
    restarts = 0;
    /** What the next restarts do; the last one repeats. */
    results: (Error | undefined)[] = [undefined];

    isRunning(): boolean {
      return this.running;
    }
    describeExit(): string {
      return 'unit ended';
    }
    async restart(): Promise<void> {
      const result = this.results[Math.min(this.restarts++, this.results.length - 1)];
      if (result) throw result;
      this.running = true;
    }
  }

  function supervise(unit: Unit, options: Partial<SupervisorOptions> = {}) {
    const controller = new AbortController();
    controllers.push(controller);
    const reports: string[] = [];
    const supervisor = new Supervisor(unit, {
      firstDelayMs: 1,
      lastDelayMs: 4,
      stableMs: 60_000,
      pollMs: 1,
      report: (message) => reports.push(message),
      ...options,
    });
    const ended = supervisor.run(controller.signal);
    const stop = () => {
      controller.abort();
      return ended;
    };
    return { supervisor, reports, stop };
  }

  it('leaves a running unit alone, and ends when it is told to', async () => {
    const unit = new Unit();
    const { reports, stop } = supervise(unit);
    await new Promise((resolve) => setTimeout(resolve, 20));
    await stop();
    assert.deepEqual([unit.restarts, reports], [0, []]);
  });

  it('restarts a unit that ended, and doubles the delay up to its limit while the restarts fail', async () => {
    const unit = new Unit();
    unit.results = [1, 2, 3, 4].map((n): Error | undefined => new Error(`failure ${n}`)).concat(undefined);
    const { reports, stop } = supervise(unit);
    unit.running = false;
    await eventually('the fifth restart', () => unit.running);
    await stop();
    const attempts = ['unit ended', 'failure 1', 'failure 2', 'failure 3', 'failure 4'];
    const delays = ['0.001', '0.002', '0.004', '0.004', '0.004'];
    assert.deepEqual(
      reports.slice(0, 5),
      attempts.map((why, i) => `${why}\nRestarting unit in ${delays[i]} s.`),
    );
    assert.match(reports[5] ?? '', /^unit restarted in \d+\.\d s\.$/);
  });

  it('starts over with the shortest delay once the unit has been stable', async () => {
    const unit = new Unit();
    const { reports, stop } = supervise(unit, { stableMs: 0 });
    for (const restarts of [1, 2]) {
      unit.running = false;
      await eventually('the restart', () => unit.restarts === restarts && unit.running);
    }
    await stop();
    assert.deepEqual(
      reports.filter((report) => report.includes('Restarting')),
      ['unit ended\nRestarting unit in 0.001 s.', 'unit ended\nRestarting unit in 0.001 s.'],
    );
  });

  it('restarts at once on request, while the unit runs and while it waits for its next attempt', async () => {
    const unit = new Unit();
    const { supervisor, reports, stop } = supervise(unit, { firstDelayMs: 3_600_000, lastDelayMs: 3_600_000 });
    supervisor.restart('a file changed');
    await eventually('the first restart', () => unit.restarts === 1);
    unit.running = false;
    await eventually('the backoff', () => reports.length === 2);
    supervisor.restart('another file changed');
    await eventually('the second restart', () => unit.running);
    await stop();
    assert.match(reports[0] ?? '', /restarted in .* \(a file changed\)/);
    assert.match(reports[2] ?? '', /restarted in .* \(another file changed\)/);
  });
});
