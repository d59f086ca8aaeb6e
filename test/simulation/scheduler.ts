import type { Random } from './random.js';

/** No actor can go on: all of them wait for locks, or the run takes too many turns. */
export class Stuck extends Error {
  override readonly name = 'Stuck';
}

/**
 * Runs one actor at a time, from one turn to its next, in an order that follows from the seed. Between two turns an actor
 * must not wait for anything outside of the simulation.
 */
export class Scheduler {
  /** The running actor's own; restored at its next turn. AsyncLocalStorage takes five times as long. */
  context: unknown;
  private readonly parked: (() => void)[] = [];

  constructor(
    private readonly random: Random,
    private readonly maxTurns: number,
  ) {}

  /** Waits until it is this actor's turn again. */
  async turn(): Promise<void> {
    await this.after(undefined);
  }

  /** Waits for another actor, and then for a turn. */
  async after(wait: Promise<void> | undefined): Promise<void> {
    const { context } = this;
    if (wait) await wait;
    await new Promise<void>((resolve) => this.parked.push(resolve));
    this.context = context;
  }

  /** Runs until all actors have ended. @throws the first error of an actor, or Stuck */
  async run(actors: readonly (() => Promise<void>)[]): Promise<void> {
    let left = actors.length;
    let failure: { readonly err: unknown } | undefined;
    for (const actor of actors) {
      actor().then(
        () => left--,
        (err: unknown) => {
          failure ??= { err };
        },
      );
    }
    for (let turns = 0; ; turns++) {
      // By the next immediate, everything that can run without a turn has run.
      await new Promise((resolve) => setImmediate(resolve));
      if (failure) throw failure.err;
      if (left === 0) return;
      if (turns >= this.maxTurns) throw new Stuck(`${left} actors still run after ${turns} turns`);
      if (this.parked.length === 0) throw new Stuck(`${left} actors wait for each other`);
      const i = this.random.int(this.parked.length);
      this.parked.splice(i, 1)[0]?.();
    }
  }
}
