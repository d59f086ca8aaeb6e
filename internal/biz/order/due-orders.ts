import { Quarantine } from '../quarantine.js';
import type { Transaction, TransactionRunner } from '../transaction.js';
import type { Order } from './order-state.js';

/** An order whose time has come, and that could not be moved. */
export interface DueOrderFailure {
  readonly orderId: bigint;
  readonly err: unknown;
  /** Whether it has not failed recently. */
  readonly first: boolean;
}

export interface DueOrdersResult {
  /** Number of orders. */
  readonly moved: number;
  readonly failures: readonly DueOrderFailure[];
}

interface DueOrdersWork {
  /** Locks up to `limit` orders whose time has come, skipping those that another transaction has locked. */
  readonly lock: (tx: Transaction, limit: number, except: readonly bigint[]) => Promise<readonly Order[]>;
  /** Moves locked orders. */
  readonly move: (tx: Transaction, orders: readonly Order[]) => Promise<unknown>;
}

/**
 * Moves orders whose deadline has passed, a batch in a transaction. Any number of replicas may do so at once: each skips
 * what another has locked, and a replica that dies frees its locks. After a batch failed its orders are moved one by one,
 * and one that fails alone is set aside for a growing time, so that it does not delay the others.
 */
export class DueOrders {
  private readonly failing = new Quarantine<bigint>();

  constructor(
    private readonly transactions: TransactionRunner,
    private readonly work: DueOrdersWork,
  ) {}

  /** @throws UNAVAILABLE when the database is unavailable */
  async move(limit: number): Promise<DueOrdersResult> {
    try {
      return { moved: await this.moveBatch(limit, () => {}), failures: [] };
    } catch {
      return this.moveOneByOne(limit);
    }
  }

  private async moveOneByOne(limit: number): Promise<DueOrdersResult> {
    let moved = 0;
    const failures: DueOrderFailure[] = [];
    for (let i = 0; i < limit; i++) {
      let current: Order | undefined;
      try {
        const count = await this.moveBatch(1, ([locked]) => {
          current = locked;
        });
        if (count === 0) break;
        moved += 1;
      } catch (err) {
        // Without a locked order the database itself failed.
        if (!current) throw err;
        failures.push({ orderId: current.id, err, first: this.failing.exclude(current.id) });
      }
    }
    return { moved, failures };
  }

  private moveBatch(limit: number, onLocked: (orders: readonly Order[]) => void): Promise<number> {
    return this.transactions.run(async (tx) => {
      onLocked([]);
      const due = await this.work.lock(tx, limit, this.failing.excluded);
      onLocked(due);
      if (due.length > 0) await this.work.move(tx, due);
      return due.length;
    });
  }
}
