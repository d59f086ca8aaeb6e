import assert from 'node:assert/strict';
import { decodeKeepingReserved, decodeSegment } from './path-template.js';

describe('A path variable with several segments', () => {
  it('keeps an encoded slash unchanged, in upper or lower case', () => {
    assert.equal(decodeKeepingReserved('a%2Fb%2fc/%41', true), 'a%2Fb%2fc/A');
    assert.equal(decodeKeepingReserved('a%2Fb%2fc/%41', false), 'a%2Fb%2fc/A');
  });

  it('keeps other reserved characters only if it does not decode them', () => {
    assert.equal(decodeKeepingReserved('%3a%3A%20', false), '%3a%3A ');
    assert.equal(decodeKeepingReserved('%3a%3A%20', true), ':: ');
  });

  it('is undefined if it is not valid UTF-8, before or after a kept character', () => {
    for (const text of ['%ff', '%ff%2f', '%2f%ff', '%2f%']) assert.equal(decodeKeepingReserved(text, true), undefined);
  });
});

describe('A path variable with one segment', () => {
  it('is fully decoded', () => {
    assert.equal(decodeSegment('a%2fb%3A%20'), 'a/b: ');
    assert.equal(decodeSegment('%ff'), undefined);
  });
});
