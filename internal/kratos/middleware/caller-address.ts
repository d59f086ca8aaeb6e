import { Observer } from '../transport/chain.js';
import type { ClientAddresses } from '../transport/client-address.js';
import type { End } from '../transport/watch-end.js';

/** Services that ask where a call comes from; for the calls of others it is not worked out. */
const SERVICES = new Set(['user.v1.UserService']);

const nothing: End = () => {};

export function callerAddress(clients: ClientAddresses): Observer {
  return new Observer((method) => {
    if (!SERVICES.has(method.parent.typeName)) return undefined;
    return (call) => {
      call.address = clients.keyOf(call);
      return nothing;
    };
  });
}
