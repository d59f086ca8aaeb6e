declare const opaque: unique symbol;

/*
 * The lock order. A transaction locks rows of these tables in this order, and the rows of one table by id:
 *
 *   orders → refunds → sales → skus → user_coupons → coupons
 *
 * The advisory locks of users who check out their carts come between skus and user_coupons.
 * Rows that belong to one order, such as its payment sessions, are locked after it.
 *
 * Two transactions that share rows then wait for each other in one direction only, so that they cannot deadlock. Rows that
 * the transaction itself inserts may come anywhere: no other transaction sees them. So may rows that are taken with SKIP
 * LOCKED, which waits for no lock.
 */

/** An open database transaction. It is passed, never ambient: a method that takes one does its writes in it. */
export interface Transaction {
  readonly [opaque]: true;
}

export abstract class TransactionRunner {
  /**
   * Runs `work` in a transaction and commits it, or rolls back if it throws. After a deadlock, a serialization failure or
   * the loss of a connection before COMMIT was sent, `work` runs again, a bounded number of times. It must not call other
   * servers.
   *
   * @param options.idempotent also run `work` again when the reply to COMMIT was lost. Set it only if running `work` after
   * its own commit changes nothing.
   * @throws UNAVAILABLE when the database is unavailable
   */
  abstract run<T>(work: (tx: Transaction) => Promise<T>, options?: { readonly idempotent?: boolean }): Promise<T>;

  /**
   * Runs `work` when `tx` has committed; never when it rolls back. It is a hint for caches, not a promise: a process that
   * dies right after COMMIT does not run it. What another system must be told goes through the outbox. `work` must not throw.
   */
  abstract afterCommit(tx: Transaction, work: () => void): void;
}

/**
 * Awaits statements of one transaction that were begun without waiting for each other. They run in the order in which they
 * were begun, and after one that fails the database refuses the others. So the first failure is the cause: it is thrown when
 * all have ended, because the transaction must not be rolled back, or repeated, beside a statement that is still running.
 *
 *     await together(orders.insert(tx, …), settlements.insertRows(tx, …));
 *
 * @throws the error of the first of them that failed
 */
export async function together<T extends readonly unknown[]>(
  ...statements: { readonly [K in keyof T]: Promise<T[K]> }
): Promise<T> {
  const ended = await Promise.allSettled(statements);
  const failed = ended.find((e) => e.status === 'rejected');
  if (failed) throw failed.reason;
  return ended.map((e) => (e as PromiseFulfilledResult<unknown>).value) as unknown as T;
}
