import {
  type Cart,
  type CartItem,
  type CartServiceService,
  type CheckoutCartRequest,
  type ClearCartReply,
  type ClearCartRequest,
  type CreateGuestCartRequest,
  type GetCartRequest,
  type GuestCart,
  CartLine_Mark as Mark,
  type MergeCartReply,
  type MergeCartRequest,
  type PutCartItemRequest,
  type RemoveCartItemReply,
  type RemoveCartItemRequest,
} from '../../gen/cart/v1/cart.js';
import { cartTokenInvalid } from '../../gen/cart/v1/errors.js';
import { unauthenticated } from '../../gen/common/v1/errors.js';
import type { Order } from '../../gen/order/v1/order.js';
import type { CartUsecase, ShownLine } from '../biz/cart/cart.js';
import type { CartCheckoutUsecase } from '../biz/cart/cart-checkout.js';
import { type CartOwner, userCart } from '../biz/cart/cart-owner.js';
import type { CartLine } from '../biz/cart/cart-store.js';
import type { GuestTokens } from '../biz/cart/guest-token.js';
import type { CallContext, ServiceOf } from '../kratos/transport/call-context.js';
import { userOf } from './caller.js';
import { orderReply } from './order.js';
import { quoteReply } from './pricing.js';

const TOKEN_HEADER = 'x-cart-token';

export class CartService implements ServiceOf<typeof CartServiceService> {
  constructor(
    private readonly carts: CartUsecase,
    private readonly checkouts: CartCheckoutUsecase,
    private readonly tokens: GuestTokens,
  ) {}

  async createGuestCart(_req: CreateGuestCartRequest): Promise<GuestCart> {
    return { ...this.tokens.issue() };
  }

  async getCart({ region, couponId }: GetCartRequest, ctx: CallContext): Promise<Cart> {
    const options = { region: region === '' ? undefined : region, couponId: couponId === 0n ? undefined : couponId };
    const { lines, quote } = await this.carts.get(this.ownerOf(ctx), options);
    return { lines: lines.map(lineReply), quote: quote && quoteReply(quote) };
  }

  async putCartItem({ skuId, quantity, selected }: PutCartItemRequest, ctx: CallContext): Promise<CartItem> {
    return itemReply(await this.carts.put(this.ownerOf(ctx), { skuId, quantity, selected }));
  }

  async removeCartItem({ skuId }: RemoveCartItemRequest, ctx: CallContext): Promise<RemoveCartItemReply> {
    await this.carts.remove(this.ownerOf(ctx), [skuId]);
    return {};
  }

  async clearCart(_req: ClearCartRequest, ctx: CallContext): Promise<ClearCartReply> {
    await this.carts.remove(this.ownerOf(ctx));
    return {};
  }

  async mergeCart(_req: MergeCartRequest, ctx: CallContext): Promise<MergeCartReply> {
    const userId = userOf(ctx);
    const token = tokenOf(ctx);
    if (token === undefined) throw cartTokenInvalid(`${TOKEN_HEADER} is required: it names the guest cart`);
    const { mergedLines, capped, dropped } = await this.carts.merge(this.tokens.ownerOf(token), userId);
    return { mergedLines, cappedSkuIds: [...capped], droppedSkuIds: [...dropped] };
  }

  async checkoutCart(req: CheckoutCartRequest, ctx: CallContext): Promise<Order> {
    const { requestId, receiver, remark, expectedAmountFen } = req;
    const couponId = req.couponId === 0n ? undefined : req.couponId;
    const wanted = { userId: userOf(ctx), requestId, receiver, remark, expectedAmountFen, couponId };
    return orderReply(await this.checkouts.checkOut(wanted));
  }

  /** @throws UNAUTHENTICATED, CART_TOKEN_INVALID, CART_TOKEN_EXPIRED */
  private ownerOf(ctx: CallContext): CartOwner {
    const { userId } = ctx.identity;
    if (userId !== undefined) return userCart(userId);
    const token = tokenOf(ctx);
    if (token === undefined) throw unauthenticated(`a cart needs a user, or ${TOKEN_HEADER} of a guest`);
    return this.tokens.ownerOf(token);
  }
}

function tokenOf(ctx: CallContext): string | undefined {
  const token = ctx.metadata(TOKEN_HEADER);
  return typeof token === 'string' && token !== '' ? token : undefined;
}

function lineReply({ line, goods, marks }: ShownLine): Cart['lines'][number] {
  return {
    item: itemReply(line),
    spuId: goods?.sku.spuId ?? 0n,
    spuName: goods?.spu.title ?? '',
    skuName: goods?.sku.skuName ?? '',
    skuImage: goods?.spu.mainImages[0] ?? '',
    specs: { ...goods?.sku.specs },
    priceFen: goods?.sku.priceFen ?? 0n,
    freeUnits: goods ? goods.sku.stock - goods.sku.lockStock : 0n,
    marks: marks.map((mark) => Mark[mark]),
  };
}

function itemReply({ skuId, quantity, selected, addedAt, priceFen }: CartLine): CartItem {
  return { skuId, quantity, selected, addedAt, addedPriceFen: priceFen ?? 0n };
}
