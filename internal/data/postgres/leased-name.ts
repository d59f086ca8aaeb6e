import { unavailable } from '../../../gen/common/v1/errors.js';
import type { AdvisoryLocks, LockHolder } from './advisory-locks.js';

/** First half of the advisory lock's key; the second is the hash of the name. */
const LOCK_CLASS = 0x6b6e;
/** Replicas that may want one name at the same time. */
const MOST = 1_000;

/**
 * A name that no other process has while this one holds it: `base`, or `base.1`, `base.2` … where others have those
 * before. The first free one is taken, so that a process that starts again gets its old name, or that of another one
 * that is gone.
 */
export class LeasedName {
  private held: string | undefined;
  private last: string;
  private opened: Promise<void> | undefined;
  private readonly holder: LockHolder = {
    take: async (tryLock) => {
      // After a lost connection its own name first.
      const candidates = [
        this.last,
        ...Array.from({ length: MOST }, (_, i) => (i === 0 ? this.base : `${this.base}.${i}`)),
      ];
      for (const name of candidates) {
        if (!(await tryLock(LOCK_CLASS, name))) continue;
        this.last = name;
        this.held = name;
        return;
      }
      throw unavailable(`${MOST} replicas have the name ${this.base}`);
    },
    lost: () => {
      this.held = undefined;
    },
  };

  constructor(
    private readonly locks: AdvisoryLocks,
    private readonly base: string,
  ) {
    this.last = base;
  }

  /** The name, taken at the first call. @throws UNAVAILABLE while none is held */
  async hold(): Promise<string> {
    this.opened ??= this.locks.hold(this.holder);
    await this.opened;
    if (this.held === undefined) throw unavailable('this replica holds no name: the database does not answer');
    return this.held;
  }
}
