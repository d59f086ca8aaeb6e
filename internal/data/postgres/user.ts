import type { TokenRevocation } from '../../biz/user/token-revocation.js';
import { type NewUser, type User, type UserPatch, UserRepo } from '../../biz/user/user.js';
import type { Postgres, Statement } from './postgres.js';

const COLUMNS =
  'user_id, username, password_hash, first_name, last_name, version, token_generation, created_at, updated_at';

const INSERT: Statement = {
  name: 'user_insert',
  text: `INSERT INTO users (user_id, username, username_key, password_hash, first_name, last_name, created_at, updated_at)
    SELECT u.user_id, u.username, u.username_key, u.password_hash, u.first_name, u.last_name, coalesce(u.created_at, now()),
      coalesce(u.created_at, now())
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[])
      WITH ORDINALITY AS u (user_id, username, username_key, password_hash, first_name, last_name, created_at, n)
    ORDER BY u.username_key, u.n
    ON CONFLICT DO NOTHING RETURNING ${COLUMNS}`,
};

const UPDATE: Statement = {
  name: 'user_update',
  text: `UPDATE users SET password_hash = coalesce($3, password_hash), first_name = coalesce($4, first_name),
      last_name = coalesce($5, last_name), version = version + 1, updated_at = now(),
      token_generation = token_generation + $6::int, tokens_revoked_at = CASE $6::int WHEN 1 THEN now() ELSE tokens_revoked_at END
    WHERE user_id = $1 AND version = $2 RETURNING ${COLUMNS}`,
};

const FIND: Statement = { name: 'user_find', text: `SELECT ${COLUMNS} FROM users WHERE user_id = $1` };

const FIND_BY_NAME: Statement = {
  name: 'user_find_by_name',
  text: `SELECT ${COLUMNS} FROM users WHERE username_key = $1`,
};

const LIST_REVOCATIONS: Statement = {
  name: 'user_list_revocations',
  text: `SELECT user_id, token_generation FROM users WHERE tokens_revoked_at > now() - $1 * interval '1 millisecond'`,
};

export class PgUserRepo extends UserRepo {
  constructor(private readonly db: Postgres) {
    super();
  }

  override async insert(users: readonly NewUser[]): Promise<readonly User[]> {
    const { rows } = await this.db.query<UserRow>(INSERT, [
      users.map((u) => u.id),
      users.map((u) => u.username.name),
      users.map((u) => u.username.key),
      users.map((u) => u.passwordHash),
      users.map((u) => u.firstName),
      users.map((u) => u.lastName),
      users.map((u) => u.createdAt ?? null),
    ]);
    return rows.map(userOf);
  }

  override async update(id: string, version: bigint, patch: UserPatch): Promise<User | undefined> {
    const { passwordHash = null, firstName = null, lastName = null, revokeTokens } = patch;
    const values = [id, version, passwordHash, firstName, lastName, revokeTokens ? 1 : 0];
    const { rows } = await this.db.query<UserRow>(UPDATE, values);
    return rows[0] && userOf(rows[0]);
  }

  override async find(id: string): Promise<User | undefined> {
    const { rows } = await this.db.query<UserRow>(FIND, [id]);
    return rows[0] && userOf(rows[0]);
  }

  override async findByName(usernameKey: string): Promise<User | undefined> {
    const { rows } = await this.db.query<UserRow>(FIND_BY_NAME, [usernameKey]);
    return rows[0] && userOf(rows[0]);
  }

  override async listRevocations(withinMs: number): Promise<readonly TokenRevocation[]> {
    type Row = Pick<UserRow, 'user_id' | 'token_generation'>;
    const { rows } = await this.db.query<Row>(LIST_REVOCATIONS, [withinMs]);
    return rows.map((row) => ({ userId: row.user_id, validGeneration: row.token_generation }));
  }
}

interface UserRow {
  user_id: string;
  username: string;
  password_hash: string;
  first_name: string;
  last_name: string;
  version: bigint;
  token_generation: bigint;
  created_at: Date;
  updated_at: Date;
}

function userOf(row: UserRow): User {
  return {
    id: row.user_id,
    username: row.username,
    passwordHash: row.password_hash,
    firstName: row.first_name,
    lastName: row.last_name,
    version: row.version,
    tokenGeneration: row.token_generation,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  };
}
