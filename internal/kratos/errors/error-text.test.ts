import assert from 'node:assert/strict';
import { errorText } from './error-text.js';

describe('errorText', () => {
  it('returns the message of an error, or its name if it has none', () => {
    assert.equal(errorText(new Error('the disk is full')), 'the disk is full');
    assert.equal(errorText(new AggregateError([])), 'AggregateError');
  });

  it('returns the text of a value that is not an error', () => {
    assert.equal(errorText('stop'), 'stop');
    assert.equal(errorText(undefined), 'undefined');
  });
});
