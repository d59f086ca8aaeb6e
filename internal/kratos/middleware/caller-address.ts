import { Observer } from '../transport/chain.js';
import type { ClientAddresses } from '../transport/client-address.js';
import type { End } from '../transport/watch-end.js';

const nothing: End = () => {};

/**
 * Determines where a call comes from.
 * @param services full names of those that need it; for the calls of others the work is saved
 */
export function callerAddress(clients: ClientAddresses, services: readonly string[]): Observer {
  return new Observer((method) => {
    if (!services.includes(method.parent.typeName)) return undefined;
    return (call) => {
      call.address = clients.keyOf(call);
      return nothing;
    };
  });
}
