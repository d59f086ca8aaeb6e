import assert from 'node:assert/strict';
import { MicroBatcher } from './micro-batcher.js';

describe('MicroBatcher', () => {
  /** Calls that end when the test says so. */
  function setUp(maxBatch = 3, maxWaiting = 5) {
    const calls: { items: readonly number[]; end: (results: readonly string[]) => void; fail: (e: Error) => void }[] =
      [];
    const batcher = new MicroBatcher<number, string>({
      run: (items) => new Promise((resolve, reject) => calls.push({ items, end: resolve, fail: reject })),
      maxBatch,
      maxWaiting,
    });
    return { batcher, calls };
  }
  const answers = (items: readonly number[]) => items.map((i) => `r${i}`);

  it('runs the first item at once and gathers those that come meanwhile, in order', async () => {
    const { batcher, calls } = setUp();
    const results = [1, 2, 3].map((i) => batcher.submit(i));
    assert.deepEqual(
      calls.map((c) => c.items),
      [[1]],
    );
    calls[0]!.end(answers([1]));
    assert.equal(await results[0], 'r1');
    assert.deepEqual(calls[1]?.items, [2, 3]);
    calls[1]!.end(answers([2, 3]));
    assert.deepEqual(await Promise.all(results), ['r1', 'r2', 'r3']);
    assert.equal(batcher.idle, true);
  });

  it('splits what is more than a batch, and refuses what is more than may wait', async () => {
    const { batcher, calls } = setUp();
    const results = [1, 2, 3, 4, 5, 6].map((i) => batcher.submit(i));
    assert.equal(batcher.submit(7), undefined);
    calls[0]!.end(answers([1]));
    await results[0];
    calls[1]!.end(answers([2, 3, 4]));
    await results[3];
    assert.deepEqual(calls[2]?.items, [5, 6]);
    calls[2]!.end(answers([5, 6]));
    assert.deepEqual(await Promise.all(results), ['r1', 'r2', 'r3', 'r4', 'r5', 'r6']);
  });

  it('fails a call that failed and goes on with the next', async () => {
    const { batcher, calls } = setUp();
    const first = batcher.submit(1);
    const second = batcher.submit(2);
    calls[0]!.fail(new Error('gone'));
    await assert.rejects(first!, /gone/);
    calls[1]!.end(answers([2]));
    assert.equal(await second, 'r2');
  });

  it('leaves nobody waiting when a call answers too few', async () => {
    const { batcher, calls } = setUp();
    const first = batcher.submit(1);
    calls[0]!.end([]);
    await assert.rejects(first!, /1 items got 0 results/);
  });
});
