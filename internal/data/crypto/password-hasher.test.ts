import assert from 'node:assert/strict';
import { isPasswordHashingBusy } from '../../../gen/user/v1/errors.js';
import { md5Hash } from '../../biz/user/user-import.js';
import { Argon2PasswordHasher } from './password-hasher.js';

const MD5_OF_ABC = '900150983cd24fb0d6963f7d28e17f72';
const COSTS = { memoryKib: 64, iterations: 1, parallelism: 1, concurrency: 1, queue: 0 };
/** Enough that no worker has to wait for its turn. */
const CORES = 64;

describe('Argon2PasswordHasher', () => {
  const hasher = new Argon2PasswordHasher(COSTS, 1, CORES);

  it('salts every hash', async () => {
    const [a, b] = [await hasher.hash('secret'), await hasher.hash('secret')];
    assert.notEqual(a, b);
    for (const hash of [a, b]) {
      assert.deepEqual(await hasher.verify('secret', hash), { matches: true, newHash: undefined });
      assert.deepEqual(await hasher.verify('Secret', hash), { matches: false, newHash: undefined });
    }
  });

  it('verifies an md5 hash of the exact bytes and returns the hash that replaces it', async () => {
    const check = await hasher.verify('abc', md5Hash(MD5_OF_ABC.toUpperCase()));
    assert.equal(check.matches, true);
    assert.equal((await hasher.verify('abc', check.newHash)).matches, true);
    assert.deepEqual(await hasher.verify('abd', md5Hash(MD5_OF_ABC)), { matches: false, newHash: undefined });
    assert.equal((await hasher.verify('abc', '$md5$')).matches, false);
  });

  it('takes the same time for an unknown user, a wrong password and md5', async () => {
    const stored = await hasher.hash('secret');
    for (const hash of [undefined, stored, md5Hash(MD5_OF_ABC)]) {
      // There is one slot, so its owner is hashing when the next caller asks.
      const first = hasher.verify('wrong', hash);
      await assert.rejects(hasher.hash('x'), isPasswordHashingBusy);
      assert.equal((await first).matches, false);
    }
  });

  it('rejects hashes beyond the queue and continues', async () => {
    const bounded = new Argon2PasswordHasher({ ...COSTS, concurrency: 2, queue: 3 }, 1, CORES);
    const results = await Promise.allSettled(Array.from({ length: 9 }, () => bounded.hash('x')));
    const refused = results.flatMap((r) => (r.status === 'rejected' ? [r.reason as unknown] : []));
    assert.equal(refused.length, 4);
    assert.ok(refused.every((err) => isPasswordHashingBusy(err) && err.grpcCode === 8 && err.httpCode === 429));
    assert.match(await bounded.hash('x'), /^\$argon2id\$/);
  });

  it('hashes logins between registrations, and queues them separately', async () => {
    const bounded = new Argon2PasswordHasher({ ...COSTS, queue: 3 }, 1, CORES);
    const stored = await hasher.hash('y');
    const order: string[] = [];
    const registrations = Array.from({ length: 5 }, (_, i) =>
      bounded.hash('x', 'registration').then(
        () => order.push(`registration ${i}`),
        (err) => order.push(isPasswordHashingBusy(err) ? `registration ${i} refused` : String(err)),
      ),
    );
    const logins = [0, 1].map((i) => bounded.verify('y', stored).then(() => order.push(`login ${i}`)));
    await Promise.all([...registrations, ...logins]);
    assert.deepEqual(order, [
      'registration 4 refused',
      'registration 0',
      'login 0',
      'registration 1',
      'login 1',
      'registration 2',
      'registration 3',
    ]);
  });

  it('pauses between hashes if the workers would use more than half of the cores', async () => {
    const pausesOf = async (workers: number, cores: number) => {
      const pauses: number[] = [];
      const made = new Argon2PasswordHasher(COSTS, workers, cores, async (ms) => pauses.push(ms));
      for (const password of ['x', 'y', 'z']) await made.hash(password);
      return pauses;
    };
    assert.deepEqual(await pausesOf(1, 2), []);
    assert.deepEqual(await pausesOf(4, 8), []);
    const pauses = await pausesOf(1_000_000, 2);
    assert.equal(pauses.length, 2);
    assert.ok(pauses.every((ms) => ms > 0));
  });

  it('throws for an unreadable hash instead of reporting a wrong password', async () => {
    await assert.rejects(hasher.verify('x', '$argon2id$v=19$nonsense'));
    assert.match(await hasher.hash('x'), /^\$argon2id\$/);
  });
});
