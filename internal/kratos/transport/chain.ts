import type { DescMethod } from '@bufbuild/protobuf';
import type { Call, Next } from './call.js';
import { type End, watchEnd } from './watch-end.js';

/**
 * Wraps the whole handler: binding, decoding, the service and encoding. It is applied once to each method, at boot, so
 * that whatever depends only on the method (its role, its labels) is computed once. The first of a chain is the
 * outermost.
 */
export type Middleware = (next: Next, method: DescMethod) => Next;

/** Called when a call begins; returns a function that is called when it ends. Throwing refuses the call. */
export type Observe = (call: Call) => End;

/**
 * A middleware that acts only at the begin and the end of a call. Adjacent observers share one promise: one promise
 * each was measurable in the CPU time of a purchase.
 */
export class Observer {
  /** @param of the observer of a method's calls; undefined to skip them */
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
