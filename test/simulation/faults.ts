import { isUnavailable } from '../../gen/common/v1/errors.js';
import { KratosError } from '../../internal/kratos/errors/error.js';
import { type Around, Conflict, ConnectionLost, ProcessDied } from '../support/memory/store.js';
import type { Random } from './random.js';
import type { Scheduler } from './scheduler.js';

/** The process that served a call died, or its reply was lost, so the caller does not know the outcome. */
class NoReply extends Error {
  override readonly name = 'NoReply';
}

interface Call {
  readonly name: string;
  readonly die: () => void;
  /** Whatever else its process was doing goes no further. */
  dead: boolean;
  /** Its process does not die: other calls wait for the same result. */
  readonly shared?: boolean;
}

const MAX_TRIES = 60;
const TRACE = 60;

/** Faults between an actor and the store, and between a caller and the process that serves it. */
export class Faults {
  /** Switched off while the remaining work is finished. */
  active = true;
  /** Called when the process of a call has died. */
  onDeath: (process: unknown) => void = () => {};
  /** The last operations with their faults. */
  readonly trace: string[] = [];

  constructor(
    private readonly random: Random,
    private readonly scheduler: Scheduler,
    /** Probability of a fault in each operation. */
    private readonly rate: number,
  ) {}

  /** Around each statement. */
  readonly around: Around = async (operation, work) => {
    await this.scheduler.turn();
    this.endIfDead();
    const fault = this.next();
    this.note(operation, fault);
    switch (fault) {
      case 'none':
        return work();
      case 'lost before':
        throw new ConnectionLost(operation);
      case 'lost after':
        await work();
        throw new ConnectionLost(operation);
      case 'died before':
        throw this.died();
      case 'died after':
        await work();
        throw this.died();
      case 'conflict':
        throw new Conflict(operation);
      default:
        return fault satisfies never;
    }
  };

  /** Waits for a lock. */
  async pause(wait: Promise<void>): Promise<void> {
    await this.scheduler.after(wait);
    this.endIfDead();
  }

  /** Calls another process, which may never answer. @throws NoReply */
  async call<T>(name: string, work: () => Promise<T>): Promise<T> {
    const { context } = this.scheduler;
    const result = await new Promise<T>((resolve, reject) => {
      const own: Call = {
        name,
        dead: false,
        die: () => {
          own.dead = true;
          reject(new NoReply(name));
        },
      };
      this.scheduler.context = own;
      // Takes a turn first: nothing else may run between setting the context and the first turn, which keeps it.
      this.scheduler.turn().then(work).then(resolve, reject);
      this.scheduler.context = context;
    });
    if (this.occurs()) {
      this.note(`reply of ${name}`, 'lost');
      throw new NoReply(name);
    }
    return result;
  }

  /** Reads what several calls of a process wait for. The process, which would take them all along, does not die of it. */
  shared<T>(work: () => Promise<T>): Promise<T> {
    const { context } = this.scheduler;
    this.scheduler.context = { ...(context as Call), shared: true };
    const result = work();
    this.scheduler.context = context;
    return result;
  }

  /** Repeats a call until there is an answer: a result, or an error of the domain. */
  async insist<T>(name: string, work: () => Promise<T>): Promise<T | KratosError> {
    for (let i = 0; i < MAX_TRIES; i++) {
      try {
        return await this.call(name, work);
      } catch (err) {
        if (err instanceof NoReply || isUnavailable(err)) continue;
        if (err instanceof KratosError) return err;
        throw err;
      }
    }
    throw new Error(`${name} got no answer in ${MAX_TRIES} tries`);
  }

  /** Calls once. @returns undefined after a fault, because background work is repeated anyway */
  async attempt<T>(name: string, work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await this.call(name, work);
    } catch (err) {
      if (err instanceof NoReply || isUnavailable(err)) return undefined;
      throw err;
    }
  }

  occurs(): boolean {
    return this.active && this.random.chance(this.rate);
  }

  private next() {
    if (!this.occurs()) return 'none';
    const fault = this.random.pick(['lost before', 'lost after', 'died before', 'died after', 'conflict'] as const);
    const isDeath = fault === 'died before' || fault === 'died after';
    return isDeath && (this.scheduler.context as Call | undefined)?.shared ? 'lost before' : fault;
  }

  /** The process may have died in another part of its work. */
  private endIfDead(): void {
    if ((this.scheduler.context as Call | undefined)?.dead) throw new ProcessDied(() => {});
  }

  private died(): ProcessDied {
    const call = this.scheduler.context as Call | undefined;
    if (!call) throw new Error('a statement outside of any call');
    return new ProcessDied(() => {
      this.onDeath(call);
      call.die();
    });
  }

  private note(operation: string, fault: string): void {
    const by = (this.scheduler.context as Call | undefined)?.name ?? '';
    this.trace.push(`${by}: ${operation}${fault === 'none' ? '' : ` — ${fault}`}`);
    if (this.trace.length > TRACE) this.trace.shift();
  }
}
