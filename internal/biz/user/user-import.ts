import { randomUUID } from 'node:crypto';
import { KratosError } from '../../kratos/errors/error.js';
import { formatUserId } from '../identity.js';
import { checkNames, type NewUser, type User, type UserRepo } from './user.js';
import { parseUsername } from './username.js';

/** A user of another system. */
export interface ImportedUser extends Pick<User, 'firstName' | 'lastName'> {
  /** UUID or decimal int64. undefined: a new UUID. */
  readonly userId: string | undefined;
  readonly username: string;
  /** MD5 of the password's bytes, 32 hex digits. */
  readonly passwordMd5: string;
  /** undefined: now. */
  readonly createdAt: Date | undefined;
}

const MD5 = /^[0-9a-f]{32}$/i;

/** The hash of a password of which only the MD5 is known. The first login replaces it. */
export function md5Hash(hex: string): string {
  return `$md5$${hex.toLowerCase()}`;
}

/**
 * Stores users of another system. Existing users stay as they are.
 * @returns for each row why it was not stored; undefined: it was
 */
export async function importUsers(
  users: UserRepo,
  rows: readonly ImportedUser[],
): Promise<readonly (string | undefined)[]> {
  const parsed = rows.map(newUserOf);
  const stored = await users.insert(parsed.filter((u) => typeof u !== 'string'));
  // Compared by both, because another row may have the id or the name of a stored one.
  const left = new Set(stored.map((u) => `${u.id} ${u.username}`));
  return parsed.map((u) => {
    if (typeof u === 'string') return u;
    return left.delete(`${u.id} ${u.username.name}`) ? undefined : 'the id or the name is taken';
  });
}

function newUserOf({ userId, username, passwordMd5, createdAt, ...names }: ImportedUser): NewUser | string {
  if (!MD5.test(passwordMd5)) return 'password_md5 must be 32 hex digits';
  if (createdAt && Number.isNaN(createdAt.getTime())) return 'created_at must be a time';
  try {
    checkNames(names);
    return {
      id: userId === undefined ? randomUUID() : formatUserId(userId),
      username: parseUsername(username),
      passwordHash: md5Hash(passwordMd5),
      ...names,
      ...(createdAt && { createdAt }),
    };
  } catch (err) {
    if (err instanceof KratosError) return err.message;
    throw err;
  }
}
