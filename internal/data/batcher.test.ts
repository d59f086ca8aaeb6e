import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { Batcher } from './batcher.js';

describe('Batcher', () => {
  /** Flushes when told to. */
  function open(options: { maxItems: number; lanes: number }) {
    const flushes: { items: readonly number[]; finish: () => void; fail: (err: Error) => void }[] = [];
    const batcher = new Batcher<number, number>(
      (items) =>
        new Promise((resolve, reject) => {
          flushes.push({ items, finish: () => resolve(items.map((i) => i * 10)), fail: reject });
        }),
      options,
    );
    return { batcher, flushes };
  }

  it('takes calls of one turn together, and those that come meanwhile in the next flush', async () => {
    const { batcher, flushes } = open({ maxItems: 10, lanes: 1 });
    const first = [batcher.add(1), batcher.add(2)];
    await turn();
    const second = [batcher.add(3), batcher.add(4)];
    await turn();
    assert.deepEqual(
      flushes.map((f) => f.items),
      [[1, 2]],
    );
    flushes[0]!.finish();
    assert.deepEqual(await Promise.all(first), [10, 20]);
    await turn();
    assert.deepEqual(flushes[1]!.items, [3, 4]);
    flushes[1]!.finish();
    assert.deepEqual(await Promise.all(second), [30, 40]);
  });

  it('keeps to its largest batch and its lanes', async () => {
    const { batcher, flushes } = open({ maxItems: 2, lanes: 2 });
    const all = [1, 2, 3, 4, 5].map((i) => batcher.add(i));
    await turn();
    assert.deepEqual(
      flushes.map((f) => f.items),
      [
        [1, 2],
        [3, 4],
      ],
    );
    flushes[1]!.finish();
    await turn();
    assert.deepEqual(flushes[2]!.items, [5]);
    flushes[0]!.finish();
    flushes[2]!.finish();
    assert.deepEqual(await Promise.all(all), [10, 20, 30, 40, 50]);
  });

  it('fails the calls of a flush that failed, and no others', async () => {
    const { batcher, flushes } = open({ maxItems: 1, lanes: 1 });
    const bad = assert.rejects(batcher.add(1), /away/);
    const good = batcher.add(2);
    await turn();
    flushes[0]!.fail(new Error('away'));
    await bad;
    await turn();
    flushes[1]!.finish();
    assert.equal(await good, 20);
  });
});
