import assert from 'node:assert/strict';
import { RedisLoginAttempts } from '../../internal/data/redis/login-attempts.js';
import { RedisServer } from '../../internal/data/redis/redis.js';
import type { RedisPlace } from '../../internal/data/redis/redis-connection.js';

const LIMIT = { maxAttempts: 2, windowMs: 60_000, maxAttemptsPerAddress: 4 };

/** @param place where Redis is, once the hooks of the enclosing suite have run */
export function loginAttemptsContract(name: string, place: () => RedisPlace): void {
  describe(`LoginAttempts ${name}`, () => {
    let redis: RedisServer;
    let attempts: RedisLoginAttempts;
    let addresses = 0;
    let address: string;

    before(async () => {
      redis = new RedisServer({ ...place(), readTimeoutMs: 1_000, connectTimeoutMs: 1_000, keyPrefix: 'x:' });
      attempts = new RedisLoginAttempts(redis, LIMIT);
      await redis.ready(5_000);
    });
    after(() => redis?.close());
    beforeEach(() => {
      address = `10.0.0.${++addresses}`;
    });

    const take = (username: string, from = address) => attempts.take(username, from);
    const keys = async () => (await Promise.all(redis.masters().map((master) => master.keys('x:*')))).flat();

    it('count one password that is tried on many names from one address', async () => {
      for (const username of ['a', 'b', 'c']) assert.equal(await take(username), undefined);
      // A right password gives its attempt back, and only that.
      assert.equal(await take('right'), undefined);
      await attempts.clear('right', address);
      assert.equal(await take('last'), undefined);
      const waitMs = await take('one more');
      assert.ok(waitMs !== undefined && waitMs > 0 && waitMs <= LIMIT.windowMs);
      assert.equal(await take('one more', `${address}1`), undefined);
    });

    it('count those of a name together with all that are made at the same time', async () => {
      const many = await Promise.all(Array.from({ length: 4 }, () => take('ann')));
      assert.equal(many.filter((wait) => wait === undefined).length, LIMIT.maxAttempts);
      assert.equal(await take('ann', `${address}1`), undefined);
    });

    it('forget those of a name after a right password', async () => {
      for (let i = 0; i < LIMIT.maxAttempts; i++) assert.equal(await take('ann'), undefined);
      await attempts.clear('ann', address);
      assert.equal(await take('ann'), undefined);
    });

    it('leave nothing that outlives its window, also where that has ended before an attempt is undone', async () => {
      await take('ann');
      for (const key of await keys()) await redis.commands.del(key);
      await attempts.uncount('ann', address);
      const left = await keys();
      // One of the name and one of the address, which lie on any two servers of a cluster.
      assert.equal(left.length, 2);
      for (const key of left) assert.ok((await redis.commands.pttl(key)) > 0, key);
    });
  });
}
