import assert from 'node:assert/strict';
import { unavailable } from '../../../gen/common/v1/errors.js';
import { MemoryReadPositions } from '../../../test/support/memory/read-positions.js';
import { UNKNOWN_POSITION } from '../../biz/read-positions.js';
import { SilentLogger } from '../../kratos/log/logger.js';
import { UserPositions } from './user-positions.js';

describe('UserPositions', () => {
  it('finds the later of what this process and what all know', async () => {
    const shared = new MemoryReadPositions(60_000);
    const users = new UserPositions(shared, 60_000, new SilentLogger());
    await Promise.all([users.raise(['a'], 7n), users.raise(['a'], 5n)]);
    assert.equal(await users.find('a'), 7n);
    await shared.raise(['a'], 9n);
    assert.equal(await users.find('a'), 9n);
    assert.equal(await users.find('b'), 0n);
  });

  it('forgets what every replica of PostgreSQL must have by now', async () => {
    const users = new UserPositions(new MemoryReadPositions(0), 0, new SilentLogger());
    await users.raise(['a'], UNKNOWN_POSITION);
    assert.equal(await users.find('a'), 0n);
  });

  it('remembers a bounded number of users by itself, those with the last writes', async () => {
    const shared = new MemoryReadPositions(0);
    const users = new UserPositions(shared, 60_000, new SilentLogger(), 2);
    await users.raise(['a', 'b'], 1n);
    await users.raise(['a'], 2n);
    await users.raise(['c'], 3n);
    const found = await Promise.all(['a', 'b', 'c'].map((user) => users.find(user)));
    assert.deepEqual(found, [2n, 0n, 3n]);
  });

  it('does not fail a write that cannot be told to others, and knows of no user what they know', async () => {
    const shared = new MemoryReadPositions(60_000);
    shared.raise = shared.find = async () => {
      throw unavailable('away');
    };
    const users = new UserPositions(shared, 60_000, new SilentLogger());
    await users.raise(['a'], 1n);
    assert.equal(await users.find('a'), UNKNOWN_POSITION);
  });
});
