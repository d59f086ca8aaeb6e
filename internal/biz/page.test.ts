import assert from 'node:assert/strict';
import { MAX_PAGE, pageOf } from './page.js';

describe('pageOf', () => {
  it('keeps a page within the bounds', () => {
    assert.deepEqual(pageOf({ offset: 0, limit: 1 }), { offset: 0, limit: 1 });
    assert.deepEqual(pageOf({ offset: 40, limit: MAX_PAGE }), { offset: 40, limit: 100 });
  });

  it('replaces a missing or negative limit by 20 and caps it at 100', () => {
    for (const limit of [0, -1]) assert.deepEqual(pageOf({ offset: 0, limit }), { offset: 0, limit: 20 });
    assert.deepEqual(pageOf({ offset: 0, limit: 101 }), { offset: 0, limit: 100 });
  });

  it('replaces a negative offset by 0', () => {
    assert.deepEqual(pageOf({ offset: -1, limit: 5 }), { offset: 0, limit: 5 });
  });
});
