import type { CartCheckout } from '../order/cart-checkout.js';
import type { CartOwner } from './cart-owner.js';

export const LINES_MAX = 100;
export const QUANTITY_MAX = 10_000;

export interface CartLine {
  readonly skuId: bigint;
  /** 1 to 10,000. */
  readonly quantity: number;
  readonly selected: boolean;
  /** In whole seconds. */
  readonly addedAt: Date;
  /** List price of a unit when the line was added; undefined: not known. */
  readonly priceFen: bigint | undefined;
}

/** A cart as the working copy has it. */
export interface WorkingCart {
  /** In microseconds since 1970; every change raises it. */
  readonly version: bigint;
  /** The last checkout whose lines have left it. */
  readonly taken: bigint;
  readonly lines: readonly CartLine[];
}

/** The cart is not in the working copy: load it, then ask again. */
export type NotLoaded = { readonly kind: 'NOT_LOADED'; readonly owner: CartOwner };

export interface PutTerms {
  readonly skuId: bigint;
  readonly quantity: number | undefined;
  readonly selected: boolean | undefined;
  /** List price of a unit, for a new line. */
  readonly priceFen: bigint;
  /** Whether a line may be added; otherwise only one that is there is changed. */
  readonly mayAdd: boolean;
}

export type PutResult =
  | { readonly kind: 'PUT'; readonly line: CartLine }
  /** It may not be added. */
  | { readonly kind: 'NO_LINE' }
  /** It has `LINES_MAX` lines. */
  | { readonly kind: 'FULL' }
  /** It was merged into another cart. */
  | { readonly kind: 'MERGED' };

export interface MergeResult {
  readonly kind: 'MERGED';
  /** Lines of the guest cart that the user's has now; 0: it was merged before, or is empty. */
  readonly mergedLines: number;
  /** Skus whose quantity reached the limit. */
  readonly capped: readonly bigint[];
  /** Skus that there was no room for. */
  readonly dropped: readonly bigint[];
}

/** A cart with what was not saved yet. */
export interface UnsavedCart extends WorkingCart {
  readonly owner: CartOwner;
  /** The version that was last saved. */
  readonly savedVersion: bigint;
  /** Guest carts that were merged into it and are not saved as merged yet. */
  readonly merges: readonly MergedGuest[];
}

export interface MergedGuest {
  readonly id: string;
  readonly expiresAt: Date;
}

/** A cart as it was last saved. */
export interface SavedCart {
  readonly version: bigint;
  readonly taken: bigint;
  readonly merged: boolean;
  readonly lines: readonly CartLine[];
  /** Later than `taken`, by id: their lines have to leave the copy. */
  readonly checkouts: readonly CartCheckout[];
}

export interface CartBacklog {
  readonly units: number;
  readonly oldestAgeMs: number;
}

export interface CartTimes {
  /** A change is saved within this time. */
  readonly saveAfterMs: number;
  /** How long a saved cart stays in the working copy untouched. */
  readonly ttlMs: number;
}

/** What a load brings into the working copy. */
export interface CartCopy extends WorkingCart {
  readonly merged: boolean;
  /** It differs from what is saved. */
  readonly changed: boolean;
}

/**
 * The working copies of carts. Each method is one step: another caller sees all of it or nothing.
 *
 * A cart without lines differs from one that is not there: the store knows which carts it has. A cart that was saved
 * leaves it when it was not touched for the time to live; one that was not saved stays.
 *
 * @throws UNAVAILABLE
 */
export abstract class CartStore {
  /** Also says that the cart is still in use. */
  abstract read(owner: CartOwner): Promise<({ readonly kind: 'CART' } & WorkingCart) | NotLoaded>;
  abstract put(owner: CartOwner, terms: PutTerms): Promise<PutResult | NotLoaded>;
  /** @param skuIds undefined: all lines */
  abstract remove(owner: CartOwner, skuIds?: readonly bigint[]): Promise<{ readonly kind: 'REMOVED' } | NotLoaded>;
  /** Takes the quantities of a checkout out of the cart, once. A line that has more units keeps the rest. */
  abstract take(owner: CartOwner, checkout: CartCheckout): Promise<{ readonly kind: 'TAKEN' } | NotLoaded>;
  /** Moves all lines of the guest cart, and closes it if it had any. */
  abstract merge(guest: CartOwner, user: CartOwner): Promise<MergeResult | NotLoaded>;
  /** Brings a cart in, if it is not there. @param replaced also if it is there with this version */
  abstract load(owner: CartOwner, copy: CartCopy, replaced?: bigint): Promise<void>;
  /** Carts that are due to be saved, the longest waiting first. Another call gives them again after `leaseMs`. */
  abstract claimUnsaved(limit: number, leaseMs: number): Promise<readonly CartOwner[]>;
  /** Their state now; undefined: it is gone. An error: it cannot be read. */
  abstract findUnsaved(owners: readonly CartOwner[]): Promise<readonly (UnsavedCart | Error | undefined)[]>;
  /** They were saved as given. A cart that has changed since stays unsaved. */
  abstract markSaved(carts: readonly UnsavedCart[]): Promise<void>;
  /** A version above theirs was saved before: their versions are raised above it, and they are due again. */
  abstract raiseVersions(carts: readonly { readonly owner: CartOwner; readonly savedVersion: bigint }[]): Promise<void>;
  /** Carts that are not saved yet, and since when the oldest waits. */
  abstract backlog(): Promise<CartBacklog>;
}

/** The copies of carts that survive. */
export abstract class SavedCarts {
  /** With checkouts that it does not reflect. @returns undefined: it was never saved and nothing left it */
  abstract find(owner: CartOwner): Promise<SavedCart | undefined>;
  /**
   * Saves those that are newer than what is saved, marks the guest carts that were merged into them, and forgets their
   * checkouts.
   *
   * @param carts different ones
   * @returns for each the version that is saved now: its own, or a higher one, with which it was left as it was
   */
  abstract save(carts: readonly UnsavedCart[]): Promise<readonly bigint[]>;
}
