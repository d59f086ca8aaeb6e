import type { TokenRevocation } from '../../../internal/biz/user/token-revocation.js';
import { type NewUser, type User, type UserPatch, UserRepo } from '../../../internal/biz/user/user.js';
import { type MemoryStore, MemoryTable } from './store.js';

type Row = User & { readonly key: string; readonly revokedAt: Date | undefined };

export class MemoryUserRepo extends UserRepo {
  private readonly users: MemoryTable<Row>;

  constructor(private readonly store: MemoryStore) {
    super();
    this.users = new MemoryTable<Row>(store, 'users', (u) => u.id, [{ name: 'username_key', of: (u) => u.key }]);
  }

  override insert(users: readonly NewUser[]): Promise<readonly User[]> {
    return this.store.statement('user.insert', undefined, async (tx) => {
      const stored: User[] = [];
      for (const { username, createdAt = this.store.now(), ...user } of users) {
        const row: Row = {
          ...user,
          username: username.name,
          key: username.key,
          version: 1n,
          tokenGeneration: 1n,
          revokedAt: undefined,
          createdAt,
          updatedAt: createdAt,
        };
        if (this.users.find(row.id, tx)) continue;
        if ((await this.users.insert(tx, row, 'username_key')) === undefined) stored.push(userOf(row));
      }
      return stored;
    });
  }

  override update(id: string, version: bigint, patch: UserPatch): Promise<User | undefined> {
    return this.store.statement('user.update', undefined, async (tx) => {
      const row = await this.users.update(tx, id, (u) => (u.version === version ? this.changed(u, patch) : undefined));
      return row && userOf(row);
    });
  }

  override listRevocations(withinMs: number): Promise<readonly TokenRevocation[]> {
    return this.store.statement('user.listRevocations', undefined, async () => {
      const since = this.store.now().getTime() - withinMs;
      return this.users
        .rows()
        .filter((u) => (u.revokedAt?.getTime() ?? Number.NEGATIVE_INFINITY) > since)
        .map((u) => ({ userId: u.id, validGeneration: u.tokenGeneration }));
    });
  }

  private changed(user: Row, { revokeTokens, ...patch }: UserPatch): Row {
    const changed = { ...user, ...patch, version: user.version + 1n, updatedAt: this.store.now() };
    if (!revokeTokens) return changed;
    return { ...changed, tokenGeneration: user.tokenGeneration + 1n, revokedAt: this.store.now() };
  }

  override find(id: string): Promise<User | undefined> {
    return this.store.statement('user.find', undefined, async () => {
      const row = this.users.find(id);
      return row && userOf(row);
    });
  }

  override findByName(usernameKey: string): Promise<User | undefined> {
    return this.store.statement('user.findByName', undefined, async () => {
      const row = this.users.rows().find((u) => u.key === usernameKey);
      return row && userOf(row);
    });
  }
}

function userOf({ key: _, revokedAt: __, ...user }: Row): User {
  return user;
}
