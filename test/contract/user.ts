import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import type { NewUser } from '../../internal/biz/user/user.js';
import { md5Hash } from '../../internal/biz/user/user-import.js';
import { parseUsername } from '../../internal/biz/user/username.js';
import { freshId, type OpenBackend, times, useBackend } from './backend.js';

const HASH = md5Hash('d41d8cd98f00b204e9800998ecf8427e');

function newUser(name = `user${freshId()}`, changes: Partial<NewUser> = {}): NewUser {
  return {
    id: randomUUID(),
    username: parseUsername(name),
    passwordHash: HASH,
    firstName: '开',
    lastName: '',
    ...changes,
  };
}

export function userRepoContract(name: string, open: OpenBackend): void {
  describe(`UserRepo ${name}`, () => {
    const backend = useBackend(open);

    it('stores a user at version 1 and finds it by id and by name', async () => {
      const { users } = backend.it;
      const user = newUser(`Ünï.${freshId()}`);
      const [stored] = await users.insert([user]);
      assert.ok(stored);
      const { createdAt, updatedAt, ...rest } = stored;
      assert.deepEqual(rest, { ...user, username: user.username.name, version: 1n, tokenGeneration: 1n });
      assert.ok(createdAt instanceof Date);
      assert.deepEqual(updatedAt, createdAt);
      assert.deepEqual(await users.find(user.id), stored);
      assert.deepEqual(await users.findByName(user.username.key), stored);
    });

    it('finds no user that does not exist', async () => {
      const { users } = backend.it;
      assert.equal(await users.find(randomUUID()), undefined);
      assert.equal(await users.findByName('unknown'), undefined);
      assert.equal(await users.findByName(''), undefined);
      assert.equal(await users.update(randomUUID(), 1n, { firstName: 'x' }), undefined);
      assert.deepEqual(await users.insert([]), []);
    });

    it('stores the given creation time of a user', async () => {
      const createdAt = new Date('2019-05-06T07:08:09.123Z');
      const [stored] = await backend.it.users.insert([newUser(undefined, { createdAt })]);
      assert.deepEqual([stored?.createdAt, stored?.updatedAt], [createdAt, createdAt]);
    });

    it('stores those of many users whose id and name are free', async () => {
      const { users } = backend.it;
      const known = newUser();
      await users.insert([known]);
      const free = newUser();
      const sameName = newUser(free.username.name.toUpperCase());
      const sameId = newUser(undefined, { id: free.id });
      const batch = [newUser(undefined, { id: known.id }), newUser(known.username.name.toUpperCase()), free, newUser()];
      const stored = await users.insert(batch);
      assert.deepEqual(stored.map((u) => u.id).sort(), [free.id, batch[3]?.id].sort());
      assert.deepEqual(await users.insert([sameName, sameId]), []);
      assert.equal((await users.find(free.id))?.username, free.username.name);
      const [twice, again] = [newUser(), newUser()];
      assert.equal((await users.insert([twice, { ...again, username: twice.username }])).length, 1);
    });

    it('gives a name to one of twenty concurrent registrations', async () => {
      const { users } = backend.it;
      const wanted = `name${freshId()}`;
      const results = await Promise.all(
        times(20, (i) => users.insert([newUser(i % 2 === 0 ? wanted : wanted.toUpperCase())])),
      );
      const won = results.flat();
      assert.equal(won.length, 1);
      assert.deepEqual(await users.findByName(wanted), won[0]);
    });

    it('changes the given fields and leaves the others', async () => {
      const { users } = backend.it;
      const [before] = await users.insert([newUser()]);
      assert.ok(before);
      const after = await users.update(before.id, 1n, { lastName: '卖', passwordHash: '$argon2id$x' });
      assert.ok(after);
      const { updatedAt, ...rest } = after;
      const { updatedAt: was, ...other } = before;
      assert.deepEqual(rest, { ...other, lastName: '卖', passwordHash: '$argon2id$x', version: 2n });
      assert.ok(updatedAt >= was);
      assert.deepEqual(await users.find(before.id), after);
      assert.equal((await users.update(before.id, 2n, { firstName: '' }))?.firstName, '');
    });

    it('begins a new generation of tokens if that is asked for, and lists it for the given time', async () => {
      const { users } = backend.it;
      const [user, other] = await users.insert([newUser(), newUser()]);
      assert.ok(user && other);
      assert.equal((await users.update(user.id, 1n, { passwordHash: '$argon2id$x' }))?.tokenGeneration, 1n);
      const of = async (id: string, withinMs: number) =>
        (await users.listRevocations(withinMs)).filter(({ userId }) => userId === id);
      assert.deepEqual(await of(user.id, 3_600_000), []);
      const revoked = await users.update(user.id, 2n, { passwordHash: '$argon2id$y', revokeTokens: true });
      assert.deepEqual([revoked?.tokenGeneration, revoked?.version], [2n, 3n]);
      assert.deepEqual(await of(user.id, 3_600_000), [{ userId: user.id, validGeneration: 2n }]);
      assert.deepEqual(await of(user.id, -3_600_000), []);
      assert.deepEqual(await of(other.id, 3_600_000), []);
    });

    it('changes nothing if the version differs', async () => {
      const { users } = backend.it;
      const [user] = await users.insert([newUser()]);
      assert.ok(user);
      assert.equal(await users.update(user.id, 2n, { firstName: 'x' }), undefined);
      assert.deepEqual(await users.find(user.id), user);
    });

    it('applies one of twenty concurrent changes of the same version', async () => {
      const { users } = backend.it;
      const [user] = await users.insert([newUser()]);
      assert.ok(user);
      const results = await Promise.all(times(20, (i) => users.update(user.id, 1n, { firstName: `n${i}` })));
      const won = results.filter((r) => r !== undefined);
      assert.equal(won.length, 1);
      assert.deepEqual(await users.find(user.id), won[0]);
    });
  });
}
