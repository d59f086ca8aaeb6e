import { createHash, timingSafeEqual } from 'node:crypto';
import { type DescMethod, getOption, type Registry } from '@bufbuild/protobuf';
import { Role } from '../../../gen/auth/v1/auth.js';
import { invalidArgument, permissionDenied, unauthenticated } from '../../../gen/common/v1/errors.js';
import { ANONYMOUS, formatUserId, type Identity } from '../../biz/identity.js';
import type { KratosError } from '../../kratos/errors/error.js';
import { bearerToken, type Claims, type JwtOptions, jwtVerifier } from '../../kratos/middleware/jwt.js';
import type { Call } from '../../kratos/transport/call.js';
import type { Middleware } from '../../kratos/transport/chain.js';

/** Protocols of gRPC itself, whose protos carry no role. */
const PUBLIC_SERVICES = new Set([
  'grpc.health.v1.Health',
  'grpc.reflection.v1.ServerReflection',
  'grpc.reflection.v1alpha.ServerReflection',
]);

/** Determines who makes a call. @throws UNAUTHENTICATED for invalid credentials */
export type Authenticator = (call: Call) => Identity | Promise<Identity>;

/** The role that an RPC requires; ROLE_UNSPECIFIED if its proto names none. */
export function roleOf(method: DescMethod, registry: Registry): Role {
  if (PUBLIC_SERVICES.has(method.parent.typeName)) return Role.PUBLIC;
  const extension = registry.getExtension('auth.v1.role');
  if (!extension) throw new Error('auth/v1/auth.proto is not among the descriptors');
  return getOption(method, extension) as Role;
}

/** Admits a call only if its identity has the role of the RPC. An RPC without a role admits no call. */
export function auth(authenticate: Authenticator, registry: Registry): Middleware {
  return (next, method) => {
    const role = roleOf(method, registry);
    const admit = (call: Call, identity: Identity) => {
      call.identity = identity;
      authorize(role, identity);
      return next(call);
    };
    return (call) => {
      try {
        const identity = authenticate(call);
        return identity instanceof Promise ? identity.then((found) => admit(call, found)) : admit(call, identity);
      } catch (err) {
        return Promise.reject(err);
      }
    };
  };
}

function authorize(role: Role, identity: Identity): void {
  if (allows(role, identity)) return;
  if (identity.role === 'ANONYMOUS') throw unauthenticated('this call requires an identity');
  throw permissionDenied('the caller may not make this call');
}

function allows(role: Role, identity: Identity): boolean {
  switch (role) {
    case Role.PUBLIC:
      return true;
    case Role.USER:
      // Operators and services act for the user they name, if any: see userOf.
      return identity.role !== 'ANONYMOUS';
    case Role.ADMIN:
      return identity.role === 'ADMIN';
    case Role.INTERNAL:
      return identity.role === 'INTERNAL';
    case Role.ROLE_UNSPECIFIED:
    case Role.UNRECOGNIZED:
      return false;
  }
}

/** Secrets by which callers other than users authenticate. */
export interface TokenOptions {
  /** The secret that services of the system send as `x-internal-token`. */
  readonly internalToken: string;
  /** The secret that operators send as `x-admin-token`; if empty, no caller has it. */
  readonly adminToken: string;
}

export interface HeaderOptions extends TokenOptions {
  /** The secret that the trusted caller sends as `x-bff-token`; if empty, every caller is trusted. */
  readonly bffToken: string;
  /** Whether `x-user-role: ADMIN` of a trusted caller makes an operator. Ignored if there is an admin token. */
  readonly adminByRole: boolean;
}

/**
 * Takes the identity from the headers of a trusted caller: `x-user-id`, and `x-user-role: ADMIN` for operators if that
 * is allowed. A service of the system authenticates with `x-internal-token` and an operator with `x-admin-token`; both
 * may name the user they act for.
 */
export function headerAuthenticator(options: HeaderOptions): Authenticator {
  const byToken = tokenAuthenticator(options);
  const isBff = options.bffToken === '' ? undefined : secretMatcher(options.bffToken);
  const adminByRole = options.adminByRole && options.adminToken === '';
  return (call) => {
    const found = byToken(call);
    if (found) return found;
    const role = roleHeaderOf(call);
    const userId = userIdOf(call);
    if (role === undefined && userId === undefined) return ANONYMOUS;
    if (isBff && !isBff(textOf(call, 'x-bff-token') ?? '')) {
      throw unauthenticated('identity headers require a valid x-bff-token');
    }
    if (role === 'ADMIN') {
      if (!adminByRole) throw unauthenticated('x-user-role: ADMIN requires x-admin-token');
      return { role, userId };
    }
    return userId === undefined ? ANONYMOUS : { role: 'USER', userId };
  };
}

