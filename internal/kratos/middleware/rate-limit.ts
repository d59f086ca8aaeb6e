import { rateLimited } from '../errors/reasons.js';
import { Observer } from '../transport/chain.js';
import type { AdaptiveLimiter } from './adaptive-limiter.js';

/** Health and reflection are never limited: they are needed most under overload. */
const EXEMPT = /^grpc\./;

const OVERLOADED = 'the server is overloaded; try again shortly';

/** Refuses unary calls while the process is overloaded. Streams do not count, since they are mostly idle. */
export function rateLimit(limiter: AdaptiveLimiter): Observer {
  return new Observer((method) => {
    if (EXEMPT.test(method.parent.typeName) || method.methodKind !== 'unary') return undefined;
    return () => {
      const leave = limiter.enter();
      if (!leave) throw rateLimited(OVERLOADED, { retryAfterMs: 1_000 });
      return leave;
    };
  });
}
