import { setTimeout as sleep } from 'node:timers/promises';
import type { BackgroundMeter } from '../biz/background-meter.js';
import type { Logger } from '../biz/logger.js';
import type { Server } from './server.js';

export interface LoopOptions {
  readonly name: string;
  /**
   * One piece of work, bounded in size. Resolves with how much it did: after some it runs again at once, after none it
   * waits. `signal` is aborted when the server stops and waits no longer.
   */
  readonly round: (signal: AbortSignal) => Promise<number>;
  /** Wait after a round that found nothing. */
  readonly idleMs: number;
  /** Longest wait after rounds that failed; it doubles from `idleMs` on. */
  readonly maxBackoffMs: number;
  readonly logger: Logger;
}

/** A background server that works in rounds, one at a time, and outlives whatever a round throws. */
export class Loop implements Server {
  readonly name: string;
  readonly #options: LoopOptions;
  readonly #stopping = new AbortController();
  readonly #giveUp = new AbortController();
  #done: Promise<void> = Promise.resolve();
  #meter: BackgroundMeter | undefined;

  constructor(options: LoopOptions) {
    this.name = options.name;
    this.#options = options;
  }

  observe(meter: BackgroundMeter): void {
    this.#meter = meter;
  }

  async start(): Promise<void> {
    this.#done = this.#run();
  }

  /** Lets the round under way finish; at the deadline its signal is aborted. */
  async stop(deadline: AbortSignal): Promise<void> {
    this.#stopping.abort();
    const giveUp = () => this.#giveUp.abort();
    if (deadline.aborted) giveUp();
    deadline.addEventListener('abort', giveUp, { once: true });
    await this.#done;
    deadline.removeEventListener('abort', giveUp);
  }

  async #run(): Promise<void> {
    const { round, idleMs, maxBackoffMs, logger } = this.#options;
    let failures = 0;
    while (!this.#stopping.signal.aborted) {
      let waitMs = idleMs;
      try {
        const startedAt = performance.now();
        const units = await round(this.#giveUp.signal);
        this.#meter?.round(units, performance.now() - startedAt);
        if (units > 0) waitMs = 0;
        failures = 0;
      } catch (err) {
        failures += 1;
        this.#meter?.failed();
        // Jitter, so that replicas that lost the same server do not come back in step.
        waitMs = Math.min(maxBackoffMs, idleMs * 2 ** Math.min(failures, 16)) * (0.5 + Math.random() / 2);
        logger.warn(`${this.name}: a round failed`, { err, failures, retryInMs: Math.round(waitMs) });
      }
      if (waitMs > 0) await this.#pause(waitMs);
    }
  }

  async #pause(ms: number): Promise<void> {
    try {
      await sleep(ms, undefined, { signal: this.#stopping.signal });
    } catch {
      // Woken by the stop.
    }
  }
}
