import { unavailable } from '../../../gen/common/v1/errors.js';
import { type Transaction, TransactionRunner } from '../../../internal/biz/transaction.js';
import { Deadlock, type LockOwner, Locks } from './locks.js';

/** The connection broke: uncommitted changes are lost, and the outcome of a pending COMMIT is unknown. */
export class ConnectionLost extends Error {
  override readonly name = 'ConnectionLost';
}

/** A serialization failure: the transaction must be retried. */
export class Conflict extends Error {
  override readonly name = 'Conflict';
}

/** A violation of a schema constraint. It is not retried. */
export class ConstraintViolation extends Error {
  override readonly name = 'ConstraintViolation';
}

/**
 * The process that ran the statement has died: its promises never settle, and the server rolls back its transaction.
 */
export class ProcessDied extends Error {
  override readonly name = 'ProcessDied';

  /** @param onReleased called when the server has released the locks of the process */
  constructor(readonly onReleased: () => void) {
    super('the process died');
  }
}

/** Wraps every operation of the store: other actors run and faults are injected here. */
export type Around = <T>(operation: string, work: () => Promise<T>) => Promise<T>;

export interface StoreOptions {
  readonly around?: Around;
  /** Called while waiting for a lock. */
  readonly pause?: (wait: Promise<void>) => Promise<void>;
  readonly now?: () => Date;
  /** The process that runs now; its transactions end when it dies. */
  readonly process?: () => unknown;
}

class MemoryTransaction implements LockOwner {
  waitsFor: string | undefined;
  readonly held = new Set<string>();
  readonly writes = new Map<MemoryTable<object>, Map<string, object>>();
  readonly afterCommit: (() => void)[] = [];
  state: 'open' | 'failed' | 'ended' = 'open';
  broken = false;
  /** Settles after the statements that were begun so far: a connection runs one at a time. */
  last: Promise<void> = Promise.resolve();
  losesCommitReply = false;
  process: unknown;
}

const ATTEMPTS = 5;

/** Lets other actors run before each operation. */
const yielding: Around = async (_operation, work) => {
  await Promise.resolve();
  return work();
};

/**
 * The behaviour of PostgreSQL that the usecases depend on, in memory: READ COMMITTED, row locks until the end of the
 * transaction, unique keys whose second writer waits for the first, one victim per deadlock, no commit after a failed
 * statement, and the same retries as the real runner.
 */
export class MemoryStore extends TransactionRunner {
  readonly locks: Locks;
  readonly now: () => Date;
  private lastItemId = 1_000n;
  private readonly around: Around;
  private readonly process: () => unknown;
  private readonly running = new Set<MemoryTransaction>();

  constructor(options: StoreOptions = {}) {
    super();
    this.process = options.process ?? (() => undefined);
    this.locks = new Locks(options.pause);
    this.around = options.around ?? yielding;
    this.now = options.now ?? (() => new Date());
  }

