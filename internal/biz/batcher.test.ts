import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { isUnavailable } from '../../gen/common/v1/errors.js';
import { Batcher } from './batcher.js';

describe('Batcher', () => {
  /** Calls that end when the test says so. */
  function setUp({
    maxBatch = 3,
    maxConcurrent = 1,
    maxQueued = 5,
    failsWaiting = (_: unknown): boolean => false,
  } = {}) {
    const calls: { items: readonly number[]; end: (results: readonly string[]) => void; fail: (e: Error) => void }[] =
      [];
    const batcher = new Batcher<number, string>({
      name: 'numbers',
      run: (items) => new Promise((resolve, reject) => calls.push({ items, end: resolve, fail: reject })),
      maxBatch,
      maxConcurrent,
      maxQueued,
      failsWaiting,
    });
    const items = () => calls.map((c) => c.items);
    return { batcher, calls, items };
  }
  const results = (items: readonly number[]) => items.map((i) => `r${i}`);

  it('runs the items of one turn of the event loop together and gathers later ones for the next call, in order', async () => {
    const { batcher, calls, items } = setUp();
    const first = [1, 2].map((i) => batcher.add(i));
    await turn();
    assert.deepEqual(items(), [[1, 2]]);
    const second = [3, 4].map((i) => batcher.add(i));
    await turn();
    assert.equal(calls.length, 1);
    calls[0]!.end(results([1, 2]));
    assert.deepEqual(await Promise.all(first), ['r1', 'r2']);
    assert.deepEqual(items(), [
      [1, 2],
      [3, 4],
    ]);
    calls[1]!.end(results([3, 4]));
    assert.deepEqual(await Promise.all(second), ['r3', 'r4']);
    assert.equal(batcher.idle, true);
  });

  it('has no more calls under way than it may', async () => {
    const { batcher, calls, items } = setUp({ maxConcurrent: 2 });
    const added = [];
    for (const i of [1, 2, 3, 4]) {
      added.push(batcher.add(i));
      await turn();
    }
    assert.deepEqual(items(), [[1], [2]]);
    // The second may end before the first.
    calls[1]!.end(results([2]));
    assert.equal(await added[1], 'r2');
    assert.deepEqual(items(), [[1], [2], [3, 4]]);
    calls[0]!.end(results([1]));
    calls[2]!.end(results([3, 4]));
    assert.deepEqual(await Promise.all(added), ['r1', 'r2', 'r3', 'r4']);
    assert.equal(batcher.idle, true);
  });

  it('starts as many calls as it may when one turn of the event loop brings more than a batch', async () => {
    const { batcher, calls, items } = setUp({ maxBatch: 2, maxConcurrent: 2 });
    const added = [1, 2, 3, 4, 5].map((i) => batcher.add(i));
    await turn();
    assert.deepEqual(items(), [
      [1, 2],
      [3, 4],
    ]);
    calls[1]!.end(results([3, 4]));
    await turn();
    assert.deepEqual(items()[2], [5]);
    calls[0]!.end(results([1, 2]));
    calls[2]!.end(results([5]));
    assert.deepEqual(await Promise.all(added), ['r1', 'r2', 'r3', 'r4', 'r5']);
  });

  it('splits what exceeds a batch and refuses what exceeds the queue', async () => {
    const { batcher, calls, items } = setUp();
    const added = [1, 2, 3, 4, 5].map((i) => batcher.add(i));
    assert.equal(batcher.tryAdd(6), undefined);
    await assert.rejects(batcher.add(6), (err) => {
      assert.ok(isUnavailable(err));
      assert.match(err.message, /more than 5 numbers wait already/);
      return true;
    });
    await turn();
    calls[0]!.end(results([1, 2, 3]));
    await added[0];
    assert.deepEqual(items(), [
      [1, 2, 3],
      [4, 5],
    ]);
    calls[1]!.end(results([4, 5]));
    assert.deepEqual(await Promise.all(added), ['r1', 'r2', 'r3', 'r4', 'r5']);
  });

  it('fails the items of a call that failed, and no others', async () => {
    const { batcher, calls } = setUp();
    const first = batcher.add(1);
    await turn();
    const second = batcher.add(2);
    calls[0]!.fail(new Error('planted'));
    await assert.rejects(first, /planted/);
    await turn();
    calls[1]!.end(results([2]));
    assert.equal(await second, 'r2');
  });

  it('fails the items that wait behind a call too if it failed in such a way, and runs later ones', async () => {
    const failsWaiting = (err: unknown) => (err as Error).message === 'away';
    const { batcher, calls, items } = setUp({ maxBatch: 1, failsWaiting });
    const added = [1, 2, 3, 4].map((i) => batcher.add(i));
    await turn();
    calls[0]!.fail(new Error('planted'));
    await assert.rejects(added[0]!, /planted/);
    calls[1]!.fail(new Error('away'));
    for (const failed of added.slice(1)) await assert.rejects(failed, /away/);
    assert.equal(batcher.idle, true);
    const later = batcher.add(5);
    await turn();
    assert.deepEqual(items(), [[1], [2], [5]]);
    calls[2]!.end(results([5]));
    assert.equal(await later, 'r5');
  });

  it('fails the items of a call that throws before it returns a promise', async () => {
    const broken = () => {
      throw new Error('planted');
    };
    const batcher = new Batcher<number, string>({
      ...{ name: 'numbers', run: broken, maxBatch: 1, maxConcurrent: 1, maxQueued: 1 },
    });
    await assert.rejects(batcher.add(1), /planted/);
    assert.equal(batcher.idle, true);
  });

  it('fails every item of a call that returns too few results', async () => {
    const { batcher, calls } = setUp();
    const added = [batcher.add(1), batcher.add(2)];
    await turn();
    calls[0]!.end(['r1']);
    for (const result of added) await assert.rejects(result, /a call for 2 numbers returned 1 results/);
  });
});