export interface JwtAuthOptions extends TokenOptions {
  readonly jwt: JwtOptions;
  /** Whether the tokens of a user that carry this generation are revoked. Absent: no token is revoked. */
  readonly isRevoked?: ((userId: string, generation: bigint) => boolean) | undefined;
}

/**
 * Takes the identity from a bearer token: `sub` is the user, and `"role": "ADMIN"` makes an operator, who may act for
 * the user in `x-user-id`. Services and operators may authenticate by their tokens instead.
 */
export function jwtAuthenticator(options: JwtAuthOptions): Authenticator {
  const byToken = tokenAuthenticator(options);
  const verify = jwtVerifier(options.jwt, bearerOf);
  return async (call) => {
    const found = byToken(call);
    if (found) return found;
    const header = textOf(call, 'authorization');
    if (header === undefined) return ANONYMOUS;
    const { identity, generation } = await verify(bearerToken(header));
    if (generation !== undefined && identity.userId !== undefined && options.isRevoked?.(identity.userId, generation)) {
      throw unauthenticated('the token was revoked: log in again');
    }
    return identity.role === 'ADMIN' ? { role: 'ADMIN', userId: userIdOf(call) ?? identity.userId } : identity;
  };
}

/** What a token says. The generation is absent from tokens that Login has not issued. */
interface Bearer {
  readonly identity: Identity;
  readonly generation: bigint | undefined;
}

function bearerOf(claims: Claims): Bearer {
  const { gen } = claims;
  return { identity: identityOf(claims), generation: Number.isSafeInteger(gen) ? BigInt(gen as number) : undefined };
}

function identityOf(claims: Claims): Identity {
  let userId: string;
  try {
    userId = formatUserId(claims.sub, 'sub');
  } catch {
    throw unauthenticated('invalid token: claim sub must be a UUID or a decimal int64');
  }
  return { role: claims.role === 'ADMIN' ? 'ADMIN' : 'USER', userId };
}

/** The identity of a service of the system or of an operator; undefined for callers that send the token of neither. */
function tokenAuthenticator({ internalToken, adminToken }: TokenOptions): (call: Call) => Identity | undefined {
  const isInternal = secretMatcher(internalToken);
  const isAdmin = adminToken === '' ? () => false : secretMatcher(adminToken);
  return (call) => {
    const internal = textOf(call, 'x-internal-token');
    const admin = textOf(call, 'x-admin-token');
    if (internal === undefined && admin === undefined) return undefined;
    if (internal !== undefined && admin !== undefined) {
      throw invalidHeader('x-admin-token', 'excludes x-internal-token');
    }
    if (internal !== undefined) {
      if (!isInternal(internal)) throw unauthenticated('invalid x-internal-token');
      return { role: 'INTERNAL', userId: userIdOf(call) };
    }
    if (!isAdmin(admin ?? '')) throw unauthenticated('invalid x-admin-token');
    if (roleHeaderOf(call) === 'USER')
      throw invalidHeader('x-user-role', 'must be ADMIN, or absent, with x-admin-token');
    return { role: 'ADMIN', userId: userIdOf(call) };
  };
}

/** Compares with a secret in a time that reveals nothing about it, not even its length. */
export function secretMatcher(secret: string): (candidate: string) => boolean {
  const digest = (s: string) => createHash('sha256').update(s).digest();
  const expected = digest(secret);
  return (candidate) => timingSafeEqual(digest(candidate), expected);
}

/** The user that a caller says it acts for. @throws INVALID_ARGUMENT naming x-user-id */
function userIdOf(call: Call): string | undefined {
  const given = textOf(call, 'x-user-id');
  return given === undefined ? undefined : formatUserId(given, 'x-user-id');
}

/** The role that a caller claims. @throws INVALID_ARGUMENT naming x-user-role */
function roleHeaderOf(call: Call): 'USER' | 'ADMIN' | undefined {
  const role = textOf(call, 'x-user-role');
  if (role === undefined || role === 'USER' || role === 'ADMIN') return role;
  throw invalidHeader('x-user-role', 'must be USER or ADMIN');
}

/**
 * A header that carries an identity. A repeated one is refused, even if its values are equal: which of them counts would
 * depend on the proxy that added the other.
 * @throws INVALID_ARGUMENT naming the header
 */
function textOf(call: Call, name: string): string | undefined {
  const values = call.metadataAll(name);
  if (values.length > 1) throw invalidHeader(name, 'must be sent once');
  const [value] = values;
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function invalidHeader(field: string, description: string): KratosError {
  return invalidArgument(`${field} ${description}`, { violations: [{ field, description }] });
}
