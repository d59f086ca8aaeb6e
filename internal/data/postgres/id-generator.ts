import { randomInt } from 'node:crypto';
import { unavailable } from '../../../gen/common/v1/errors.js';
import { IdGenerator } from '../../biz/id-generator.js';
import type { AdvisoryLocks, LockHolder } from './advisory-locks.js';

const EPOCH_MS = Date.UTC(2024, 0, 1);
const WORKERS = 1024;
const SEQUENCES = 4096;
/** How far ids may run ahead of the clock after it was set back, or after a burst that used up the sequence numbers. */
const MAX_AHEAD_MS = 5_000;
/** First half of the key of the advisory lock. The second half is the worker number. */
const LOCK_CLASS = 0x6b6d;

/** Composes snowflake ids. They never decrease, even if the clock does. */
export class Snowflake {
  private lastMs = 0;
  private sequence = 0;

  constructor(
    private readonly worker: number,
    private readonly now: () => number = Date.now,
  ) {}

  /** @throws UNAVAILABLE when the clock was set back too far */
  next(): bigint {
    const nowMs = this.now();
    if (nowMs > this.lastMs) {
      this.lastMs = nowMs;
      this.sequence = 0;
    } else if (++this.sequence === SEQUENCES) {
      this.lastMs += 1;
      this.sequence = 0;
    }
    if (this.lastMs - nowMs > MAX_AHEAD_MS) {
      throw unavailable(`the clock is ${this.lastMs - nowMs} ms behind the last id`);
    }
    return (BigInt(this.lastMs - EPOCH_MS) << 22n) | (BigInt(this.worker) << 12n) | BigInt(this.sequence);
  }
}

/** When the id was generated. */
export function snowflakeTime(id: bigint): Date {
  return new Date(Number(id >> 22n) + EPOCH_MS);
}

/**
 * Holds a worker number by an advisory lock, so that no two processes have the same one. Without the lock it generates no
 * ids. An id that is generated after the loss of the lock, but before the process notices it, may collide with another one.
 * The primary keys then reject it, which costs a retry.
 */
export class LeasedIdGenerator extends IdGenerator {
  private snowflake: Snowflake | undefined;
  private readonly holder: LockHolder = {
    take: async (tryLock) => {
      const first = randomInt(WORKERS);
      for (let i = 0; i < WORKERS; i++) {
        const worker = (first + i) % WORKERS;
        if (!(await tryLock(LOCK_CLASS, worker))) continue;
        this.snowflake = new Snowflake(worker);
        return;
      }
      throw unavailable(`all ${WORKERS} worker numbers are taken`);
    },
    lost: () => {
      this.snowflake = undefined;
    },
  };

  constructor(private readonly locks: AdvisoryLocks) {
    super();
  }

  override nextId(): bigint {
    if (!this.snowflake) throw unavailable('no worker number for ids is held: the database does not answer');
    return this.snowflake.next();
  }

  /** Takes a number, now or as soon as the database answers. */
  open(): Promise<void> {
    return this.locks.hold(this.holder);
  }
}
