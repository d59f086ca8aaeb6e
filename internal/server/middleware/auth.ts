import { createHash, timingSafeEqual } from 'node:crypto';
import { type DescMethod, getOption, type Registry } from '@bufbuild/protobuf';
import { Role } from '../../../gen/auth/v1/auth.js';
import { invalidArgument, permissionDenied, unauthenticated } from '../../../gen/common/v1/errors.js';
import { ANONYMOUS, formatUserId, type Identity } from '../../biz/identity.js';
import type { Call } from '../../kratos/transport/call.js';
import type { Middleware } from '../../kratos/transport/chain.js';

/** Protocols of gRPC itself, whose protos carry no role. */
const PUBLIC_SERVICES = new Set([
  'grpc.health.v1.Health',
  'grpc.reflection.v1.ServerReflection',
  'grpc.reflection.v1alpha.ServerReflection',
]);

/** Finds out who calls. @throws UNAUTHENTICATED for credentials that do not hold */
export type Authenticator = (call: Call) => Identity | Promise<Identity>;

/** The role that an RPC asks for; ROLE_UNSPECIFIED where its proto names none. */
export function roleOf(method: DescMethod, registry: Registry): Role {
  if (PUBLIC_SERVICES.has(method.parent.typeName)) return Role.PUBLIC;
  const extension = registry.getExtension('auth.v1.role');
  if (!extension) throw new Error('auth/v1/auth.proto is not among the descriptors');
  return getOption(method, extension) as Role;
}

/** Lets a call through whose identity holds the role of its RPC; an RPC without a role lets nobody through. */
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
  if (identity.role === 'ANONYMOUS') throw unauthenticated('this call needs an identity');
  throw permissionDenied('this call is not open to the caller');
}

function allows(role: Role, identity: Identity): boolean {
  switch (role) {
    case Role.PUBLIC:
      return true;
    case Role.USER:
      // Operators and services act for the user they name, or for nobody: see userOf.
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
  /** What services of the system send as `x-internal-token`. */
  readonly internalToken: string;
  /** What the trusted caller sends as `x-bff-token`; empty: every caller is trusted. */
  readonly bffToken: string;
}

/**
 * Believes the headers of a trusted caller: `x-user-id`, and `x-user-role: ADMIN` for operators. A service of the
 * system proves itself by `x-internal-token` and is believed the user it acts for.
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
      throw unauthenticated('identity headers are believed only with the x-bff-token');
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

/** The identity of a service of the system; undefined for callers that do not claim to be one. */
export function serviceAuthenticator(internalToken: string): (call: Call) => Identity | undefined {
  const isToken = secretMatcher(internalToken);
  return (call) => {
    const token = textOf(call, 'x-internal-token');
    if (token === undefined) return undefined;
    if (!isToken(token)) throw unauthenticated('x-internal-token does not hold');
    return { role: 'INTERNAL', userId: userIdOf(call) };
  };
}

/** Compares with a secret in a time that tells nothing of it, not even its length. */
export function secretMatcher(secret: string): (candidate: string) => boolean {
  const digest = (s: string) => createHash('sha256').update(s).digest();
  const expected = digest(secret);
  return (candidate) => timingSafeEqual(digest(candidate), expected);
}

/** The user that a caller says it acts for. @throws INVALID_ARGUMENT naming x-user-id */
export function userIdOf(call: Call): string | undefined {
  const given = textOf(call, 'x-user-id');
  return given === undefined ? undefined : formatUserId(given, 'x-user-id');
}

export function textOf(call: Call, name: string): string | undefined {
  const value = call.metadata(name);
  return typeof value === 'string' && value !== '' ? value : undefined;
}
