import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { isInvalidArgument } from '../../../gen/common/v1/errors.js';
import {
  isInvalidCredentials,
  isPasswordHashingBusy,
  isSigningKeyMissing,
  isTooManyAttempts,
  isUserNotFound,
  isUsernameTaken,
  isUserVersionConflict,
  passwordHashingBusy,
  signingKeyMissing,
} from '../../../gen/user/v1/errors.js';
import { MemoryStore } from '../../../test/support/memory/store.js';
import { MemoryUserRepo } from '../../../test/support/memory/user.js';
import { Argon2PasswordHasher } from '../../data/crypto/password-hasher.js';
import {
  type HashPurpose,
  LoginAttempts,
  type PasswordCheck,
  type Registration,
  TokenSigner,
  UserUsecase,
} from './user.js';
import { importUsers } from './user-import.js';

const CHEAP = { memoryKib: 64, iterations: 1, parallelism: 1, concurrency: 2, queue: 100 };
const MAX_ATTEMPTS = 3;

class CountedAttempts extends LoginAttempts {
  readonly counts = new Map<string, number>();
  override async take(key: string, address: string) {
    const n = this.add(key, address, 1);
    return n > MAX_ATTEMPTS ? 5_000 : undefined;
  }
  override async uncount(key: string, address: string) {
    this.add(key, address, -1);
  }
  override async clear(key: string, address: string) {
    this.counts.delete(`${key} ${address}`);
  }
  private add(key: string, address: string, n: number): number {
    const next = (this.counts.get(`${key} ${address}`) ?? 0) + n;
    this.counts.set(`${key} ${address}`, next);
    return next;
  }
}

class Signer extends TokenSigner {
  missing = false;
  override requireKey() {
    if (this.missing) throw signingKeyMissing('no key');
  }
  override async sign(userId: string, generation: bigint) {
    return { text: `token ${generation} of ${userId}`, expiresAt: new Date(0) };
  }
}

class Hasher extends Argon2PasswordHasher {
  busy = false;
  made = 0;
  /** Called after the check of a password, before its result is used. */
  between: (() => Promise<unknown>) | undefined;

  override async verify(password: string, stored: string | undefined): Promise<PasswordCheck> {
    const check = await super.verify(password, stored);
    await this.between?.();
    return check;
  }
  override hash(password: string, purpose?: HashPurpose): Promise<string> {
    if (this.busy) throw passwordHashingBusy('busy');
    this.made++;
    return super.hash(password, purpose);
  }
}

