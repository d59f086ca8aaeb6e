import assert from 'node:assert/strict';
import type { InstanceRepo } from './instance.js';
import { InstanceResendUsecase } from './instance-resend.js';

describe('InstanceResendUsecase', () => {
  let nowMs: number;
  let ranges: [number, number][];
  /** Results of the next calls; 0 after them. */
  let results: number[];
  let failing: boolean;
  let resend: InstanceResendUsecase;
  beforeEach(() => {
    nowMs = 0;
    ranges = [];
    results = [];
    failing = false;
    const repo = {
      resendLost: async (minAgeMs: number, maxAgeMs: number) => {
        if (failing) throw new Error('the database is down');
        ranges.push([minAgeMs, maxAgeMs]);
        return results.shift() ?? 0;
      },
    } as unknown as InstanceRepo;
    resend = new InstanceResendUsecase(repo, { afterMs: 1_000 }, () => nowMs);
  });

  it('looks at all older requests in the first round of a process', async () => {
    await resend.resendLost();
    assert.deepEqual(ranges, [[1_000, 1_024_000]]);
  });

  it('looks at every request when it reaches 1, 2, 4, … times the age', async () => {
    await resend.resendLost();
    for (let round = 0; round < 5; round++) {
      ranges = [];
      nowMs += 30_000;
      await resend.resendLost();
      assert.deepEqual(
        ranges.map(([minAgeMs]) => minAgeMs),
        Array.from({ length: 11 }, (_, i) => 1_000 * 2 ** i),
      );
      // Each range is longer than the time between two rounds, so that no request is left out.
      for (const [minAgeMs, maxAgeMs] of ranges) assert.ok(maxAgeMs - minAgeMs > 30_000);
    }
  });

  it('covers the time since the last round that succeeded', async () => {
    await resend.resendLost();
    nowMs += 30_000;
    failing = true;
    await assert.rejects(resend.resendLost(), /the database is down/);
    failing = false;
    ranges = [];
    nowMs += 30_000;
    await resend.resendLost();
    for (const [minAgeMs, maxAgeMs] of ranges) assert.ok(maxAgeMs - minAgeMs > 60_000);
  });

  it('continues with a range until it is exhausted, and counts what it sent', async () => {
    results = [1_000, 1_000, 7];
    assert.equal(await resend.resendLost(), 2_007);
    assert.equal(ranges.length, 3);
  });
});
