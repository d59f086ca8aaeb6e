import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { MicroBatcher } from './micro-batcher.js';

describe('MicroBatcher', () => {
  /** Calls that end when the test says so. */
  function setUp({ maxBatch = 3, maxRunning = 1, maxWaiting = 5 } = {}) {
    const calls: { items: readonly number[]; end: (results: readonly string[]) => void; fail: (e: Error) => void }[] =
      [];
    const batcher = new MicroBatcher<number, string>({
      run: (items) => new Promise((resolve, reject) => calls.push({ items, end: resolve, fail: reject })),
      maxBatch,
      maxRunning,
      maxWaiting,
    });
    const asked = () => calls.map((c) => c.items);
    return { batcher, calls, asked };
  }
  const answers = (items: readonly number[]) => items.map((i) => `r${i}`);

  it('runs what came in one turn of the event loop together, and gathers what comes meanwhile, in order', async () => {
    const { batcher, calls, asked } = setUp();
    const first = [1, 2].map((i) => batcher.submit(i));
    await turn();
    assert.deepEqual(asked(), [[1, 2]]);
    const second = [3, 4].map((i) => batcher.submit(i));
    await turn();
    assert.equal(calls.length, 1);
    calls[0]!.end(answers([1, 2]));
    assert.deepEqual(await Promise.all(first), ['r1', 'r2']);
    assert.deepEqual(asked(), [
      [1, 2],
      [3, 4],
    ]);
    calls[1]!.end(answers([3, 4]));
    assert.deepEqual(await Promise.all(second), ['r3', 'r4']);
    assert.equal(batcher.idle, true);
  });

  it('has no more calls under way than it may', async () => {
    const { batcher, calls, asked } = setUp({ maxRunning: 2 });
    const results = [];
    for (const i of [1, 2, 3, 4]) {
      results.push(batcher.submit(i));
      await turn();
    }
    assert.deepEqual(asked(), [[1], [2]]);
    // The second may end before the first.
    calls[1]!.end(answers([2]));
    assert.equal(await results[1], 'r2');
    assert.deepEqual(asked(), [[1], [2], [3, 4]]);
    calls[0]!.end(answers([1]));
    calls[2]!.end(answers([3, 4]));
    assert.deepEqual(await Promise.all(results), ['r1', 'r2', 'r3', 'r4']);
    assert.equal(batcher.idle, true);
  });

  it('splits what is more than a batch, and refuses what is more than may wait', async () => {
    const { batcher, calls, asked } = setUp();
    const results = [1, 2, 3, 4, 5].map((i) => batcher.submit(i));
    assert.equal(batcher.submit(6), undefined);
    await turn();
    calls[0]!.end(answers([1, 2, 3]));
    await results[0];
    assert.deepEqual(asked(), [
      [1, 2, 3],
      [4, 5],
    ]);
    calls[1]!.end(answers([4, 5]));
    assert.deepEqual(await Promise.all(results), ['r1', 'r2', 'r3', 'r4', 'r5']);
  });

  it('fails a call that failed and goes on with the next', async () => {
    const { batcher, calls } = setUp();
    const first = batcher.submit(1);
    await turn();
    const second = batcher.submit(2);
    calls[0]!.fail(new Error('gone'));
    await assert.rejects(first!, /gone/);
    await turn();
    calls[1]!.end(answers([2]));
    assert.equal(await second, 'r2');
  });

  it('leaves nobody waiting when a call answers too few', async () => {
    const { batcher, calls } = setUp();
    const first = batcher.submit(1);
    await turn();
    calls[0]!.end([]);
    await assert.rejects(first!, /1 items got 0 results/);
  });
});
