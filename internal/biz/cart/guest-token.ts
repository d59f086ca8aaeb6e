import { createHmac, randomUUID, timingSafeEqual } from 'node:crypto';
import { cartTokenExpired, cartTokenInvalid } from '../../../gen/cart/v1/errors.js';
import { type CartOwner, type GuestToken, ownerOfToken } from './cart-owner.js';

export interface GuestTokenPolicy {
  /** The first signs; any of them is taken, so that one can take another's place without a gap. */
  readonly secrets: readonly [string, ...string[]];
  readonly ttlMs: number;
}

/**
 * Issues the tokens of guest carts and knows them again, with nothing stored: `1.<expires ms>.<random UUID>.<HMAC-SHA256>`.
 * A cart is named by its whole token, so a token has one spelling only: the signature is compared as text.
 */
export class GuestTokens {
  constructor(
    private readonly policy: GuestTokenPolicy,
    private readonly now: () => number = Date.now,
  ) {}

  issue(): GuestToken {
    const expiresAt = new Date(this.now() + this.policy.ttlMs);
    const content = `1.${expiresAt.getTime()}.${randomUUID()}`;
    return { token: `${content}.${sign(this.policy.secrets[0], content)}`, expiresAt };
  }

  /** @throws CART_TOKEN_INVALID, CART_TOKEN_EXPIRED */
  ownerOf(token: string): CartOwner & { readonly guest: GuestToken } {
    const owner = ownerOfToken(token);
    if (!owner?.guest || !this.issued(token)) throw cartTokenInvalid('x-cart-token is no token of a guest cart');
    const { id, guest } = owner;
    if (guest.expiresAt.getTime() <= this.now()) throw cartTokenExpired('the guest cart has expired');
    return { id, guest };
  }

  private issued(token: string): boolean {
    const end = token.lastIndexOf('.');
    const signature = Buffer.from(token.slice(end + 1));
    return this.policy.secrets.some((secret) =>
      timingSafeEqual(signature, Buffer.from(sign(secret, token.slice(0, end)))),
    );
  }
}

/** 43 characters. */
function sign(secret: string, content: string): string {
  return createHmac('sha256', secret).update(`guest-cart.1\n${content}`).digest('base64url');
}
