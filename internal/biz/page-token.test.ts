import assert from 'node:assert/strict';
import fc from 'fast-check';
import { isInvalidArgument } from '../../gen/common/v1/errors.js';
import { decodePageToken, encodePageToken, tokenPage } from './page-token.js';

const LIST = { list: 'orders', status: 'PAID', userId: 7n };

describe('a page token', () => {
  it('keeps the id of the last item', () => {
    for (const id of [0n, 1n, -1n, 2n ** 63n - 1n, 382587041548410880n]) {
      assert.equal(decodePageToken(LIST, encodePageToken(LIST, id)), id);
    }
    assert.equal(decodePageToken(LIST, ''), undefined);
  });

  it('is refused in another list, naming the field', () => {
    const token = encodePageToken(LIST, 5n);
    for (const other of [{ ...LIST, status: 'PENDING' }, { ...LIST, userId: 8n }, { list: 'refunds' }]) {
      assert.throws(
        () => decodePageToken(other, token),
        (err) => isInvalidArgument(err) && err.violations[0]?.field === 'page_token',
      );
    }
  });

  it('is refused when it was changed, or is any other text', () => {
    const token = encodePageToken(LIST, 5n);
    fc.assert(
      fc.property(
        fc.oneof(fc.string(), fc.base64String(), fc.constantFrom(`${token} `, `${token}=`, `!${token}`)),
        (text) => {
          fc.pre(text !== '' && text !== token);
          assert.throws(() => decodePageToken(LIST, text), isInvalidArgument);
        },
      ),
    );
    const changed = `${token[0] === 'A' ? 'B' : 'A'}${token.slice(1)}`;
    assert.throws(() => decodePageToken(LIST, changed), isInvalidArgument);
  });

  it('is given while there is another page', () => {
    const found = [3n, 2n, 1n].map((id) => ({ id }));
    assert.deepEqual(tokenPage(LIST, 3, found), { items: found, nextPageToken: '' });
    const { items, nextPageToken } = tokenPage(LIST, 2, found);
    assert.deepEqual([items, decodePageToken(LIST, nextPageToken)], [found.slice(0, 2), 2n]);
    assert.deepEqual(tokenPage(LIST, 2, []), { items: [], nextPageToken: '' });
  });
});
