import { Observer } from '../transport/chain.js';

/** Share of the age by which streams differ, so that those that began together do not reconnect together. */
const SPREAD = 0.1;

/** Asks bidirectional streams to end at this age. Handlers that do not listen stay open. */
export function streamAge(maxAgeMs: number): Observer {
  return new Observer((method) => {
    if (method.methodKind !== 'bidi_streaming') return undefined;
    return (call) => {
      const timer = setTimeout(() => call.askToEnd(), maxAgeMs * (1 - SPREAD * Math.random()));
      return () => clearTimeout(timer);
    };
  });
}
