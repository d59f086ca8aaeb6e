import { createHash, timingSafeEqual } from 'node:crypto';
import { type DescMethod, getOption, type Registry } from '@bufbuild/protobuf';
import { Role } from '../../../gen/auth/v1/auth.js';
import { invalidArgument, permissionDenied, unauthenticated } from '../../../gen/common/v1/errors.js';
import { ANONYMOUS, formatUserId, type Identity } from '../../biz/identity.js';
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

export interface HeaderOptions {
  /** The secret that services of the system send as `x-internal-token`. */
  readonly internalToken: string;
  /** The secret that the trusted caller sends as `x-bff-token`; if empty, every caller is trusted. */
  readonly bffToken: string;
}

/**
 * Takes the identity from the headers of a trusted caller: `x-user-id`, and `x-user-role: ADMIN` for operators. A
 * service of the system authenticates with `x-internal-token` and may name the user it acts for.
 */
export function headerAuthenticator(options: HeaderOptions): Authenticator {
  const service = serviceAuthenticator(options.internalToken);
  const isBff = options.bffToken === '' ? undefined : secretMatcher(options.bffToken);
  return (call) => {
    const found = service(call);
    if (found) return found;
    const role = textOf(call, 'x-user-role');
    const userId = userIdOf(call);
    if (role === undefined && userId === undefined) return ANONYMOUS;
    if (isBff && !isBff(textOf(call, 'x-bff-token') ?? '')) {
      throw unauthenticated('identity headers require a valid x-bff-token');
    }
    if (role === 'ADMIN') return { role: 'ADMIN', userId };
    if (role !== undefined && role !== 'USER') {
      throw invalidArgument('x-user-role must be USER or ADMIN', {
        violations: [{ field: 'x-user-role', description: 'must be USER or ADMIN' }],
      });
    }
    return userId === undefined ? ANONYMOUS : { role: 'USER', userId };
  };
}

export interface JwtAuthOptions {
  readonly internalToken: string;
  readonly jwt: JwtOptions;
}

/**
 * Takes the identity from a bearer token: `sub` is the user, and `"role": "ADMIN"` makes an operator, who may act for
 * the user in `x-user-id`.
 */
export function jwtAuthenticator(options: JwtAuthOptions): Authenticator {
  const service = serviceAuthenticator(options.internalToken);
  const verify = jwtVerifier(options.jwt, identityOf);
  return async (call) => {
    const found = service(call);
    if (found) return found;
    const header = textOf(call, 'authorization');
    if (header === undefined) return ANONYMOUS;
    const identity = await verify(bearerToken(header));
    return identity.role === 'ADMIN' ? { role: 'ADMIN', userId: userIdOf(call) ?? identity.userId } : identity;
  };
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

/** The identity of a service of the system; undefined for callers that do not claim to be one. */
function serviceAuthenticator(internalToken: string): (call: Call) => Identity | undefined {
  const isToken = secretMatcher(internalToken);
  return (call) => {
    const token = textOf(call, 'x-internal-token');
    if (token === undefined) return undefined;
    if (!isToken(token)) throw unauthenticated('invalid x-internal-token');
    return { role: 'INTERNAL', userId: userIdOf(call) };
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

function textOf(call: Call, name: string): string | undefined {
  const value = call.metadata(name);
  return typeof value === 'string' && value !== '' ? value : undefined;
}