describe('UserUsecase', () => {
  let repo: MemoryUserRepo;
  let hasher: Hasher;
  let signer: Signer;
  let attempts: CountedAttempts;
  let users: UserUsecase;

  beforeEach(() => {
    repo = new MemoryUserRepo(new MemoryStore());
    hasher = new Hasher(CHEAP, 1, 64);
    signer = new Signer();
    attempts = new CountedAttempts();
    users = new UserUsecase(repo, hasher, signer, attempts);
  });

  const register = (username: string, changes: Partial<Registration> = {}) =>
    users.register({ username, password: 'correct horse', firstName: '', lastName: '', ...changes });
  const login = (username: string, password: string, address = '10.0.0.1') =>
    users.login(username, { password, address });
  const md5 = (password: string) => createHash('md5').update(password).digest('hex');

  async function importMd5(username: string, password: string): Promise<string> {
    const userId = randomUUID();
    const row = { userId, username, passwordMd5: md5(password), firstName: '', lastName: '', createdAt: undefined };
    assert.deepEqual(await importUsers(repo, [row]), [undefined]);
    return userId;
  }

  describe('register', () => {
    it('stores an argon2id hash instead of the password, and rejects other forms of a taken name', async () => {
      const user = await register('Ann', { firstName: 'Ann', lastName: '李' });
      assert.match(user.passwordHash, /^\$argon2id\$v=19\$m=64,t=1,p=1\$/);
      assert.deepEqual([user.username, user.firstName, user.lastName, user.version], ['Ann', 'Ann', '李', 1n]);
      await assert.rejects(
        register('ＡＮＮ'),
        (err) => isUsernameTaken(err) && err.grpcCode === 6 && err.httpCode === 409,
      );
      assert.equal(hasher.made, 1);
    });

    it('gives a name to one of many concurrent registrations', async () => {
      const results = await Promise.allSettled(Array.from({ length: 8 }, (_, i) => register(i % 2 ? 'bob' : 'BOB')));
      const lost = results.flatMap((r) => (r.status === 'rejected' ? [r.reason as unknown] : []));
      assert.equal(lost.length, 7);
      assert.ok(lost.every(isUsernameTaken));
    });

    it('names the invalid field', async () => {
      const wrong: readonly (readonly [string, Partial<Registration>])[] = [
        ['username', { username: 'no spaces' }],
        ['first_name', { firstName: 'a\nb' }],
        ['last_name', { lastName: 'x'.repeat(65) }],
      ];
      for (const [field, changes] of wrong) {
        await assert.rejects(
          register('carl', changes),
          (err) => isInvalidArgument(err) && err.violations[0]?.field === field,
          field,
        );
      }
    });
  });

  describe('login', () => {
    it('returns the token and the id for any form of the name', async () => {
      const { id } = await register('Ann');
      for (const name of ['Ann', 'ann', 'ＡNN']) {
        const session = await login(name, 'correct horse');
        assert.deepEqual([session.userId, session.token?.text], [id, `token 1 of ${id}`]);
      }
      const accent = await register('zoe', { password: 'caf\u00e9 caf\u00e9' });
      assert.equal((await login('zoe', 'cafe\u0301 cafe\u0301')).userId, accent.id);
    });

    it('does not reveal whether the name or the password is wrong', async () => {
      await register('ann');
      const failures = await Promise.all(
        ['ann', 'unknown', 'not a name', ''].map((name) => login(name, 'wrong').catch((err: unknown) => err)),
      );
      const [first] = failures;
      for (const err of failures) {
        assert.ok(isInvalidCredentials(err) && isInvalidCredentials(first));
        assert.deepEqual([err.message, err.metadata], [first.message, first.metadata]);
      }
      await importMd5('old', 'correct horse');
      await assert.rejects(login('old', 'wrong'), isInvalidCredentials);
    });

    it('fails before hashing if it cannot issue a token', async () => {
      await register('ann');
      const before = hasher.made;
      signer.missing = true;
      await assert.rejects(login('ann', 'correct horse'), isSigningKeyMissing);
      assert.deepEqual([hasher.made, attempts.counts.size], [before, 0]);
    });

    it('counts attempts by name and address, also for unknown names', async () => {
      await register('ann');
      for (const name of ['ann', 'unknown']) {
        for (let i = 0; i < MAX_ATTEMPTS; i++)
          await assert.rejects(login(i % 2 ? name : name.toUpperCase(), 'wrong'), isInvalidCredentials);
        await assert.rejects(
          login(name, 'correct horse'),
          (err) => isTooManyAttempts(err) && err.grpcCode === 8 && err.metadata.retry_after_ms === '5000',
        );
      }
      await login('ann', 'correct horse', '10.0.0.2');
    });

    it('resets the count after the right password, and does not count unchecked attempts', async () => {
      await register('ann');
      for (let round = 0; round < 3; round++) {
        for (let i = 0; i < MAX_ATTEMPTS - 1; i++) await assert.rejects(login('ann', 'wrong'), isInvalidCredentials);
        await login('ann', 'correct horse');
      }
      hasher.busy = true;
      for (let i = 0; i < MAX_ATTEMPTS + 1; i++) await assert.rejects(login('unknown', 'wrong'), isPasswordHashingBusy);
      hasher.busy = false;
      await assert.rejects(login('unknown', 'wrong'), isInvalidCredentials);
    });
  });

  describe('with an imported md5 hash', () => {
    it('accepts the password once and stores an argon2id hash from then on', async () => {
      const id = await importMd5('old', 'short');
      await assert.rejects(login('old', 'wrong'), isInvalidCredentials);
      assert.equal((await users.get(id)).passwordHash, `$md5$${md5('short')}`);
      assert.equal((await login('old', 'short')).userId, id);
      const { passwordHash, version } = await users.get(id);
      assert.match(passwordHash, /^\$argon2id\$/);
      assert.equal(version, 2n);
      await login('old', 'short');
      assert.deepEqual(await users.get(id).then((u) => [u.passwordHash, u.version]), [passwordHash, 2n]);
    });

    it('accepts two concurrent logins and stores one hash', async () => {
      const id = await importMd5('old', 'short');
      const sessions = await Promise.all(['1', '2', '3'].map((address) => login('old', 'short', address)));
      assert.ok(sessions.every((s) => s.userId === id));
      const { passwordHash, version } = await users.get(id);
      assert.match(passwordHash, /^\$argon2id\$/);
      assert.equal(version, 2n);
      await login('old', 'short');
    });

    it('replaces the hash even if another field changes meanwhile, but not if the password does', async () => {
      const id = await importMd5('old', 'short');
      hasher.between = async () => {
        hasher.between = undefined;
        await repo.update(id, 1n, { firstName: 'Old' });
      };
      await login('old', 'short');
      assert.match((await users.get(id)).passwordHash, /^\$argon2id\$/);
      assert.equal((await users.get(id)).firstName, 'Old');

      const other = await importMd5('older', 'short');
      hasher.between = async () => {
        hasher.between = undefined;
        await repo.update(other, 1n, { passwordHash: '$argon2id$changed' });
      };
      await login('older', 'short');
      assert.equal((await users.get(other)).passwordHash, '$argon2id$changed');
    });

    it('rejects the login if the hash cannot be replaced', async () => {
      const id = await importMd5('old', 'short');
      const update = repo.update.bind(repo);
      repo.update = async () => undefined;
      await assert.rejects(login('old', 'short'), isUserVersionConflict);
      repo.update = update;
      assert.equal((await login('old', 'short')).userId, id);
    });

    it('replaces an argon2id hash with other costs', async () => {
      const { id } = await register('ann');
      hasher = new Hasher({ ...CHEAP, iterations: 2 }, 1, 64);
      users = new UserUsecase(repo, hasher, signer, attempts);
      await login('ann', 'correct horse');
      assert.match((await users.get(id)).passwordHash, /,t=2,/);
    });
  });

  describe('update', () => {
    const address = '10.0.0.1';

    it('changes names only if the version has not changed', async () => {
      const { id } = await register('ann');
      const changed = await users.update(id, 1n, { firstName: 'Ann' });
      assert.deepEqual([changed.firstName, changed.version], ['Ann', 2n]);
      await assert.rejects(
        users.update(id, 1n, { lastName: 'Lee' }),
        (err) =>
          isUserVersionConflict(err) && err.httpCode === 409 && err.grpcCode === 10 && err.metadata.version === '2',
      );
      await assert.rejects(users.update(id, 2n, {}), isInvalidArgument);
      await assert.rejects(users.update(id, 2n, { lastName: 'a\tb' }), isInvalidArgument);
      await assert.rejects(users.update(randomUUID(), 1n, { lastName: 'Lee' }), isUserNotFound);
      assert.equal((await users.get(id)).lastName, '');
    });

    it('changes the password only with the old one, and counts the attempts', async () => {
      const { id } = await register('ann');
      const change = (password: string) =>
        users.update(id, 1n, { newPassword: { text: 'battery staple', old: { password, address } } });
      for (let i = 0; i < MAX_ATTEMPTS; i++) await assert.rejects(change('wrong'), isInvalidCredentials);
      await assert.rejects(change('correct horse'), isTooManyAttempts);
      // A version that is out of date is no attempt.
      const old = { password: 'wrong', address };
      await assert.rejects(
        users.update(id, 9n, { newPassword: { text: 'battery staple', old } }),
        isUserVersionConflict,
      );
      await attempts.clear('ann', address);
      await change('correct horse');
      await assert.rejects(login('ann', 'correct horse'), isInvalidCredentials);
      await login('ann', 'battery staple');
    });

    it('applies one of two concurrent changes', async () => {
      const { id } = await register('ann');
      const results = await Promise.allSettled(
        ['battery staple', 'staple battery'].map((text) =>
          users.update(id, 1n, { newPassword: { text, old: { password: 'correct horse', address } } }),
        ),
      );
      const lost = results.flatMap((r) => (r.status === 'rejected' ? [r.reason as unknown] : []));
      assert.equal(lost.length, 1);
      assert.ok(isUserVersionConflict(lost[0]));
    });
  });
});
