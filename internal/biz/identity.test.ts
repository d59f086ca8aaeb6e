import assert from 'node:assert/strict';
import fc from 'fast-check';
import { isInvalidArgument } from '../../gen/common/v1/errors.js';
import { formatUserId, parseMappedUserId } from './identity.js';

describe('formatUserId', () => {
  it('maps an int64 to its documented UUID', () => {
    assert.equal(formatUserId('123'), '00000000-0000-8000-8000-00000000007b');
  });

  it('maps every non-negative int64 reversibly to a valid UUIDv8', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 0x7fff_ffff_ffff_ffffn }), (n) => {
        const uuid = formatUserId(String(n));
        assert.match(uuid, /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
        assert.equal(parseMappedUserId(uuid), n);
      }),
    );
  });

  it('returns a UUID in lower case', () => {
    assert.equal(formatUserId('6F9619FF-8B86-D011-B42D-00CF4FC964FF'), '6f9619ff-8b86-d011-b42d-00cf4fc964ff');
  });

  for (const bad of [
    '',
    ' 1',
    '-1',
    '01',
    '1e3',
    '9223372036854775808',
    'abc',
    '6f9619ff8b86d011b42d00cf4fc964ff',
    '１',
  ]) {
    it(`rejects ${JSON.stringify(bad)} and names the field`, () => {
      assert.throws(
        () => formatUserId(bad, 'x-user-id'),
        (err) => isInvalidArgument(err) && err.violations[0]?.field === 'x-user-id',
      );
    });
  }
});