  override async run<T>(
    work: (tx: Transaction) => Promise<T>,
    options: { readonly idempotent?: boolean } = {},
  ): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      const tx = new MemoryTransaction();
      let committing = false;
      try {
        await this.around('begin', async () => {});
        tx.process = this.process();
        this.running.add(tx);
        const result = await work(tx as unknown as Transaction);
        committing = true;
        await this.around('commit', async () => this.commit(tx));
        if (tx.losesCommitReply) throw new ConnectionLost('commit');
        for (const hook of tx.afterCommit) hook();
        return result;
      } catch (err) {
        this.end(tx);
        if (err instanceof ProcessDied) return silence(err);
        const again =
          err instanceof Deadlock ||
          err instanceof Conflict ||
          (err instanceof ConnectionLost && (!committing || options.idempotent === true));
        if (!again || attempt === ATTEMPTS) throw asUnavailable(err);
      }
    }
  }

  override afterCommit(tx: Transaction, work: () => void): void {
    stateOf(tx).afterCommit.push(work);
  }

  /** A process died while it waited for something else: the server rolls back its transactions. */
  rollBackOf(process: unknown): void {
    for (const tx of this.running) if (tx.process === process) this.end(tx);
  }

  /** One statement, in `tx` or in a transaction of its own. Those of one transaction run in the order of their calls. */
  async statement<T>(
    operation: string,
    tx: Transaction | undefined,
    work: (tx: Transaction) => Promise<T>,
  ): Promise<T> {
    if (tx === undefined) return this.runStatement(operation, tx, work);
    const own = stateOf(tx);
    const before = own.last;
    let ended = () => {};
    own.last = new Promise((resolve) => {
      ended = resolve;
    });
    await before;
    // Not reached where the process died within the statement: those behind it never run.
    try {
      return await this.runStatement(operation, tx, work);
    } finally {
      ended();
    }
  }

  private async runStatement<T>(
    operation: string,
    tx: Transaction | undefined,
    work: (tx: Transaction) => Promise<T>,
  ): Promise<T> {
    const own = tx === undefined ? new MemoryTransaction() : stateOf(tx);
    if (own.state !== 'open') throw new Error(`${operation} in a transaction that has ${own.state}`);
    try {
      const result = await this.around(operation, async () => {
        if (own.broken) throw new ConnectionLost(operation);
        const done = await work(own as unknown as Transaction);
        if (tx === undefined) this.commit(own);
        return done;
      });
      return result;
    } catch (err) {
      if (err instanceof ProcessDied) {
        this.end(own);
        return silence(err);
      }
      if (tx !== undefined) {
        own.state = 'failed';
        throw err;
      }
      this.end(own);
      throw asUnavailable(err);
    }
  }

  /** From the sequence that products and SKUs share. */
  nextItemId(): bigint {
    return ++this.lastItemId;
  }

  /** An advisory lock, held until `tx` ends. */
  async lock(tx: Transaction, name: string): Promise<void> {
    await this.locks.acquire(stateOf(tx), `advisory ${name}`);
  }

  /** The next statement of `tx` fails with a broken connection. */
  breakConnection(tx: Transaction): void {
    stateOf(tx).broken = true;
  }

  /** COMMIT of `tx` will succeed, but its reply will be lost. */
  loseCommitReply(tx: Transaction): void {
    stateOf(tx).losesCommitReply = true;
  }

  private commit(tx: MemoryTransaction): void {
    if (tx.state !== 'open') throw new Error('a statement of the transaction failed, so it cannot commit');
    for (const [table, rows] of tx.writes) table.apply(rows);
    this.end(tx);
  }

  private end(tx: MemoryTransaction): void {
    tx.state = 'ended';
    this.running.delete(tx);
    this.locks.releaseAll(tx);
  }
}

/** A unique key besides the primary key; rows without a value are ignored. */
export interface UniqueKey<Row> {
  readonly name: string;
  readonly of: (row: Row) => string | undefined;
}

/** Rows are immutable values: an update replaces them. */
export class MemoryTable<Row extends object> {
  private readonly committed = new Map<string, Row>();
  private readonly taken = new Map<string, string>();

  constructor(
    private readonly store: MemoryStore,
    readonly name: string,
    private readonly keyOf: (row: Row) => string,
    private readonly uniqueKeys: readonly UniqueKey<Row>[] = [],
  ) {}

  /** The rows visible to `tx`: committed ones and its own. */
  find(key: string, tx?: Transaction): Row | undefined {
    return this.writesOf(tx)?.get(key) ?? this.committed.get(key);
  }

  rows(tx?: Transaction): Row[] {
    return [...new Map([...this.committed, ...(this.writesOf(tx) ?? [])]).values()];
  }

  /** Waits for the row's lock, then reads it. A row that does not exist is not locked. */
  async lock(tx: Transaction, key: string): Promise<Row | undefined> {
    if (!this.find(key, tx)) return undefined;
    await this.store.locks.acquire(stateOf(tx), `${this.name} ${key}`);
    return this.find(key, tx);
  }

