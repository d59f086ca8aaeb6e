import assert from 'node:assert/strict';
import { AuditCheck, AuditUsecase, INVARIANTS, type Look } from './audit.js';

/** Answers with one look after the other, then with the last one again. */
class Scripted extends AuditCheck {
  looks = 0;

  constructor(
    override readonly invariant: number,
    private readonly answers: readonly Look[],
  ) {
    super();
  }

  override async look(limit: number): Promise<Look> {
    const answer = this.answers[Math.min(this.looks++, this.answers.length - 1)]!;
    return { ...answer, offences: answer.offences.slice(0, limit) };
  }
}

const offence = (n: number) => ({ id: `order ${n}`, detail: `d${n}` });
const look = (...numbers: number[]): Look => ({ offences: numbers.map(offence) });

describe('audit', () => {
  const waits: number[] = [];
  const run = (checks: AuditCheck[], options: { only?: number[]; ageMs?: number; limit?: number } = {}) =>
    new AuditUsecase(checks, async (ms) => {
      waits.push(ms);
    }).run({ limit: 20, ...options });
  beforeEach(() => {
    waits.length = 0;
  });

  it('reports what breaks an invariant, by its number, and nothing of the others', async () => {
    const report = await run([new Scripted(1, [look(7)]), new Scripted(5, [look()]), new Scripted(1, [look(8)])]);
    assert.deepEqual(
      report.findings.map((f) => [f.invariant, f.rule, f.count, f.more, f.offences]),
      [[1, INVARIANTS.get(1), 2, false, [offence(7), offence(8)]]],
    );
    assert.deepEqual(report.checked, [...INVARIANTS.keys()]);
    assert.deepEqual(waits, []);
  });

  it('names so many and counts the rest, up to a bound', async () => {
    const many = Array.from({ length: 10_001 }, (_, i) => i);
    const [finding] = (await run([new Scripted(2, [look(...many)])], { limit: 3 })).findings;
    assert.deepEqual([finding?.count, finding?.more, finding?.offences.length], [10_000, true, 3]);
  });

  it('looks at those alone that it is asked for', async () => {
    const others = new Scripted(1, [look(1)]);
    const report = await run([others, new Scripted(2, [look(2)])], { only: [2] });
    assert.deepEqual([others.looks, report.checked, report.findings.map((f) => f.invariant)], [0, [2], [2]]);
  });

  describe('of a system at work', () => {
    it('lets go what is well a while later, and reports what is not', async () => {
      const report = await run([new Scripted(4, [look(1, 2), look(2, 3)])], { ageMs: 5_000 });
      assert.deepEqual(report.findings[0]?.offences, [offence(2)]);
      assert.deepEqual(waits, [5_000]);
    });

    it('does not wait when all is well', async () => {
      assert.deepEqual((await run([new Scripted(4, [look()])], { ageMs: 5_000 })).findings, []);
      assert.deepEqual(waits, []);
    });

    it('looks a second time only at what looked wrong', async () => {
      const well = new Scripted(1, [look()]);
      await run([well, new Scripted(4, [look(1)])], { ageMs: 1 });
      assert.equal(well.looks, 1);
    });

    it('says what it could not judge', async () => {
      const moving = { offences: [], unchecked: [offence(9)] };
      const always = await run([new Scripted(2, [moving])], { ageMs: 1 });
      assert.deepEqual(always.unchecked, [{ invariant: 2, ...offence(9) }]);
      assert.deepEqual((await run([new Scripted(2, [moving, look()])], { ageMs: 1 })).unchecked, []);
    });
  });
});
