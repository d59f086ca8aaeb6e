import assert from 'node:assert/strict';
import fc from 'fast-check';
import { TokenBuckets } from './token-buckets.js';

describe('TokenBuckets', () => {
  let nowMs = 0;
  const buckets = (perSecond: number, burst: number, capacity = 100) =>
    new TokenBuckets({ perSecond, burst }, capacity, () => nowMs);
  beforeEach(() => {
    nowMs = 1_000_000;
  });

  it('allows a burst, then one token at a time, and returns the wait', () => {
    const b = buckets(10, 3);
    assert.deepEqual(
      [1, 2, 3, 4].map(() => b.take('a')),
      [0, 0, 0, 100],
    );
    nowMs += 60;
    assert.equal(b.take('a'), 40);
    nowMs += 40;
    assert.deepEqual([b.take('a'), b.take('a')], [0, 100]);
    nowMs += 3_600_000;
    assert.deepEqual(
      [1, 2, 3, 4].map(() => b.take('a')),
      [0, 0, 0, 100],
    );
  });

  it('never allows more than burst + rate × time, and always allows a call after the returned wait', () => {
    const pauses = fc.array(fc.nat(500), { minLength: 1, maxLength: 200 });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1_000 }), fc.integer({ min: 1, max: 50 }), pauses, (rate, burst, steps) => {
        nowMs = 0;
        const b = buckets(rate, burst);
        const given: number[] = [];
        for (const step of steps) {
          nowMs += step;
          const waitMs = b.take('a');
          if (waitMs === 0) given.push(nowMs);
          else {
            assert.ok(waitMs <= 1_000 / rate + 1e-6);
            nowMs += waitMs;
            assert.equal(b.take('a'), 0);
            given.push(nowMs);
          }
        }
        for (let from = 0; from < given.length; from++) {
          for (let to = from; to < given.length; to++) {
            const allowed = burst + ((given[to]! - given[from]!) * rate) / 1_000;
            assert.ok(to - from + 1 <= allowed + 1e-3);
          }
        }
      }),
    );
  });

  it('counts each key separately', () => {
    const b = buckets(1, 1);
    assert.deepEqual([b.take('a'), b.take('b'), b.take('a')], [0, 0, 1_000]);
  });

  it('keeps as many keys as it has slots, preferring the emptiest buckets', () => {
    const b = buckets(1, 10, 50);
    for (let i = 0; i < 10; i++) b.take('greedy');
    for (let i = 0; i < 10_000; i++) b.take(`once-${i}`);
    assert.equal(b.size, 50);
    assert.ok(b.take('greedy') > 0);
  });

  it('reuses the slots of full buckets first', () => {
    const b = buckets(1, 1, 4);
    for (const key of ['a', 'b', 'c']) b.take(key);
    nowMs += 1_000;
    b.take('d');
    b.take('c');
    for (const key of ['e', 'f']) assert.equal(b.take(key), 0);
    assert.deepEqual([b.size, b.take('c'), b.take('d')], [4, 1_000, 1_000]);
  });

  it('applies a changed rate immediately, also to empty buckets', () => {
    const b = buckets(0.01, 5);
    for (let i = 0; i < 5; i++) b.take('a');
    assert.equal(b.take('a'), 100_000);
    b.rate = { perSecond: 10, burst: 1 };
    assert.equal(b.take('a'), 100);
    b.rate = { perSecond: 0, burst: 1 };
    assert.deepEqual([b.take('a'), b.take('a'), b.enabled], [0, 0, false]);
  });
});
