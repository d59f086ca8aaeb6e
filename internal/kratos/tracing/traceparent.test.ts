import assert from 'node:assert/strict';
import { traceparentOf } from './traceparent.js';

const VALID = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';

describe('traceparentOf', () => {
  it('returns a W3C traceparent as it is', () => {
    assert.equal(traceparentOf(VALID), VALID);
  });

  it('returns undefined for anything else', () => {
    for (const text of ['', `${VALID} `, VALID.toUpperCase(), VALID.slice(1), undefined, 7]) {
      assert.equal(traceparentOf(text), undefined);
    }
  });
});
