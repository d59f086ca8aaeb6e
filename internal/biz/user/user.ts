import { randomUUID } from 'node:crypto';
import { invalidArgument } from '../../../gen/common/v1/errors.js';
import {
  invalidCredentials,
  tooManyAttempts,
  userNotFound,
  usernameTaken,
  userVersionConflict,
} from '../../../gen/user/v1/errors.js';
import type { KratosError } from '../../kratos/errors/error.js';
import { type TokenRevocation, TokenRevocationSource } from './token-revocation.js';
import { parseUsername, type Username, usernameKey } from './username.js';

export interface User {
  /** UUID. */
  readonly id: string;
  readonly username: string;
  /** From `PasswordHasher`, or for an imported user from `md5Hash` until the first login. */
  readonly passwordHash: string;
  readonly firstName: string;
  readonly lastName: string;
  readonly version: bigint;
  /** Tokens of earlier generations are revoked. */
  readonly tokenGeneration: bigint;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

export interface NewUser extends Pick<User, 'id' | 'passwordHash' | 'firstName' | 'lastName'> {
  readonly username: Username;
  /** undefined: now. */
  readonly createdAt?: Date;
}

/** Fields of a user that can be changed. Absent fields stay as they are. */
export type UserPatch = Partial<Pick<User, 'passwordHash' | 'firstName' | 'lastName'>> & {
  /** Begins a new generation of tokens. */
  readonly revokeTokens?: true;
};

export abstract class UserRepo extends TokenRevocationSource {
  /** Stores the users whose id and name are free, and returns them. */
  abstract insert(users: readonly NewUser[]): Promise<readonly User[]>;
  /** @returns undefined: there is no such user, or its version is another one */
  abstract update(id: string, version: bigint, patch: UserPatch): Promise<User | undefined>;
  abstract find(id: string): Promise<User | undefined>;
  abstract findByName(usernameKey: string): Promise<User | undefined>;
}

export interface PasswordCheck {
  readonly matches: boolean;
  /** Set if the password matches an outdated hash: the hash to store instead. */
  readonly newHash: string | undefined;
}

/** Registrations and logins queue separately, so that a flood of either leaves the other half of the turns. */
export type HashPurpose = 'login' | 'registration';

/** Hashing is slow on purpose, and only a bounded number of passwords is hashed at a time. */
export abstract class PasswordHasher {
  /** @throws PASSWORD_HASHING_BUSY */
  abstract hash(password: string, purpose: HashPurpose): Promise<string>;
  /**
   * `hash` undefined: the user does not exist. This takes as long as for an existing user, and no password matches.
   * @throws PASSWORD_HASHING_BUSY
   */
  abstract verify(password: string, hash: string | undefined): Promise<PasswordCheck>;
}

export interface Token {
  readonly text: string;
  readonly expiresAt: Date;
}

export abstract class TokenSigner {
  /** @throws SIGNING_KEY_MISSING when no key is configured, but logins need a token */
  abstract requireKey(): void;
  /** undefined: no key is configured. */
  abstract sign(userId: string, generation: bigint): Promise<Token | undefined>;
}

/**
 * Counts the login attempts for each name from each address, and those from each address for all names together, so that
 * one password tried on many names is counted too.
 */
export abstract class LoginAttempts {
  /** Counts an attempt. @returns ms until the next one is allowed; undefined: this one is allowed */
  abstract take(usernameKey: string, address: string): Promise<number | undefined>;
  /** Undoes the count of an attempt whose password was not checked. */
  abstract uncount(usernameKey: string, address: string): Promise<void>;
  /** The attempt was right: resets the count of the name, and undoes the count of the attempt for the address. */
  abstract clear(usernameKey: string, address: string): Promise<void>;
}

export interface Registration extends Pick<User, 'firstName' | 'lastName'> {
  readonly username: string;
  readonly password: string;
}

/** A login attempt. */
export interface Credentials {
  readonly password: string;
  /** The address of the caller, or the network within which the caller can choose one. */
  readonly address: string;
}

export interface Session {
  readonly userId: string;
  readonly token: Token | undefined;
}

export interface UserChange {
  readonly firstName?: string;
  readonly lastName?: string;
  readonly newPassword?: { readonly text: string; readonly old: Credentials };
}

const UPGRADE_ATTEMPTS = 5;

export class UserUsecase {
  constructor(
    private readonly users: UserRepo,
    private readonly passwords: PasswordHasher,
    private readonly tokens: TokenSigner,
    private readonly attempts: LoginAttempts,
  ) {}

