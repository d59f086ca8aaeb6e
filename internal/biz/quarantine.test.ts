import assert from 'node:assert/strict';
import { Quarantine } from './quarantine.js';

describe('Quarantine', () => {
  let nowMs = 0;
  const open = (capacity = 10) => new Quarantine<number>({ firstMs: 100, lastMs: 400, capacity }, () => nowMs);
  beforeEach(() => {
    nowMs = 0;
  });

  it('excludes a key for a time that doubles with each failure, up to a bound', () => {
    const quarantine = open();
    for (const ms of [100, 200, 400, 400]) {
      quarantine.exclude(7);
      nowMs += ms - 1;
      assert.deepEqual(quarantine.excluded, [7]);
      nowMs += 1;
      assert.deepEqual(quarantine.excluded, []);
    }
  });

  it('tells the first failure of a key from the following ones', () => {
    const quarantine = open();
    assert.deepEqual([quarantine.exclude(7), quarantine.exclude(7), quarantine.exclude(8)], [true, false, true]);
  });

  it('forgets the failures of a key that has not failed for a long time', () => {
    const quarantine = open();
    quarantine.exclude(7);
    nowMs += 500;
    assert.deepEqual(quarantine.excluded, []);
    assert.equal(quarantine.exclude(7), true);
  });

  it('holds no more keys than its capacity and drops the one that failed first', () => {
    const quarantine = open(2);
    for (const key of [1, 2, 1, 3]) quarantine.exclude(key);
    assert.deepEqual(quarantine.excluded, [1, 3]);
  });
});
