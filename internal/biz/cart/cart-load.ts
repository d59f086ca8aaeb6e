import { unavailable } from '../../../gen/common/v1/errors.js';
import type { CartOwner } from './cart-owner.js';
import type { CartCopy, CartStore, NotLoaded, SavedCart, SavedCarts, WorkingCart } from './cart-store.js';

/** Another process may remove what was just loaded, by a flush of Redis; not again and again. */
const ATTEMPTS = 4;

/** Brings carts that are not in the working copy back from what was saved. */
export class CartLoader {
  constructor(
    private readonly store: CartStore,
    private readonly saved: SavedCarts,
  ) {}

  /** Runs `step`, and again after it asked for a cart. @param owners the carts that it may ask for */
  async run<T extends { readonly kind: string }>(
    owners: readonly CartOwner[],
    step: () => Promise<T | NotLoaded>,
  ): Promise<T> {
    for (let attempt = 0; attempt <= ATTEMPTS * owners.length; attempt++) {
      const result = await step();
      if (!isNotLoaded(result)) return result;
      await this.store.load(result.owner, copyOf(await this.saved.find(result.owner)));
    }
    throw unavailable('the cart cannot be loaded');
  }

  /** Replaces a working copy that is older than what is saved, unless it has changed since it was read. */
  async catchUp(owner: CartOwner, cart: WorkingCart, saved: SavedCart): Promise<void> {
    await this.store.load(owner, copyOf(saved), cart.version);
  }

  read(owner: CartOwner): Promise<{ readonly kind: 'CART' } & WorkingCart> {
    return this.run([owner], () => this.store.read(owner));
  }
}

/** @param saved undefined: it was never saved */
function copyOf(saved: SavedCart | undefined): CartCopy {
  if (!saved) return { version: 0n, taken: 0n, merged: false, changed: false, lines: [] };
  const { version, merged, checkouts } = saved;
  const left = new Map(saved.lines.map((line) => [line.skuId, line]));
  for (const { skuId, quantity } of checkouts.flatMap((c) => c.lines)) {
    const line = left.get(skuId);
    if (!line) continue;
    if (line.quantity > quantity) left.set(skuId, { ...line, quantity: line.quantity - quantity });
    else left.delete(skuId);
  }
  const taken = checkouts.at(-1)?.id ?? saved.taken;
  return { version, taken, merged, changed: taken !== saved.taken, lines: [...left.values()] };
}

function isNotLoaded(result: { readonly kind: string }): result is NotLoaded {
  return result.kind === 'NOT_LOADED';
}
