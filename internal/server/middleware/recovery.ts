import type { Middleware } from '../call.js';
import { watchEnd } from '../watch-end.js';

/** Outermost: whatever fails inside, also a middleware, leaves as a KaimaiError. */
export function recovery(): Middleware {
  return (next) => (call) => watchEnd(next, call, () => undefined);
}
