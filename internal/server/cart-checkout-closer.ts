import type { CartCheckoutUsecase } from '../biz/cart/cart-checkout.js';
import { Loop } from '../kratos/background/loop.js';
import type { Logger } from '../kratos/log/logger.js';

const IDLE_MS = 1_000;
/** Checkouts of one round. */
const BATCH = 100;

/** Takes ordered lines out of carts whose checkout died before it did so itself. */
export function cartCheckoutCloser(checkouts: CartCheckoutUsecase, logger: Logger): Loop {
  const logged = new Set<bigint>();
  return new Loop({
    name: 'cart_checkout_closer',
    idleMs: IDLE_MS,
    logger,
    round: async () => {
      const { closed, failures } = await checkouts.closeOpen(BATCH);
      for (const { checkout, cause } of failures) {
        // Once: it is tried again for as long as it fails.
        if (logged.has(checkout.id)) continue;
        logged.add(checkout.id);
        const { orderId, userId } = checkout;
        logger.error('the lines of an order cannot leave the cart', { orderId: String(orderId), userId, err: cause });
      }
      return { units: closed, isolated: failures.length, again: closed === BATCH };
    },
  });
}
