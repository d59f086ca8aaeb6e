import assert from 'node:assert/strict';
import { MemoryStore } from '../../test/support/memory/store.js';
import { MemoryUserRepo } from '../../test/support/memory/user.js';
import { importCsv } from './import-users.js';

const MD5 = '9dd4e461268c8034f5c8564e155c67a6';

describe('kaimai import-users', () => {
  const users = new MemoryUserRepo(new MemoryStore());

  async function run(...lines: string[]) {
    const rejected: string[] = [];
    const text = (async function* () {
      yield lines.join('\n');
    })();
    const counts = await importCsv(users, text, (record, reason) => rejected.push(`${record} ${reason}`));
    return { ...counts, rejections: rejected };
  }

  it('imports in batches, names the rejected records and imports no user twice', async () => {
    const lines = Array.from({ length: 1_201 }, (_, i) => `${MD5},user${i},`);
    lines[700] = `${MD5},user7,`;
    const header = '\ufeffPassword_MD5, username,first_name';
    assert.deepEqual(await run(header, ...lines), {
      stored: 1_200,
      rejected: 1,
      rejections: ['701 the id or the name is taken'],
    });
    assert.equal((await users.findByName('user1200'))?.passwordHash, `$md5$${MD5}`);
    assert.equal((await run(header, ...lines)).stored, 0);
  });

  it('reads quoted fields with commas and quotes, and skips empty lines', async () => {
    const text = ['username,password_md5,last_name', `"ann","${MD5}","O""Hara, the younger"`, '', `ben,${MD5},`];
    assert.deepEqual(await run(...text), { stored: 2, rejected: 0, rejections: [] });
    assert.equal((await users.findByName('ann'))?.lastName, 'O"Hara, the younger');
  });

  it('rejects a file whose header or records it does not understand', async () => {
    const header = 'username,password_md5';
    await assert.rejects(run(''), /the file has no header/);
    await assert.rejects(run('username,password', `x,${MD5}`), /unknown columns: password; allowed are user_id, /);
    await assert.rejects(run('username', 'x'), /missing columns: password_md5/);
    await assert.rejects(run(`${header},username`), /names a column twice/);
    await assert.rejects(run(header, `carl,${MD5}`, 'dora'), /Invalid Record Length: .*on line 3/);
    await assert.rejects(run(header, `carl"x,${MD5}`), /Invalid Opening Quote: .*line 2/);
    await assert.rejects(run(header, `"carl,${MD5}`), /Quote Not Closed/);
  });
});
