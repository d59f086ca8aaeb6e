import { rateLimited } from '../../../gen/common/v1/errors.js';
import type { AdaptiveLimiter } from '../adaptive-limiter.js';
import type { Middleware } from '../call.js';
import { watchEnd } from '../watch-end.js';

/** Health and reflection answer also, and just then, when there is too much to do. */
const EXEMPT = /^grpc\./;

/** Refuses unary calls above what the process can do. A stream is open for longer than it works: it is not counted. */
export function rateLimit(limiter: AdaptiveLimiter): Middleware {
  return (next, method) => {
    if (EXEMPT.test(method.parent.typeName) || method.methodKind !== 'unary') return next;
    return (call) => {
      const leave = limiter.enter();
      if (!leave) return Promise.reject(rateLimited('there is too much to do right now; try again shortly'));
      return watchEnd(next, call, leave);
    };
  };
}
