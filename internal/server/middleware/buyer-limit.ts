import { tooManyRequests } from '../../../gen/common/v1/errors.js';
import type { TokenBuckets } from '../../kratos/middleware/token-buckets.js';
import { Observer } from '../../kratos/transport/chain.js';
import type { ClientAddresses } from '../../kratos/transport/client-address.js';
import type { End } from '../../kratos/transport/watch-end.js';

/** The RPCs that a rush of buyers calls, by what their calls are counted together with. */
export const PURCHASES: ReadonlySet<string> = new Set([
  'seckill.v1.SeckillService.Purchase',
  'seckill.v1.SeckillService.IssuePurchaseToken',
]);
export const ORDERS: ReadonlySet<string> = new Set([
  'order.v1.OrderService.CreateOrder',
  'cart.v1.CartService.CheckoutCart',
]);

const nothing: End = () => {};

/**
 * Limits the rate of these RPCs per user and per address, before a request is decoded or a server is asked. Services of the
 * system are not limited, because they call for many users.
 */
export function buyerLimit(
  operations: ReadonlySet<string>,
  users: TokenBuckets,
  addresses: TokenBuckets,
  clients: ClientAddresses,
): Observer {
  return new Observer((method) => {
    if (!operations.has(`${method.parent.typeName}.${method.name}`)) return undefined;
    return (call) => {
      const { role, userId } = call.identity;
      if (role === 'INTERNAL') return nothing;
      if (addresses.enabled) refuseUnlessNow('address', addresses.take(clients.keyOf(call)));
      if (userId !== undefined) refuseUnlessNow('user', users.take(userId));
      return nothing;
    };
  });
}

/** @throws TOO_MANY_REQUESTS if there is a wait */
export function refuseUnlessNow(limited: 'user' | 'address', waitMs: number): void {
  if (waitMs <= 0) return;
  const retryAfterMs = Math.ceil(waitMs);
  throw tooManyRequests(`this ${limited} calls too often; try again in ${retryAfterMs} ms`, {
    metadata: { limited, retry_after_ms: String(retryAfterMs) },
    retryAfterMs,
  });
}
