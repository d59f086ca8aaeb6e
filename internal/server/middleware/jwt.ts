import { createPublicKey, type KeyObject } from 'node:crypto';
import { errors, type JWTPayload, jwtVerify } from 'jose';
import { unauthenticated } from '../../../gen/common/v1/errors.js';
import { ANONYMOUS, formatUserId, type Identity } from '../../biz/identity.js';
import type { Config } from '../../conf/config.js';
import type { Call } from '../../kratos/transport/call.js';
import { type Authenticator, serviceAuthenticator, textOf, userIdOf } from './auth.js';

/** Tokens whose check is remembered: a signature takes longer to verify than most calls take. */
const MAX_REMEMBERED = 10_000;

interface Remembered {
  readonly identity: Identity;
  readonly expiresAtMs: number;
}

/**
 * Believes bearer tokens: one pinned algorithm, so that a token cannot choose how it is checked, with issuer, audience
 * and expiry. `sub` is the user; `"role": "ADMIN"` makes an operator, who may act for the user in `x-user-id`.
 */
export function jwtAuthenticator(options: Pick<Config['auth'], 'internalToken' | 'jwt'>): Authenticator {
  const service = serviceAuthenticator(options.internalToken);
  const { algorithm, issuer, audience, clockToleranceMs } = options.jwt;
  const key = keyOf(options.jwt);
  const remembered = new Map<string, Remembered>();

  const verify = async (token: string): Promise<Identity> => {
    const known = remembered.get(token);
    if (known && Date.now() < known.expiresAtMs) return known.identity;
    let payload: JWTPayload;
    try {
      ({ payload } = await jwtVerify(token, key, {
        algorithms: [algorithm],
        issuer,
        audience,
        clockTolerance: clockToleranceMs / 1000,
        requiredClaims: ['exp', 'sub'],
      }));
    } catch (err) {
      throw unauthenticated(reasonOf(err), { cause: err });
    }
    const identity = identityOf(payload);
    // The oldest goes first; a Map keeps the order of insertion.
    if (remembered.size >= MAX_REMEMBERED) remembered.delete(remembered.keys().next().value as string);
    remembered.set(token, { identity, expiresAtMs: (payload.exp as number) * 1000 + clockToleranceMs });
    return identity;
  };

  return async (call) => {
    const found = service(call);
    if (found) return found;
    const token = bearerOf(call);
    if (token === undefined) return ANONYMOUS;
    const identity = await verify(token);
    return identity.role === 'ADMIN' ? { role: 'ADMIN', userId: userIdOf(call) ?? identity.userId } : identity;
  };
}

function keyOf(jwt: Config['auth']['jwt']): Uint8Array | KeyObject {
  return jwt.algorithm === 'HS256' ? new TextEncoder().encode(jwt.secret) : createPublicKey(jwt.publicKey);
}

function bearerOf(call: Call): string | undefined {
  const header = textOf(call, 'authorization');
  if (header === undefined) return undefined;
  const match = /^Bearer ([A-Za-z0-9._~+/=-]+)$/i.exec(header);
  if (!match) throw unauthenticated('authorization must be "Bearer <token>"');
  return match[1];
}

function identityOf(payload: JWTPayload): Identity {
  let userId: string;
  try {
    userId = formatUserId(payload.sub ?? '', 'sub');
  } catch {
    throw unauthenticated('the claim sub of the token is no user');
  }
  return { role: payload.role === 'ADMIN' ? 'ADMIN' : 'USER', userId };
}

/** Says what a caller can mend, and nothing of keys. */
function reasonOf(err: unknown): string {
  if (err instanceof errors.JWTExpired) return 'the token has expired';
  if (err instanceof errors.JWTClaimValidationFailed) return `the claim ${err.claim} of the token does not hold`;
  return 'the token does not hold';
}
