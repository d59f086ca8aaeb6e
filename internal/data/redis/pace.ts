import { setTimeout as sleep } from 'node:timers/promises';

/** How the parts of a sale in segments wait. A simulation has its own, so that a run can be repeated. */
export interface Pace {
  /** Milliseconds of a clock that never goes back. */
  now(): number;
  /** Waits for a random time. */
  pause(maxMs: number): Promise<void>;
  /** Waits until `work` has ended, but no longer than that. */
  waitFor(work: Promise<unknown>, maxMs: number): Promise<void>;
}

export const REAL_PACE: Pace = {
  now: () => performance.now(),
  pause: (maxMs) => sleep(Math.random() * maxMs),
  waitFor: async (work, maxMs) => {
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<void>((resolve) => {
      // Timers come before input: what arrived while this process itself was held up is still read.
      timer = setTimeout(() => setImmediate(resolve), maxMs);
    });
    await Promise.race([work, timeout]);
    clearTimeout(timer);
  },
};
