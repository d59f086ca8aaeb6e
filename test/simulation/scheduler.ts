import type { Random } from './random.js';

/** Every actor waits for a lock that nobody will give back. */
export class Stuck extends Error {
  override readonly name = 'Stuck';
}

/**
 * Lets one actor run at a time, from one turn to its next, in an order that follows from the seed. What an actor does
 * between two turns must not wait for anything of the outside world.
 */
export class Scheduler {
  /** Whatever the actor whose turn it is wants to find again at its next turn. AsyncLocalStorage costs five times as much. */
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

  /** Waits for something that another actor does, and then for a turn. */
  async after(wait: Promise<void> | undefined): Promise<void> {
    const { context } = this;
    if (wait) await wait;
    await new Promise<void>((resolve) => this.parked.push(resolve));
    this.context = context;
  }

  /** Runs until all actors have ended. @throws what the first of them throws, or Stuck */
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
      // Everything that can run without a turn has run when the next immediate comes.
      await new Promise((resolve) => setImmediate(resolve));
      if (failure) throw failure.err;
      if (left === 0) return;
      if (turns >= this.maxTurns) throw new Stuck(`no rest after ${turns} turns, ${left} actors at work`);
      if (this.parked.length === 0) throw new Stuck(`${left} actors wait for each other`);
      const i = this.random.int(this.parked.length);
      this.parked.splice(i, 1)[0]?.();
    }
  }
}
