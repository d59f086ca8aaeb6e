import assert from 'node:assert/strict';
import { SHORT_TIMES, Times } from './times.js';

describe('Times', () => {
  it('are counted in every bucket whose bound they do not exceed', () => {
    for (const bound of SHORT_TIMES) {
      const times = new Times();
      times.add(bound);
      for (const [le, count] of times.cumulative()) assert.equal(count, le === '+Inf' || le >= bound ? 1 : 0, `${le}`);
    }
  });

  it('have bounds in rising order, each at most 2.5 times the one before', () => {
    SHORT_TIMES.slice(1).forEach((bound, i) => {
      const ratio = bound / (SHORT_TIMES[i] as number);
      assert.ok(ratio > 1 && ratio < 2.51, `${SHORT_TIMES[i]} to ${bound}`);
    });
  });
});
