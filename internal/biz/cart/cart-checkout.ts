import { cartNothingSelected } from '../../../gen/cart/v1/errors.js';
import { isUnavailable, unavailable } from '../../../gen/common/v1/errors.js';
import type { CatalogRepo } from '../catalog/catalog.js';
import { type CartCheckout, type CartCheckoutRepo, CartOutdated } from '../order/cart-checkout.js';
import type { CreateGoodsOrder, GoodsOrderUsecase } from '../order/goods-order.js';
import type { Order } from '../order/order-state.js';
import { orderable, shownLine } from './cart.js';
import type { CartLoader } from './cart-load.js';
import { userCart } from './cart-owner.js';
import type { CartStore, SavedCarts, WorkingCart } from './cart-store.js';

export type CheckoutCart = Omit<CreateGoodsOrder, 'lines' | 'fromCart'>;

export interface CloseResult {
  readonly closed: number;
  readonly failures: readonly { readonly checkout: CartCheckout; readonly cause: unknown }[];
}

/** Another checkout of the user may come between, but not again and again. */
const ATTEMPTS = 5;
/** Checkouts of the process that created their orders are closed by it. */
const MIN_AGE_MS = 1_000;

/*
 * Turns the selected lines of a cart into an order:
 *
 *   repeated request id? → its order → read the cart → the transaction of the order, which writes down that the lines must
 *   leave the cart → the lines leave the working copy → the checkout is closed
 *
 * A process that dies after the transaction leaves an open checkout. The user's next checkout closes it first, and so does a
 * background server. The lines leave once, because the cart remembers the last checkout and they come in their order. And
 * they are ordered once: the transaction refuses a cart that was read before an earlier checkout left it.
 */
export class CartCheckoutUsecase {
  private afterId = 0n;

  constructor(
    private readonly store: CartStore,
    private readonly saved: SavedCarts,
    private readonly loader: CartLoader,
    private readonly catalog: CatalogRepo,
    private readonly orders: GoodsOrderUsecase,
    private readonly checkouts: CartCheckoutRepo,
  ) {}

  /** @throws CART_NOTHING_SELECTED, and what `GoodsOrderUsecase.create` throws */
  async checkOut(wanted: CheckoutCart): Promise<Order> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const order = (await this.orders.findCheckout(wanted)) ?? (await this.create(wanted));
      if (order) return order;
    }
    throw unavailable('other checkouts of this cart are under way');
  }

  /** Closes checkouts that the processes that created their orders have not closed. Each on its own. @throws UNAVAILABLE */
  async closeOpen(limit: number): Promise<CloseResult> {
    const open = await this.checkouts.listOpen(MIN_AGE_MS, this.afterId, limit);
    // One that cannot be closed is tried again in the next pass, so that the others do not wait for it.
    this.afterId = open.length < limit ? 0n : (open.at(-1)?.id ?? 0n);
    const failures: { checkout: CartCheckout; cause: unknown }[] = [];
    for (const checkout of open) {
      try {
        await this.close(checkout);
      } catch (cause) {
        if (isUnavailable(cause)) throw cause;
        failures.push({ checkout, cause });
      }
    }
    return { closed: open.length - failures.length, failures };
  }

  /** @returns undefined: the cart was outdated; try again */
  private async create(wanted: CheckoutCart): Promise<Order | undefined> {
    const { userId } = wanted;
    const cart = await this.loader.read(userCart(userId));
    const found = await this.catalog.findAllGoods(cart.lines.map((l) => l.skuId));
    const goods = new Map(found.map((g) => [g.sku.id, g]));
    const lines = orderable(cart.lines.map((line) => shownLine(line, goods.get(line.skuId))));
    let order: Order;
    try {
      if (lines.length === 0) throw cartNothingSelected('no line of the cart is selected and on sale');
      order = await this.orders.create({ ...wanted, lines, fromCart: { taken: cart.taken } });
    } catch (err) {
      if (!(err instanceof CartOutdated)) throw err;
      await this.catchUp(userId, cart);
      return undefined;
    }
    // The order stands. What fails here is done by the next checkout, or by the background server.
    await this.closeAfter(userId, cart.taken).catch(() => undefined);
    return order;
  }

  /** Takes checkouts out of a working copy that does not reflect them. */
  private async catchUp(userId: string, cart: WorkingCart): Promise<void> {
    const owner = userCart(userId);
    const saved = await this.saved.find(owner);
    // What is saved was in the working copy: since then it went back in time, as by a failover to a replica that lagged.
    if (saved && saved.taken > cart.taken) await this.loader.catchUp(owner, cart, saved);
    else await this.closeAfter(userId, cart.taken);
  }

  private async closeAfter(userId: string, taken: bigint): Promise<void> {
    for (const checkout of await this.checkouts.listOf(userId, taken)) await this.close(checkout);
  }

  private async close(checkout: CartCheckout): Promise<void> {
    const owner = userCart(checkout.userId);
    await this.loader.run([owner], () => this.store.take(owner, checkout));
    await this.checkouts.close([checkout.id]);
  }
}
