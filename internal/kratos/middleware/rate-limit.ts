import { rateLimited } from '../errors/reasons.js';
import { Observer } from '../transport/chain.js';
import type { AdaptiveLimiter } from './adaptive-limiter.js';

/** Health and reflection answer also, and just then, when there is too much to do. */
const EXEMPT = /^grpc\./;

const TOO_MUCH = 'there is too much to do right now; try again shortly';

/** Refuses unary calls above what the process can do. A stream is open for longer than it works: it is not counted. */
export function rateLimit(limiter: AdaptiveLimiter): Observer {
  return new Observer((method) => {
    if (EXEMPT.test(method.parent.typeName) || method.methodKind !== 'unary') return undefined;
    return () => {
      const leave = limiter.enter();
      if (!leave) throw rateLimited(TOO_MUCH, { retryAfterMs: 1_000 });
      return leave;
    };
  });
}
