import assert from 'node:assert/strict';
import type { Redis } from 'ioredis';
import { isSaleUnavailable } from '../../../gen/seckill/v1/errors.js';
import type { PurchaseRequest } from '../../biz/seckill/admission.js';
import { RedisAdmission } from './admission.js';
import type { RedisServer } from './redis.js';
import { KeySpace } from './seckill-keys.js';

const SALE = { itemId: 1n, epoch: 1n };
/** Arguments of evalsha before those of the script: the digest, the number of keys and the keys. */
const BEFORE_ARGS = 10;

describe('RedisAdmission', () => {
  /** A server whose script answers as `fail` says, and admits all where it says nothing. */
  function serverThat(fail: (users: readonly string[]) => Error | undefined) {
    const calls: (readonly string[])[] = [];
    const evalsha = async (...all: string[]): Promise<unknown> => {
      const [, ...args] = all.slice(BEFORE_ARGS);
      const users = args.filter((_, i) => i % 4 === 0);
      calls.push(users);
      const err = fail(users);
      if (err) throw err;
      return ['OK', 0, 100, ...users.map((user) => `QUEUED ${user}`)];
    };
    const server = {
      keys: new KeySpace(''),
      waitReplicas: 0,
      admission: { evalsha } as Partial<Redis> as Redis,
    } as unknown as RedisServer;
    return { admission: new RedisAdmission(server), calls };
  }
  const requests = (count: number): PurchaseRequest[] =>
    Array.from({ length: count }, (_, i) => ({ userId: `u${i}`, quantity: 1, requestId: '', traceparent: '' }));

  it('splits a call that fails as a whole until the request at fault fails alone', async () => {
    const cause = new Error('ERR something about one of them');
    const { admission, calls } = serverThat((users) => (users.includes('u77') ? cause : undefined));
    const results = await Promise.all(requests(128).map((r) => admission.admit(SALE, r)));
    assert.deepEqual(results[77], { kind: 'FAILED', cause });
    results.forEach((result, i) => {
      if (i !== 77) assert.deepEqual(result, { kind: 'QUEUED', streamId: `u${i}` });
    });
    // One call with all of them, and two for each halving.
    assert.equal(calls.length, 1 + 2 * 7);
  });

  it('splits no call that fails for the whole sale or because Redis is away', async () => {
    for (const message of ['WRONGTYPE Operation against a key', 'KAIMAI unreadable: meta', 'Connection is closed.']) {
      const { admission, calls } = serverThat(() => new Error(message));
      await assert.rejects(admission.admitAll(SALE, requests(10)), isSaleUnavailable, message);
      assert.equal(calls.length, 1, message);
    }
  });
});
