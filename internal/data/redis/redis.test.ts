import assert from 'node:assert/strict';
import { isUnavailable } from '../../../gen/common/v1/errors.js';
import { asUnavailable } from './redis.js';

describe('Errors of Redis', () => {
  it('are UNAVAILABLE, with their cause, when Redis is away, can do nothing now, or holds something unreadable', () => {
    const cases: readonly [message: string, said: string][] = [
      ['connect ECONNREFUSED 127.0.0.1:6379', 'Redis does not answer'],
      ['Command timed out', 'Redis does not answer'],
      ["READONLY You can't write against a read only replica.", 'Redis does not answer'],
      ['WRONGTYPE Operation against a key', 'Redis holds something else than it should'],
    ];
    for (const [message, said] of cases) {
      const cause = new Error(message);
      const err = asUnavailable(cause);
      assert.ok(isUnavailable(err), message);
      assert.deepEqual([(err as Error).message, (err as Error).cause], [said, cause]);
    }
  });

  it('stay what they are when they come from a mistake in a command', () => {
    const err = new Error('ERR wrong number of arguments');
    assert.equal(asUnavailable(err), err);
    assert.equal(asUnavailable('text'), 'text');
  });
});
