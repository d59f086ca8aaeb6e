import assert from 'node:assert/strict';
import { MemoryStore } from '../../../test/support/memory/store.js';
import { MemoryUserRepo } from '../../../test/support/memory/user.js';
import { formatUserId } from '../identity.js';
import { type ImportedUser, importUsers } from './user-import.js';

const MD5 = '9dd4e461268c8034f5c8564e155c67a6';

describe('importUsers', () => {
  const row: ImportedUser = {
    userId: undefined,
    username: 'a.user',
    passwordMd5: MD5,
    firstName: 'A',
    lastName: '',
    createdAt: undefined,
  };

  it('returns for each row whether it was stored, and stores no user twice', async () => {
    const users = new MemoryUserRepo(new MemoryStore());
    const createdAt = new Date('2020-01-02T03:04:05Z');
    const rows: ImportedUser[] = [
      { ...row, userId: '123', createdAt },
      { ...row, username: 'A.USER' },
      { ...row, userId: '123', username: 'other' },
      { ...row, username: 'b' },
      { ...row, username: 'bb', passwordMd5: MD5.toUpperCase() },
      { ...row, username: 'cc', passwordMd5: 'x' },
      { ...row, username: 'dd', userId: 'no-uuid' },
      { ...row, username: 'ee', firstName: '\u0007' },
      { ...row, username: 'ff', createdAt: new Date('yesterday') },
    ];
    const words = (answers: readonly (string | undefined)[]) => answers.map((a) => (a ?? 'stored').split(' ')[0]);
    assert.deepEqual(words(await importUsers(users, rows)), [
      'stored',
      'the',
      'the',
      'username',
      'stored',
      'password_md5',
      'user_id',
      'first_name',
      'created_at',
    ]);
    const user = await users.find(formatUserId('123'));
    assert.deepEqual([user?.username, user?.createdAt, user?.passwordHash], ['a.user', createdAt, `$md5$${MD5}`]);
    assert.equal((await users.findByName('bb'))?.passwordHash, `$md5$${MD5}`);
    assert.deepEqual(new Set(words(await importUsers(users, rows))).has('stored'), false);
  });
});
