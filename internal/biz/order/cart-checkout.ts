import type { Transaction } from '../transaction.js';
import type { OrderLine } from './goods-order-refusal.js';

/** A cart whose lines are to be ordered, as it was read. */
export interface ReadCart {
  readonly userId: string;
  /** The last checkout whose lines had left it. */
  readonly taken: bigint;
}

/** Lines that an order takes out of its user's cart. */
export interface NewCartCheckout {
  readonly userId: string;
  readonly orderId: bigint;
  readonly lines: readonly OrderLine[];
}

/** A stored one. Of two of a user the later one has the higher id. */
export interface CartCheckout extends NewCartCheckout {
  readonly id: bigint;
}

/**
 * What has to leave carts, written down with the orders. A checkout is open until its lines have left the working copy of
 * the cart, and is kept until the cart was saved without them: see `SavedCarts`.
 */
export abstract class CartCheckoutRepo {
  /**
   * Locks the users until `tx` ends, so that their checkouts come one after the other.
   * @returns those of the users that have a later checkout than the ones that had left their carts
   */
  abstract lockUsers(tx: Transaction, carts: readonly ReadCart[]): Promise<ReadonlySet<string>>;
  /** Of users that `tx` has locked and that have no open checkout. */
  abstract insert(tx: Transaction, checkouts: readonly NewCartCheckout[]): Promise<void>;
  /** Those of a user that are kept and later than `afterId`, by id. */
  abstract listOf(userId: string, afterId: bigint): Promise<readonly CartCheckout[]>;
  /** Open ones that are older than `minAgeMs` and later than `afterId`, by id. */
  abstract listOpen(minAgeMs: number, afterId: bigint, limit: number): Promise<readonly CartCheckout[]>;
  /** Their lines have left the working copies. */
  abstract close(ids: readonly bigint[]): Promise<void>;
}

/** The cart was read before the lines of an earlier order left it: they must not be ordered again. */
export class CartOutdated extends Error {
  override readonly name = 'CartOutdated';

  constructor() {
    super('the cart was read before the lines of an earlier order left it');
  }
}
