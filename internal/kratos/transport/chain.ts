import type { DescMethod } from '@bufbuild/protobuf';
import type { Call, Next } from './call.js';
import { type End, watchEnd } from './watch-end.js';

/**
 * Wraps the whole handler: binding, decoding, the service and encoding. It is applied to each method once, at boot, so
 * that what hangs on the method alone (its role, its labels) is found there. The first of a chain is the outermost.
 */
export type Middleware = (next: Next, method: DescMethod) => Next;

/** Sees a call begin and, by what it returns, end. What it throws refuses the call. */
export type Observe = (call: Call) => End;

/**
 * A middleware that only looks at a call's begin and end. Neighbours in a chain share one promise: each of its own
 * showed in the CPU time of a purchase.
 */
export class Observer {
  /** @param of what observes the calls of a method; undefined: none of them */
  constructor(readonly of: (method: DescMethod) => Observe | undefined) {}
}

export type Layer = Middleware | Observer;

export function chain(layers: readonly Layer[], method: DescMethod, last: Next): Next {
  let next = last;
  let observers: Observe[] = [];
  for (const layer of [...layers].reverse()) {
    if (layer instanceof Observer) {
      const observe = layer.of(method);
      if (observe) observers.unshift(observe);
    } else {
      next = layer(observed(next, observers), method);
      observers = [];
    }
  }
  return observed(next, observers);
}

function observed(next: Next, observers: readonly Observe[]): Next {
  if (observers.length === 0) return next;
  return (call) => {
    const ends: End[] = [];
    const begin: Next = (begun) => {
      for (const observe of observers) ends.push(observe(begun));
      return next(begun);
    };
    return watchEnd(begin, call, (err) => {
      for (let i = ends.length - 1; i >= 0; i--) ends[i]?.(err);
    });
  };
}
