import { createPrivateKey, type KeyObject } from 'node:crypto';
import { SignJWT } from 'jose';
import { signingKeyMissing } from '../../../gen/user/v1/errors.js';
import { type Token, TokenSigner } from '../../biz/user/user.js';
import type { Config } from '../../conf/config.js';

/** Signs what the server accepts in `auth.mode: jwt`: the same algorithm, issuer and audience. */
export class JwtTokenSigner extends TokenSigner {
  private readonly key: Uint8Array | KeyObject | undefined;

  constructor(private readonly auth: Pick<Config['auth'], 'mode' | 'jwt'>) {
    super();
    this.key = keyOf(auth.jwt);
  }

  override requireKey(): void {
    if (this.key || this.auth.mode === 'header') return;
    const { algorithm } = this.auth.jwt;
    throw signingKeyMissing(`no ${algorithm} token can be made here: auth.jwt.private_key is not configured`, {
      metadata: { algorithm },
    });
  }

  override async sign(userId: string, generation: bigint): Promise<Token | undefined> {
    if (!this.key) return undefined;
    const { algorithm, issuer, audience, lifetimeMs } = this.auth.jwt;
    const issuedAt = Math.floor(Date.now() / 1_000);
    const expiresAt = issuedAt + Math.floor(lifetimeMs / 1_000);
    const jwt = new SignJWT({ gen: Number(generation) })
      .setProtectedHeader({ alg: algorithm, typ: 'JWT' })
      .setSubject(userId)
      .setIssuedAt(issuedAt)
      .setExpirationTime(expiresAt);
    // In auth.mode header they need not be named.
    if (issuer !== '') jwt.setIssuer(issuer);
    if (audience !== '') jwt.setAudience(audience);
    return { text: await jwt.sign(this.key), expiresAt: new Date(expiresAt * 1_000) };
  }
}

function keyOf({ algorithm, secret, privateKey }: Config['auth']['jwt']): Uint8Array | KeyObject | undefined {
  if (algorithm === 'HS256') return secret === '' ? undefined : new TextEncoder().encode(secret);
  return privateKey === '' ? undefined : createPrivateKey(privateKey);
}
