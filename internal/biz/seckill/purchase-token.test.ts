import assert from 'node:assert/strict';
import fc from 'fast-check';
import { PurchaseTokens } from './purchase-token.js';

const SCOPE = { saleId: 7n, userId: '00000000-0000-8000-8000-00000000007b' };
const NOW = 1_700_000_000_000;

function tokens(...secrets: [string, ...string[]]) {
  return new PurchaseTokens({ secrets, ttlMs: 1_000 }, () => NOW);
}

describe('PurchaseTokens', () => {
  const own = tokens('secret-of-today');

  it('knows its own token and gives its id', () => {
    assert.deepEqual(own.check(SCOPE, own.issue(SCOPE, 'id-1', NOW + 1)), { kind: 'GOOD', id: 'id-1' });
  });

  it('takes none of another user, another sale or another shop', () => {
    const token = own.issue(SCOPE, 'id-1', NOW + 1_000);
    const others = [
      { ...SCOPE, saleId: 8n },
      { ...SCOPE, userId: '00000000-0000-8000-8000-00000000007c' },
    ];
    for (const scope of others) assert.equal(own.check(scope, token).kind, 'FOREIGN');
    assert.equal(tokens('secret-of-others').check(SCOPE, token).kind, 'FOREIGN');
  });

  it('takes none from its end on, and tells so only of its own', () => {
    const token = own.issue(SCOPE, 'id-1', NOW);
    assert.equal(own.check(SCOPE, token).kind, 'EXPIRED');
    assert.equal(own.check({ ...SCOPE, saleId: 8n }, token).kind, 'FOREIGN');
  });

  it('takes tokens of the secret before, and signs with the new one', () => {
    const rotated = tokens('secret-of-tomorrow', 'secret-of-today');
    assert.equal(rotated.check(SCOPE, own.issue(SCOPE, 'id-1', NOW + 1)).kind, 'GOOD');
    assert.equal(own.check(SCOPE, rotated.issue(SCOPE, 'id-1', NOW + 1)).kind, 'FOREIGN');
  });

  it('takes nothing that differs from a token by one character', () => {
    const token = own.issue(SCOPE, '1700000000000000-42', NOW + 1_000);
    fc.assert(
      fc.property(fc.nat(token.length - 1), fc.string({ minLength: 1, maxLength: 1 }), (at, c) => {
        fc.pre(token[at] !== c);
        // Of the last one two bits are filling: base64url has four ways to write it.
        fc.pre(at < token.length - 1);
        assert.equal(own.check(SCOPE, token.slice(0, at) + c + token.slice(at + 1)).kind, 'FOREIGN');
      }),
    );
  });

  it('takes nothing made up', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => own.check(SCOPE, text).kind === 'FOREIGN'));
    const [, expires, id, signature] = own.issue(SCOPE, 'id', NOW + 1).split('.');
    for (const text of [
      '',
      '1',
      `2.${expires}.${id}.${signature}`,
      `1.${expires}.${id}.`,
      `1.${expires}.${id}.${'A'.repeat(43)}`,
    ]) {
      assert.equal(own.check(SCOPE, text).kind, 'FOREIGN', text);
    }
  });
});
