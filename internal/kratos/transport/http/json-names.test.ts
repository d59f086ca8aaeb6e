import assert from 'node:assert/strict';
import { KratosError } from '../../errors/error.js';
import { libraryRegistry } from '../transcoder/testdata/library.js';
import { withJsonNames } from './json-names.js';

describe('JSON names in an error', () => {
  const request = libraryRegistry().getMessage('transcoder.test.v1.UpdateBookRequest');
  assert.ok(request);
  const spec = { reason: 'BAD', domain: 'test.v1', httpCode: 400, grpcCode: 3 };
  const named = (message: string, ...fields: string[]) =>
    withJsonNames(
      new KratosError(spec, message, {
        violations: fields.map((field) => ({ field, description: `${field} is unlike "update_mask"` })),
      }),
      request,
    );

  it('take the place of the proto names of the request, with one violation as with several', () => {
    const one = named('update_mask is bad', 'update_mask');
    assert.equal(one.message, 'updateMask is bad');
    assert.deepEqual(one.violations, [{ field: 'updateMask', description: 'updateMask is unlike "update_mask"' }]);
    const two = named('dry_run and other_name are bad', 'dry_run', 'other_name');
    assert.equal(two.message, 'dryRun and other_name are bad');
    assert.deepEqual(
      two.violations.map((v) => v.field),
      ['dryRun', 'other_name'],
    );
  });

  it('change nothing in an error without violations', () => {
    assert.equal(named('no update_mask').message, 'no update_mask');
  });
});
