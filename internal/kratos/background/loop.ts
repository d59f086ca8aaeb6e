import type { Server } from '../app/server.js';
import type { Logger } from '../log/logger.js';
import type { BackgroundMeter } from './background-meter.js';
import { RoundLoop } from './round-loop.js';

export interface LoopOptions {
  readonly name: string;
  /**
   * One piece of work, bounded in size. Resolves with how much it did: after some it runs again at once, after none it
   * waits. `signal` is aborted when the server stops and waits no longer.
   */
  readonly round: (signal: AbortSignal) => Promise<number>;
  /** Wait after a round that found nothing; after rounds that failed it doubles. */
  readonly idleMs: number;
  readonly logger: Logger;
}

/** A background server that works in rounds, one at a time, and outlives whatever a round throws. */
export class Loop implements Server {
  readonly name: string;
  readonly #rounds: RoundLoop;
  readonly #round: LoopOptions['round'];
  readonly #giveUp = new AbortController();
  #meter: BackgroundMeter | undefined;

  constructor({ name, round, idleMs, logger }: LoopOptions) {
    this.name = name;
    this.#round = round;
    this.#rounds = new RoundLoop({ name, lanes: 1, pollIntervalMs: idleMs, round: () => this.#measured() }, logger);
  }

  observe(meter: BackgroundMeter): void {
    this.#meter = meter;
  }

  async start(): Promise<void> {
    this.#rounds.start();
  }

  /** Lets the round under way finish; at the deadline its signal is aborted. */
  async stop(deadline: AbortSignal): Promise<void> {
    await this.#rounds.stop(deadline);
    this.#giveUp.abort();
  }

  async #measured(): Promise<{ outcome: 'busy' | 'idle' }> {
    const startedAt = performance.now();
    try {
      const units = await this.#round(this.#giveUp.signal);
      this.#meter?.round(units, performance.now() - startedAt);
      return { outcome: units > 0 ? 'busy' : 'idle' };
    } catch (err) {
      this.#meter?.failed();
      throw err;
    }
  }
}
