import assert from 'node:assert/strict';
import { MemoryStore } from '../../test/support/memory/store.js';
import { MemoryUserRepo } from '../../test/support/memory/user.js';
import { importCsv } from './import-users.js';

const MD5 = '9dd4e461268c8034f5c8564e155c67a6';

describe('kaimai import-users', () => {
  const users = new MemoryUserRepo(new MemoryStore());

  async function run(...lines: string[]) {
    const refused: string[] = [];
    const text = (async function* () {
      yield lines.join('\n');
    })();
    const counts = await importCsv(users, text, (record, why) => refused.push(`${record} ${why}`));
    return { ...counts, refused };
  }

  it('stores many in batches, tells which are not, and stores none twice', async () => {
    const lines = Array.from({ length: 1_201 }, (_, i) => `${MD5},user${i},`);
    lines[700] = `${MD5},user7,`;
    const header = '\ufeffPassword_MD5, username,first_name';
    assert.deepEqual(await run(header, ...lines), {
      stored: 1_200,
      refused: ['701 the id or the name is taken'],
    });
    assert.equal((await users.findByName('user1200'))?.passwordHash, `$md5$${MD5}`);
    assert.equal((await run(header, ...lines)).stored, 0);
  });

  it('takes no table that it does not understand', async () => {
    await assert.rejects(run(''), /no header/);
    await assert.rejects(run('username,password', `x,${MD5}`), /the header has password; known are user_id, /);
    await assert.rejects(run('username', 'x'), /the header has no password_md5/);
    await assert.rejects(run('username,password_md5,username'), /names a column twice/);
    await assert.rejects(
      run('username,password_md5', `ann,${MD5}`, 'ben'),
      /record 2: 1 fields where the header has 2/,
    );
  });
});
