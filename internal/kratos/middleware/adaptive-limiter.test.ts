import assert from 'node:assert/strict';
import { AdaptiveLimiter } from './adaptive-limiter.js';

/** A simulated machine that handles `width` calls at a time, each for 10 ms. */
class Machine {
  nowMs = 0;
  cpuPercent = 0;
  served = 0;
  late = 0;
  refused = 0;
  readonly limiter: AdaptiveLimiter | undefined;
  private readonly queue: { readonly arrivedMs: number; readonly leave: (() => void) | undefined }[] = [];

  constructor(
    readonly width: number,
    limited: boolean,
  ) {
    const options = { enabled: true, cpuPercent: 80, windowMs: 1_000, minInFlight: 2 };
    this.limiter = limited
      ? new AdaptiveLimiter(
          options,
          () => this.cpuPercent,
          () => this.nowMs,
        )
      : undefined;
  }

  /** Runs for `ms` with `arrivals` calls every 10 ms. A reply after more than 100 ms counts as late. */
  run(ms: number, arrivals: number): void {
    for (const end = this.nowMs + ms; this.nowMs < end; ) {
      for (let i = 0; i < arrivals; i++) {
        const leave = this.limiter?.enter();
        if (this.limiter && !leave) this.refused++;
        else this.queue.push({ arrivedMs: this.nowMs, leave });
      }
      const work = this.queue.splice(0, this.width);
      this.cpuPercent = (work.length / this.width) * 100;
      this.nowMs += 10;
      for (const { arrivedMs, leave } of work) {
        leave?.();
        if (this.nowMs - arrivedMs <= 100) this.served++;
        else this.late++;
      }
    }
  }
}

describe('AdaptiveLimiter', () => {
  it('admits every call while the load is below capacity', () => {
    const machine = new Machine(10, true);
    machine.run(5_000, 7);
    assert.equal(machine.refused, 0);
    assert.equal(machine.served, 500 * 7);
  });

  it('keeps goodput at three times the capacity, which nearly all is lost without it', () => {
    const capacity = 500 * 10;
    const without = new Machine(10, false);
    without.run(1_000, 7);
    without.served = 0;
    without.run(5_000, 30);
    const limited = new Machine(10, true);
    limited.run(1_000, 7);
    limited.served = 0;
    limited.run(5_000, 30);
    assert.ok(without.served < capacity * 0.1, `without a limiter ${without.served}`);
    assert.ok(limited.served > capacity * 0.9, `with it ${limited.served}`);
    assert.ok(limited.refused > capacity);
  });

  it('admits every call again after an overload', () => {
    const machine = new Machine(10, true);
    machine.run(2_000, 30);
    assert.ok(machine.refused > 0);
    machine.run(2_000, 5);
    machine.refused = 0;
    machine.run(1_000, 5);
    assert.equal(machine.refused, 0);
  });

  it('does not prolong the cool-off by refusals during it', () => {
    let nowMs = 5_000;
    let cpuPercent = 100;
    const limiter = new AdaptiveLimiter(
      { enabled: true, cpuPercent: 80, windowMs: 1_000, minInFlight: 1 },
      () => cpuPercent,
      () => nowMs,
    );
    assert.ok(limiter.enter());
    assert.equal(limiter.enter(), undefined);
    cpuPercent = 0;
    nowMs += 999;
    assert.equal(limiter.enter(), undefined);
    nowMs += 1;
    assert.ok(limiter.enter());
  });

  it('never goes below the minimum, and forgets a window that has passed', () => {
    let nowMs = 0;
    const limiter = new AdaptiveLimiter(
      { enabled: true, cpuPercent: 80, windowMs: 1_000, minInFlight: 3 },
      () => 100,
      () => nowMs,
    );
    const leaves = [limiter.enter(), limiter.enter(), limiter.enter()];
    assert.ok(leaves.every((l) => l !== undefined));
    assert.equal(limiter.enter(), undefined);
    nowMs += 500;
    for (const leave of leaves) leave?.();
    nowMs += 100;
    assert.ok(limiter.maxInFlight > 3);
    nowMs += 2_000;
    assert.equal(limiter.maxInFlight, 3);
    limiter.options = { enabled: true, cpuPercent: 80, windowMs: 1_000, minInFlight: 1 };
    assert.equal(limiter.maxInFlight, 1);
  });
});
