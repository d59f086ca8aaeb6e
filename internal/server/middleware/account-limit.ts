import type { TokenBuckets } from '../../kratos/middleware/token-buckets.js';
import { Observer } from '../../kratos/transport/chain.js';
import type { ClientAddresses } from '../../kratos/transport/client-address.js';
import type { End } from '../../kratos/transport/watch-end.js';
import { refuseUnlessNow } from './buyer-limit.js';

const nothing: End = () => {};

/** Limits registrations and logins per address, before a password is hashed. */
export function accountLimit(registrations: TokenBuckets, logins: TokenBuckets, clients: ClientAddresses): Observer {
  const bucketsOf = new Map([
    ['user.v1.UserService.Register', registrations],
    ['user.v1.UserService.Login', logins],
  ]);
  return new Observer((method) => {
    const buckets = bucketsOf.get(`${method.parent.typeName}.${method.name}`);
    if (!buckets) return undefined;
    return (call) => {
      if (buckets.enabled) refuseUnlessNow('address', buckets.take(clients.keyOf(call)));
      return nothing;
    };
  });
}
