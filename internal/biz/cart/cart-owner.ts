import { isUuid } from '../identity.js';

/** Whose cart. */
export interface CartOwner {
  /** UUID of the user, or the one in the guest's token. */
  readonly id: string;
  /** undefined: a user's cart. */
  readonly guest: GuestToken | undefined;
}

/** A token that CreateGuestCart has issued. */
export interface GuestToken {
  readonly token: string;
  readonly expiresAt: Date;
}

const GUEST = 'guest:';
/** What `GuestTokens` issues, without a look at its signature. */
const TOKEN = /^1\.([1-9][0-9]{0,14})\.([0-9a-f-]{36})\.[A-Za-z0-9_-]{43}$/;

export function userCart(userId: string): CartOwner {
  return { id: userId, guest: undefined };
}

/** What the cart is called in the working copy: the UUID of its user, or `guest:` and the token. */
export function cartName({ id, guest }: CartOwner): string {
  return guest ? `${GUEST}${guest.token}` : id;
}

/** @returns undefined for text that names no cart */
export function ownerOfName(name: string): CartOwner | undefined {
  if (name.startsWith(GUEST)) return ownerOfToken(name.slice(GUEST.length));
  return isUuid(name) ? userCart(name) : undefined;
}

/** @returns undefined for text that has not the form of a token; whether it was issued here is another question */
export function ownerOfToken(token: string): CartOwner | undefined {
  const [, expires, id] = TOKEN.exec(token) ?? [];
  if (expires === undefined || id === undefined || !isUuid(id)) return undefined;
  return { id, guest: { token, expiresAt: new Date(Number(expires)) } };
}