  /** The row, locked; undefined if it does not exist or is locked by another transaction. */
  tryLock(tx: Transaction, key: string): Row | undefined {
    if (!this.find(key, tx)) return undefined;
    return this.store.locks.tryAcquire(stateOf(tx), `${this.name} ${key}`) ? this.find(key, tx) : undefined;
  }

  /**
   * @returns the existing row with the unique key `onConflict`, if nothing was stored; otherwise undefined
   * @throws ConstraintViolation if the primary key or another unique key is taken
   */
  async insert(tx: Transaction, row: Row, onConflict?: string): Promise<Row | undefined> {
    const owner = stateOf(tx);
    const primary: UniqueKey<Row> = { name: 'primary key', of: this.keyOf };
    // The named key is checked first: a row that conflicts on it does not violate the others.
    const keys = [...this.uniqueKeys, primary].sort((a, b) => +(b.name === onConflict) - +(a.name === onConflict));
    for (const { name, of } of keys) {
      const value = of(row);
      if (value === undefined) continue;
      const lock = name === primary.name ? `${this.name} ${value}` : `${this.name} ${name} ${value}`;
      const before = owner.held.has(lock);
      await this.store.locks.acquire(owner, lock);
      const other = name === primary.name ? this.find(value, tx) : this.findUnique(name, of, value, tx);
      if (!other) continue;
      if (!before) this.store.locks.release(owner, lock);
      if (name === onConflict) return other;
      throw new ConstraintViolation(`${this.name}: ${name} ${value} is taken`);
    }
    this.write(tx, row);
    return undefined;
  }

  /**
   * Locks the row and replaces it by `change(row)`.
   * @returns the new row; undefined if there is none or `change` returns undefined
   */
  async update(tx: Transaction, key: string, change: (row: Row) => Row | undefined): Promise<Row | undefined> {
    const row = await this.lock(tx, key);
    const changed = row && change(row);
    if (changed) this.write(tx, changed);
    return changed;
  }

  /** @internal for the store */
  apply(rows: ReadonlyMap<string, object>): void {
    for (const [key, row] of rows as ReadonlyMap<string, Row>) {
      this.committed.set(key, row);
      for (const { name, of } of this.uniqueKeys) {
        const value = of(row);
        if (value !== undefined) this.taken.set(`${name} ${value}`, key);
      }
    }
  }

  private findUnique(name: string, of: UniqueKey<Row>['of'], value: string, tx: Transaction): Row | undefined {
    for (const row of this.writesOf(tx)?.values() ?? []) if (of(row) === value) return row;
    const key = this.taken.get(`${name} ${value}`);
    const row = key === undefined ? undefined : this.find(key, tx);
    // An update may have freed it.
    return row && of(row) === value ? row : undefined;
  }

  private write(tx: Transaction, row: Row): void {
    const { writes } = stateOf(tx);
    const table = this as unknown as MemoryTable<object>;
    const rows = writes.get(table) ?? new Map<string, object>();
    rows.set(this.keyOf(row), row);
    writes.set(table, rows);
  }

  private writesOf(tx: Transaction | undefined): ReadonlyMap<string, Row> | undefined {
    if (tx === undefined) return undefined;
    return stateOf(tx).writes.get(this as unknown as MemoryTable<object>) as ReadonlyMap<string, Row> | undefined;
  }
}

function silence(death: ProcessDied): Promise<never> {
  death.onReleased();
  return new Promise(() => {});
}

function stateOf(tx: Transaction): MemoryTransaction {
  return tx as unknown as MemoryTransaction;
}

function asUnavailable(err: unknown): unknown {
  const unavailableNow = err instanceof ConnectionLost || err instanceof Conflict || err instanceof Deadlock;
  return unavailableNow ? unavailable('the store does not answer', { cause: err }) : err;
}
