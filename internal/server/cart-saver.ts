import { cartName } from '../biz/cart/cart-owner.js';
import type { CartSaveUsecase } from '../biz/cart/cart-save.js';
import { Loop } from '../kratos/background/loop.js';
import type { Logger } from '../kratos/log/logger.js';

export interface CartSaverOptions {
  readonly saveAfterMs: number;
}

/** Carts that are remembered as logged. */
const LOGGED_MAX = 1_000;

/** Saves carts that have changed. Half of the time for it passes before a cart is due, a tenth between two looks. */
export function cartSaver(carts: CartSaveUsecase, { saveAfterMs }: CartSaverOptions, logger: Logger): Loop {
  const logged = new Set<string>();
  return new Loop({
    name: 'cart_saver',
    idleMs: Math.max(10, saveAfterMs / 10),
    logger,
    round: async () => {
      const { claimed, saved, failures } = await carts.saveDue();
      for (const { owner, cause } of failures) {
        const name = cartName(owner);
        // Once: it is tried again for as long as it fails.
        if (logged.has(name) || logged.size >= LOGGED_MAX) continue;
        logged.add(name);
        // Without the token of a guest, which gives access to the cart.
        logger.error('a cart cannot be saved', { guest: owner.guest !== undefined, owner: owner.id, err: cause });
      }
      return { units: saved, isolated: failures.length, again: claimed > 0 };
    },
  });
}
