import assert from 'node:assert/strict';
import { AuditCheck, AuditUsecase, type CheckResult, INVARIANTS } from './audit.js';

/** Returns one result after the other, and the last one from then on. */
class Scripted extends AuditCheck {
  calls = 0;

  constructor(
    override readonly invariant: number,
    private readonly results: readonly CheckResult[],
  ) {
    super();
  }

  override async check(limit: number): Promise<CheckResult> {
    const result = this.results[Math.min(this.calls++, this.results.length - 1)]!;
    return { ...result, violations: result.violations.slice(0, limit) };
  }
}

const violation = (n: number) => ({ id: `order ${n}`, detail: `d${n}` });
const found = (...numbers: number[]): CheckResult => ({ violations: numbers.map(violation) });

describe('AuditUsecase', () => {
  const waits: number[] = [];
  const run = (checks: AuditCheck[], options: { only?: number[]; ageMs?: number; limit?: number } = {}) =>
    new AuditUsecase(checks, async (ms) => {
      waits.push(ms);
    }).run({ limit: 20, ...options });
  beforeEach(() => {
    waits.length = 0;
  });

  it('reports the violations by the number of their invariant', async () => {
    const report = await run([new Scripted(1, [found(7)]), new Scripted(5, [found()]), new Scripted(1, [found(8)])]);
    assert.deepEqual(
      report.findings.map((f) => [f.invariant, f.rule, f.count, f.more, f.violations]),
      [[1, INVARIANTS.get(1), 2, false, [violation(7), violation(8)]]],
    );
    assert.deepEqual(report.checked, [...INVARIANTS.keys()]);
    assert.deepEqual(waits, []);
  });

  it('lists violations up to the limit and counts the rest up to a bound', async () => {
    const many = Array.from({ length: 10_001 }, (_, i) => i);
    const [finding] = (await run([new Scripted(2, [found(...many)])], { limit: 3 })).findings;
    assert.deepEqual([finding?.count, finding?.more, finding?.violations.length], [10_000, true, 3]);
  });

  it('runs only the checks of the selected invariants', async () => {
    const others = new Scripted(1, [found(1)]);
    const report = await run([others, new Scripted(2, [found(2)])], { only: [2] });
    assert.deepEqual([others.calls, report.checked, report.findings.map((f) => f.invariant)], [0, [2], [2]]);
  });

  describe('on a running system', () => {
    it('reports only violations that the second check finds again', async () => {
      const report = await run([new Scripted(4, [found(1, 2), found(2, 3)])], { ageMs: 5_000 });
      assert.deepEqual(report.findings[0]?.violations, [violation(2)]);
      assert.deepEqual(waits, [5_000]);
    });

    it('does not wait when the first check finds nothing', async () => {
      assert.deepEqual((await run([new Scripted(4, [found()])], { ageMs: 5_000 })).findings, []);
      assert.deepEqual(waits, []);
    });

    it('repeats only the checks that found a violation', async () => {
      const healthy = new Scripted(1, [found()]);
      await run([healthy, new Scripted(4, [found(1)])], { ageMs: 1 });
      assert.equal(healthy.calls, 1);
    });

    it('reports what it could not check', async () => {
      const moving = { violations: [], unchecked: [violation(9)] };
      const always = await run([new Scripted(2, [moving])], { ageMs: 1 });
      assert.deepEqual(always.unchecked, [{ invariant: 2, ...violation(9) }]);
      assert.deepEqual((await run([new Scripted(2, [moving, found()])], { ageMs: 1 })).unchecked, []);
    });
  });
});
