import assert from 'node:assert/strict';
import fc from 'fast-check';
import { isInvalidArgument } from '../../../gen/common/v1/errors.js';
import { parseUsername, usernameKey } from './username.js';

describe('parseUsername', () => {
  it('gives the same key to names that differ only in case or Unicode form', () => {
    const same: readonly (readonly string[])[] = [
      ['Ann.Lee', 'ann.lee', 'ＡＮＮ．ＬＥＥ'],
      ['Zoë', 'Zoe\u0308', 'ZOË'],
      ['straße', 'STRASSE', 'STRAẞE'],
      ['ΟΔΟΣ', 'οδος', 'οδοσ'],
      ['开卖123', '开卖１２３'],
      ['a@b-c_d+e', 'A@B-C_D+E'],
    ];
    for (const names of same) {
      assert.equal(new Set(names.map((n) => parseUsername(n).key)).size, 1, names.join());
    }
    assert.notEqual(parseUsername('zoë').key, parseUsername('zoe').key);
    assert.deepEqual(parseUsername('Ｚoe\u0308'), { name: 'Zoë', key: 'zoë' });
  });

  it('rejects names with invisible, confusing or untypable characters', () => {
    const wrong = [
      '',
      'a',
      ' ann',
      'ann ',
      'ann lee',
      'an\u200bn',
      'ann\n',
      'an\0n',
      '.ann',
      '\u0308ann',
      'a/b',
      '😀😀',
    ];
    for (const name of [...wrong, 'a'.repeat(65), '\ufdfa'.repeat(4), '\ud800ann', '__proto__']) {
      assert.throws(
        () => parseUsername(name),
        (err) => isInvalidArgument(err) && err.violations[0]?.field === 'username',
        JSON.stringify(name),
      );
    }
    assert.equal(parseUsername('é'.repeat(64)).name.length, 64);
    assert.equal(parseUsername('constructor').key, 'constructor');
  });

  it('derives the same key from every spelling of a name', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const key = usernameKey(text);
        for (const way of [
          key,
          text.toLowerCase(),
          text.toUpperCase(),
          text.normalize('NFD'),
          text.normalize('NFKC'),
        ]) {
          assert.equal(usernameKey(way), key);
        }
      }),
      { numRuns: 500 },
    );
  });
});
