/**
 * The reference `cart-limit`: the product process with all its middlewares, and a CartService that does nothing but one bare
 * HSET or HGETALL.
 */
import { Container } from 'inversify';
import type { Cart, CartItem, GetCartRequest, PutCartItemRequest } from '../gen/cart/v1/cart.js';
import { CartUsecase } from '../internal/biz/cart/cart.js';
import { CartCheckoutUsecase } from '../internal/biz/cart/cart-checkout.js';
import { GuestTokens } from '../internal/biz/cart/guest-token.js';
import { productBizModule } from '../internal/biz/product-module.js';
import { LiveConfig } from '../internal/conf/live.js';
import { processSettings } from '../internal/conf/process.js';
import { productDataModule } from '../internal/data/product-module.js';
import { RedisServer } from '../internal/data/redis/redis.js';
import { registryModule, sharedDataModule } from '../internal/data/shared-module.js';
import { App } from '../internal/kratos/app/app.js';
import { runProcess } from '../internal/kratos/app/process.js';
import { providers } from '../internal/kratos/app/wiring.js';
import type { CallContext } from '../internal/kratos/transport/call-context.js';
import { productServerModule } from '../internal/server/product-module.js';
import { contextModule, sharedServerModule } from '../internal/server/shared-module.js';
import { CartService } from '../internal/service/cart.js';
import { productServiceModule } from '../internal/service/product-module.js';
import { replaced } from '../test/support/wiring.js';

/** Those of the product process. */
const MODULES = [
  registryModule,
  sharedDataModule,
  productDataModule,
  productBizModule,
  productServiceModule,
  productServerModule,
  sharedServerModule,
];

/** A line as carts store it, without its first part, the quantity. */
const REST = ',"add_time":1700000000,"selected":true,"price":9900}';
const UNKNOWN = {
  spuId: 0n,
  spuName: '',
  skuName: '',
  skuImage: '',
  specs: {},
  priceFen: 0n,
  freeUnits: 0n,
  marks: [],
};

class BareCartService extends CartService {
  constructor(
    private readonly redis: RedisServer,
    ...rest: ConstructorParameters<typeof CartService>
  ) {
    super(...rest);
  }

  override async putCartItem(
    { skuId, quantity = 1 }: PutCartItemRequest,
    { identity }: CallContext,
  ): Promise<CartItem> {
    const text = `{"qty":${quantity}${REST}`;
    await this.redis.commands.hset(`bare:${identity.userId}`, String(skuId), text);
    return itemOf(String(skuId), text);
  }

  override async getCart(_req: GetCartRequest, { identity }: CallContext): Promise<Cart> {
    const stored = await this.redis.commands.hgetall(`bare:${identity.userId}`);
    const lines = Object.entries(stored).map(([skuId, text]) => ({ ...UNKNOWN, item: itemOf(skuId, text) }));
    return { lines, quote: undefined };
  }
}

function itemOf(skuId: string, text: string): CartItem {
  const { qty: quantity, selected, add_time: addedS, price } = JSON.parse(text);
  const addedAt = new Date(addedS * 1_000);
  return { skuId: BigInt(skuId), quantity, selected, addedAt, addedPriceFen: BigInt(price) };
}

process.exitCode = await runProcess({
  name: 'product',
  argv: process.argv.slice(2),
  openConfig: (path: string) => new LiveConfig(path),
  settingsOf: processSettings,
  wire: async (context) => {
    const bare = providers(({ create }) => {
      create(
        CartService,
        [RedisServer, CartUsecase, CartCheckoutUsecase, GuestTokens],
        (redis, ...rest) => new BareCartService(redis, ...rest),
      );
    });
    const container = new Container({ defaultScope: 'Singleton' });
    container.load(contextModule(context), ...replaced(MODULES, bare));
    return container.getAsync(App);
  },
});
