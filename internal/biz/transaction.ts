declare const opaque: unique symbol;

/** A database transaction under way. Passed, never ambient: a call that takes one does its writes in it. */
export interface Transaction {
  readonly [opaque]: true;
}

export abstract class TransactionRunner {
  /**
   * Runs `work` in one transaction and commits; rolls back when it throws. `work` may run more than once: a deadlock,
   * a serialization failure or a connection lost before COMMIT was sent is tried again, a bounded number of times.
   * No network call to another server belongs in it.
   *
   * @param options.idempotent also try again when the reply to COMMIT was lost; only where running `work` after its own
   * commit changes nothing
   * @throws UNAVAILABLE when the database is away
   */
  abstract run<T>(work: (tx: Transaction) => Promise<T>, options?: { readonly idempotent?: boolean }): Promise<T>;

  /**
   * Runs `work` when `tx` has committed; never when it rolls back. It is a hint for caches, not a promise: a process that
   * dies right after COMMIT does not run it. What another system must be told goes through the outbox. `work` must not throw.
   */
  abstract afterCommit(tx: Transaction, work: () => void): void;
}
