import { isUnavailable } from '../../../gen/common/v1/errors.js';
import type { Transaction, TransactionRunner } from '../transaction.js';

/** A kind of row that is deleted some time after it is of no more use. `orders` are moved to the archive instead. */
export type RetentionKind = 'outbox' | 'inbox' | 'order_events' | 'dead_letters' | 'guest_carts' | 'orders';

export interface RetentionPolicy {
  /** From the end of one pass to the begin of the next, over all replicas. */
  readonly intervalMs: number;
  /** Rows of one transaction. */
  readonly batchSize: number;
  /** How long rows of a kind are kept; 0: for ever. */
  readonly keepMs: Readonly<Record<RetentionKind, number>>;
}

/** A row that may be deleted. */
export interface ExpiredRow {
  /** Rows of one scope are deleted together: the item of an inbox row; empty where there is none. */
  readonly scope: string;
  readonly key: string;
}

export interface ExpiredPage {
  readonly rows: readonly ExpiredRow[];
  /** Where the next page begins; undefined: this was the last. */
  readonly next: string | undefined;
}

/** The rows of one kind. @throws UNAVAILABLE */
export abstract class RetentionStore {
  abstract readonly kind: RetentionKind;
  /**
   * Looks at up to `limit` rows.
   * @param from `next` of the page before; undefined: the first page
   */
  abstract find(keepMs: number, from: string | undefined, limit: number): Promise<ExpiredPage>;
  /**
   * The time, in ms since 1970, that rows of the scope must be older than, asked outside the transaction; undefined: as
   * `keepMs` says.
   */
  async limitOf(_scope: string): Promise<number | undefined> {
    return undefined;
  }
  /**
   * Deletes those of the rows that may still be deleted, and writes down that it did.
   * @returns how many
   */
  abstract delete(tx: Transaction, rows: ExpiredRows, keepMs: number): Promise<number>;
}

/** Rows of one scope. */
export interface ExpiredRows {
  readonly scope: string;
  readonly keys: readonly string[];
  /** What `limitOf` said. */
  readonly beforeMs: number | undefined;
}

/** Lets one replica of a domain work at a time. @throws UNAVAILABLE */
export abstract class RetentionLease {
  /** Takes the lease if no other replica has it and the next pass is due. */
  abstract take(leaseMs: number): Promise<boolean>;
  /** @returns false: another replica has it by now */
  abstract renew(leaseMs: number): Promise<boolean>;
  /** Ends the pass: the next one may begin after this time, at any replica. */
  abstract release(nextAfterMs: number): Promise<void>;
}

/** A row, or a scope, that could not be deleted. */
export interface RetentionFailure {
  readonly kind: RetentionKind;
  readonly row: string;
  readonly cause: unknown;
}

export interface RetentionStep {
  readonly kind: RetentionKind | undefined;
  readonly deleted: number;
  readonly failures: readonly RetentionFailure[];
}

interface Pass {
  /** Kinds still to be done; the first is in progress. */
  readonly stores: RetentionStore[];
  from: string | undefined;
}

const LEASE_MS = 30_000;
/** How long a step looks for something to delete, so that a stop does not wait for a whole table. */
const LOOK_MS = 250;
/** Rows that are looked at in one query are more than are deleted in one transaction: looking locks nothing. */
const LOOK_FACTOR = 4;
/** How often a replica asks whether a pass is due. */
const ASK_MS = 10_000;
const IDLE: RetentionStep = { kind: undefined, deleted: 0, failures: [] };

/*
 * Deletes old rows that nothing needs any more. A pass goes through the tables by their keys, so that it looks at each row
 * once and a row that cannot be deleted holds up no other. Each batch is a short transaction, which also adds to the
 * mark that the audit reads. A process may die at any point: the next pass begins anew.
 */
export class RetentionUsecase {
  private pass: Pass | undefined;
  private askAtMs = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly transactions: TransactionRunner,
    private readonly lease: RetentionLease,
    private readonly stores: readonly RetentionStore[],
    private readonly policy: RetentionPolicy,
    private readonly nowMs: () => number = () => performance.now(),
  ) {}

  /** Deletes up to one batch, if a pass is due and this replica does it. @throws UNAVAILABLE */
  async step(): Promise<RetentionStep> {
    this.pass ??= await this.begin();
    const { pass } = this;
    if (!pass) return IDLE;
    if (!(await this.lease.renew(LEASE_MS))) {
      this.pass = undefined;
      return IDLE;
    }
    const untilMs = this.nowMs() + LOOK_MS;
    for (;;) {
      const [store] = pass.stores;
      if (!store) {
        this.pass = undefined;
        await this.lease.release(this.policy.intervalMs);
        return IDLE;
      }
      const keepMs = this.policy.keepMs[store.kind];
      const page = await store.find(keepMs, pass.from, this.policy.batchSize * LOOK_FACTOR);
      const step = await this.deletePage(store, page.rows, keepMs);
      pass.from = page.next;
      if (page.next === undefined) pass.stores.shift();
      if (step.deleted > 0 || step.failures.length > 0 || this.nowMs() >= untilMs) return step;
    }
  }

  private async begin(): Promise<Pass | undefined> {
    const stores = this.stores.filter((store) => this.policy.keepMs[store.kind] > 0);
    if (stores.length === 0 || this.nowMs() < this.askAtMs) return undefined;
    if (await this.lease.take(LEASE_MS)) return { stores, from: undefined };
    this.askAtMs = this.nowMs() + Math.min(ASK_MS, this.policy.intervalMs);
    return undefined;
  }

  private async deletePage(
    store: RetentionStore,
    rows: readonly ExpiredRow[],
    keepMs: number,
  ): Promise<RetentionStep & { deleted: number }> {
    const step = { kind: store.kind, deleted: 0, failures: [] as RetentionFailure[] };
    for (const [scope, keys] of byScope(rows)) {
      let beforeMs: number | undefined;
      try {
        beforeMs = await store.limitOf(scope);
      } catch (err) {
        if (isUnavailable(err)) throw err;
        step.failures.push({ kind: store.kind, row: scope, cause: err });
        continue;
      }
      for (let i = 0; i < keys.length; i += this.policy.batchSize) {
        const batch = keys.slice(i, i + this.policy.batchSize);
        await this.deleteHalving(store, { scope, keys: batch, beforeMs }, keepMs, step);
      }
    }
    return step;
  }

  private async deleteHalving(
    store: RetentionStore,
    rows: ExpiredRows,
    keepMs: number,
    step: { deleted: number; failures: RetentionFailure[] },
  ): Promise<void> {
    const { keys } = rows;
    try {
      // Not idempotent: after its own commit it would report fewer rows.
      step.deleted += await this.transactions.run((tx) => store.delete(tx, rows, keepMs));
    } catch (err) {
      // A database that is away is no row's fault.
      if (isUnavailable(err)) throw err;
      if (keys.length === 1) {
        step.failures.push({ kind: store.kind, row: `${rows.scope} ${keys[0]}`.trim(), cause: err });
        return;
      }
      const half = keys.length >> 1;
      await this.deleteHalving(store, { ...rows, keys: keys.slice(0, half) }, keepMs, step);
      await this.deleteHalving(store, { ...rows, keys: keys.slice(half) }, keepMs, step);
    }
  }
}

function byScope(rows: readonly ExpiredRow[]): Map<string, string[]> {
  const scopes = new Map<string, string[]>();
  for (const { scope, key } of rows) {
    const keys = scopes.get(scope);
    if (keys) keys.push(key);
    else scopes.set(scope, [key]);
  }
  return scopes;
}
