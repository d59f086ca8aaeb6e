import assert from 'node:assert/strict';
import { isInvalidArgument } from '../../gen/common/v1/errors.js';
import type { CallContext } from '../kratos/transport/call-context.js';
import { userOf } from './caller.js';

describe('The user that a call acts for', () => {
  const calledBy = (userId: string | undefined) =>
    userOf({ identity: { role: 'USER', userId } } as unknown as CallContext);

  it('is the one that the identity names', () => {
    assert.equal(calledBy('00000000-0000-8000-8000-000000000001'), '00000000-0000-8000-8000-000000000001');
  });

  it('must be named', () => {
    assert.throws(
      () => calledBy(undefined),
      (err) => isInvalidArgument(err) && /x-user-id is required/.test(String(err)),
    );
  });
});