  async register({ username: input, password, firstName, lastName }: Registration): Promise<User> {
    const username = parseUsername(input);
    checkNames({ firstName, lastName });
    // So that a taken name costs no hash. The insert decides between two registrations at once.
    if (await this.users.findByName(username.key)) throw taken(username);
    const passwordHash = await this.passwords.hash(password, 'registration');
    const [user] = await this.users.insert([{ id: randomUUID(), username, passwordHash, firstName, lastName }]);
    if (!user) throw taken(username);
    return user;
  }

  async login(username: string, credentials: Credentials): Promise<Session> {
    this.tokens.requireKey();
    const key = usernameKey(username);
    const { user, newHash } = await this.authenticate(key, credentials, () => this.users.findByName(key));
    if (newHash !== undefined) await this.replaceHash(user, newHash);
    return { userId: user.id, token: await this.tokens.sign(user.id, user.tokenGeneration) };
  }

  async get(id: string): Promise<User> {
    const user = await this.users.find(id);
    if (!user) throw userNotFound(`no user ${id}`, { metadata: { user_id: id } });
    return user;
  }

  listTokenRevocations(withinMs: number): Promise<readonly TokenRevocation[]> {
    return this.users.listRevocations(withinMs);
  }

  async update(id: string, version: bigint, change: UserChange): Promise<User> {
    const { newPassword, ...names } = change;
    if (Object.keys(change).length === 0) throw invalidArgument('no field to change');
    checkNames(names);
    const user = await this.get(id);
    if (user.version !== version) throw conflict(user, version);
    let patch: UserPatch = names;
    if (newPassword) {
      await this.authenticate(usernameKey(user.username), newPassword.old, async () => user);
      patch = { ...names, revokeTokens: true, passwordHash: await this.passwords.hash(newPassword.text, 'login') };
    }
    const updated = await this.users.update(id, version, patch);
    if (!updated) throw conflict(await this.get(id), version);
    return updated;
  }

  /** A wrong name and a wrong password give the same error after the same work. */
  private async authenticate(
    key: string,
    { password, address }: Credentials,
    find: () => Promise<User | undefined>,
  ): Promise<{ readonly user: User; readonly newHash: string | undefined }> {
    const waitMs = await this.attempts.take(key, address);
    if (waitMs !== undefined) {
      throw tooManyAttempts('too many wrong passwords: try again later', {
        metadata: { retry_after_ms: String(waitMs) },
        retryAfterMs: waitMs,
      });
    }
    let user: User | undefined;
    let check: PasswordCheck;
    try {
      user = await find();
      check = await this.passwords.verify(password, user?.passwordHash);
    } catch (err) {
      await this.attempts.uncount(key, address);
      throw err;
    }
    if (!user || !check.matches) throw invalidCredentials('the username or the password is wrong');
    await this.attempts.clear(key, address);
    return { user, newHash: check.newHash };
  }

  /** A login at the same time may have replaced the hash already. One new hash stays. */
  private async replaceHash(user: User, newHash: string): Promise<void> {
    let current = user;
    for (let i = 0; i < UPGRADE_ATTEMPTS; i++) {
      if (await this.users.update(user.id, current.version, { passwordHash: newHash })) return;
      current = await this.get(user.id);
      if (current.passwordHash !== user.passwordHash) return;
    }
    // An outdated hash must not be accepted twice.
    throw conflict(current, user.version);
  }
}

/** @throws INVALID_ARGUMENT naming the field */
export function checkNames(names: Pick<UserPatch, 'firstName' | 'lastName'>): void {
  const fields = { first_name: names.firstName, last_name: names.lastName };
  for (const [field, value = ''] of Object.entries(fields)) {
    if ([...value].length <= 64 && !/\p{Cc}/u.test(value)) continue;
    const description = 'must have at most 64 characters, no control characters among them';
    throw invalidArgument(`${field} ${description}`, { violations: [{ field, description }] });
  }
}

function taken({ name }: Username): KratosError {
  return usernameTaken(`the name ${name} is taken`, { metadata: { username: name } });
}

function conflict(user: User, version: bigint): KratosError {
  return userVersionConflict(`user ${user.id} is at version ${user.version}, not ${version}`, {
    metadata: { user_id: user.id, version: String(user.version) },
  });
}
