import { rateLimited } from '../errors/reasons.js';
import { Observer } from '../transport/chain.js';
import type { ClientAddresses } from '../transport/client-address.js';

export interface StreamLimitOptions {
  /** Open streams of this process. */
  readonly max: number;
  /** Of these, from one address (the /64 of an IPv6 client). */
  readonly maxPerAddress: number;
}

/** Open streams cost memory and a share of every change that they report, for as long as their callers like. */
const RETRY_AFTER_MS = 5_000;

/** Bounds the streams that are open at a time, over all transports. */
export function streamLimit(options: StreamLimitOptions, clients: ClientAddresses): Observer {
  const open = new Map<string, number>();
  let total = 0;
  const refuse = (limited: 'address' | 'process') =>
    rateLimited(`too many streams of this ${limited} are open`, {
      metadata: { limited },
      retryAfterMs: RETRY_AFTER_MS,
    });
  return new Observer((method) => {
    if (method.methodKind === 'unary' || method.methodKind === 'client_streaming') return undefined;
    return (call) => {
      const address = clients.keyOf(call);
      const count = open.get(address) ?? 0;
      if (total >= options.max) throw refuse('process');
      if (count >= options.maxPerAddress) throw refuse('address');
      total++;
      open.set(address, count + 1);
      return () => {
        total--;
        const left = (open.get(address) ?? 1) - 1;
        if (left > 0) open.set(address, left);
        else open.delete(address);
      };
    };
  });
}
