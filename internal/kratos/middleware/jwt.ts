import { createPublicKey } from 'node:crypto';
import { errors, type JWTPayload, jwtVerify } from 'jose';
import { unauthenticated } from '../errors/reasons.js';

export interface JwtOptions {
  /** The only algorithm that is accepted, so that a token cannot choose how it is verified. */
  readonly algorithm: string;
  /** Secret of an HMAC algorithm (HS256). */
  readonly secret: string;
  /** Public key of another algorithm, PEM. */
  readonly publicKey: string;
  readonly issuer: string;
  readonly audience: string;
  readonly clockToleranceMs: number;
}

/** The claims of a token whose signature, issuer, audience and expiry are valid. */
export interface Claims {
  readonly sub: string;
  /** Epoch seconds. */
  readonly exp: number;
  readonly [name: string]: unknown;
}

/** Verified tokens that are remembered: verifying a signature takes longer than most calls. */
const MAX_REMEMBERED = 10_000;

interface Remembered<T> {
  readonly value: T;
  readonly expiresAtMs: number;
}

/**
 * Verifies bearer tokens.
 *
 * @param map what is made of the claims, once for each token; it may throw UNAUTHENTICATED
 * @returns resolves with what `map` made; rejects with UNAUTHENTICATED for an invalid token
 */
export function jwtVerifier<T>(options: JwtOptions, map: (claims: Claims) => T): (token: string) => Promise<T> {
  const { algorithm, issuer, audience, clockToleranceMs } = options;
  const key = algorithm.startsWith('HS')
    ? new TextEncoder().encode(options.secret)
    : createPublicKey(options.publicKey);
  const remembered = new Map<string, Remembered<T>>();

  return async (token) => {
    const known = remembered.get(token);
    if (known && Date.now() < known.expiresAtMs) return known.value;
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
    const claims = payload as Claims;
    const value = map(claims);
    // The oldest goes first: a Map keeps the order of insertion.
    if (remembered.size >= MAX_REMEMBERED) remembered.delete(remembered.keys().next().value as string);
    remembered.set(token, { value, expiresAtMs: claims.exp * 1000 + clockToleranceMs });
    return value;
  };
}

/**
 * The token of an `authorization` header.
 * @throws UNAUTHENTICATED for another scheme
 */
export function bearerToken(authorization: string): string {
  const match = /^Bearer ([A-Za-z0-9._~+/=-]+)$/i.exec(authorization);
  if (!match?.[1]) throw unauthenticated('authorization must be "Bearer <token>"');
  return match[1];
}

/** Tells the caller what it can correct, and nothing about keys. */
function reasonOf(err: unknown): string {
  if (err instanceof errors.JWTExpired) return 'the token has expired';
  if (err instanceof errors.JWTClaimValidationFailed) return `invalid token: claim ${err.claim}`;
  return 'invalid token';
}
