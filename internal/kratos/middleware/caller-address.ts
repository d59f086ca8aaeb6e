import { Observer } from '../transport/chain.js';
import type { ClientAddresses } from '../transport/client-address.js';
import type { End } from '../transport/watch-end.js';

const nothing: End = () => {};

/**
 * Determines where a call comes from.
 * @param services full names of the services that need it; calls of others are skipped, which saves work
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
