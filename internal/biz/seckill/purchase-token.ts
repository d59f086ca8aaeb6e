import { createHmac, timingSafeEqual } from 'node:crypto';

export interface PurchaseTokenPolicy {
  /** The first signs; any of them is taken, so that one can take another's place without a gap. */
  readonly secrets: readonly [string, ...string[]];
  /** How long a token is taken, and how long a turn of a sale's line lasts. */
  readonly ttlMs: number;
}

/** What a token is good for. */
export interface TokenScope {
  /** The same over every opening of the sale, so that a token outlives a rebuild of admission. */
  readonly saleId: bigint;
  readonly userId: string;
}

export type TokenCheck =
  | { readonly kind: 'GOOD'; readonly id: string }
  | { readonly kind: 'EXPIRED' }
  | { readonly kind: 'FOREIGN' };

const FORMAT = /^1\.([0-9]{1,15})\.([A-Za-z0-9_-]{1,64})\.([A-Za-z0-9_-]{43})$/;

/**
 * Makes purchase tokens and knows them again, with nothing stored: `1.<expires ms>.<id>.<HMAC-SHA256>`. The HMAC covers
 * the sale and the user, so that it is valid only for this user and this sale. Admission honours an id once.
 */
export class PurchaseTokens {
  constructor(
    readonly policy: PurchaseTokenPolicy,
    private readonly now: () => number = Date.now,
  ) {}

  /** @param id of at most 64 letters, digits, - and _ */
  issue(scope: TokenScope, id: string, expiresAtMs: number): string {
    const signature = sign(this.policy.secrets[0], scope, String(expiresAtMs), id).toString('base64url');
    return `1.${expiresAtMs}.${id}.${signature}`;
  }

  /** FOREIGN: not made here, or for another user or another sale; which of these is not told. */
  check(scope: TokenScope, token: string): TokenCheck {
    const [, expires, id, signature] = FORMAT.exec(token) ?? [];
    if (expires === undefined || id === undefined || signature === undefined) return { kind: 'FOREIGN' };
    const given = Buffer.from(signature, 'base64url');
    const made = this.policy.secrets.some((secret) => timingSafeEqual(given, sign(secret, scope, expires, id)));
    if (!made) return { kind: 'FOREIGN' };
    return Number(expires) > this.now() ? { kind: 'GOOD', id } : { kind: 'EXPIRED' };
  }
}

function sign(secret: string, { saleId, userId }: TokenScope, expires: string, id: string): Buffer {
  return createHmac('sha256', secret).update(`purchase-token.1\n${saleId}\n${userId}\n${expires}\n${id}`).digest();
}
