import { setImmediate as turn } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { isUnavailable } from '../../../gen/common/v1/errors.js';
import { errorText } from '../../kratos/errors/error-text.js';
import type { Item, ItemDirectory } from '../catalog/item.js';
import type { StockRepo } from '../catalog/stock.js';
import type { EntitlementRepo } from '../entitlement/entitlement-state.js';
import type { OrderAccess } from '../entitlement/order-access.js';
import type { IdGenerator } from '../id-generator.js';
import type { InstanceUsecase } from '../instance/instance.js';
import type { OrderRepo } from '../order/order-state.js';
import { type Transaction, type TransactionRunner, together } from '../transaction.js';
import {
  compareStreamIds,
  type Delivery,
  derivedReqId,
  entryKey,
  type ItemSegments,
  parseEntry,
  type SettledEntry,
} from './purchase-stream.js';
import type { Sale, UserOfSale } from './sale-state.js';
import {
  type ItemStream,
  type NewEntry,
  type PendingEntry,
  SettlementBatch,
  type SettlementStores,
} from './settlement-batch.js';
import { correctionOf, faultOf, inboxIdOf, lowestEpoch, newEntries, timeOf } from './settlement-entry.js';
import { type Holding, SettlementLedger } from './settlement-ledger.js';
import { SettlementOutlook, salesAfter } from './settlement-outlook.js';
import type { FailedEntry, InboxRow, OutcomeKind, Settlement, SettlementRepo } from './settlement-state.js';

/**
 * No inbox row is deleted within a day (`retention.inbox`). Half of it, because the ages are measured by other clocks than
 * this process's.
 */
const MAY_BE_DELETED_MS = 12 * 3_600_000;

/** Batches that are settled ahead at a time: each holds a connection while it waits for the batch before it. */
const AHEAD_MAX = 2;

export interface SettlementPolicy {
  /** Deliveries of an entry that fails on its own before it becomes a dead letter. */
  readonly maxDeliveries: number;
}

/** Deliveries of one item, ready to be committed. */
export interface PreparedEntries {
  readonly stream: ItemStream;
  /** In stream order, each entry once. */
  readonly entries: readonly PendingEntry[];
  /** Delivered more often than the policy allows, so each is settled alone: one of them may have failed its batch. */
  readonly suspects: readonly PendingEntry[];
}

/*
 * The consumer's transaction, for up to a batch of one item's entries:
 *
 *   lock the item and its sales → read the inbox rows that exist (a redelivery: their outcome stands)
 *   → for each new entry in stream order: dead, rejected (cap, limit, request number), or an order
 *   → instance requests and outbox rows of paid orders, or stock moves and lines of goods → orders → inbox
 *   → dead letters → sales.sold → COMMIT
 *
 * Entries that look like a first delivery are looked up neither in the inbox nor by request number: nearly always they
 * are new, and if not, a unique key refuses the batch, which is then settled with both look-ups.
 *
 * Retention deletes inbox rows long after their sale has ended. An entry that is old enough for that to have happened is
 * rejected: only a copy of Redis that was put back can deliver it.
 *
 * While a batch is written, the next one is settled ahead on another connection, as if it were known what the first leaves
 * behind. Its transaction waits for the item's lock, so PostgreSQL goes from one batch to the next by itself. It is
 * committed only if all that its decisions rest on was read as foreseen under that lock, and the batch before it has
 * committed; else it is rolled back, and the batch is decided anew.
 *
 * An inbox row of another user is no redelivery: the stream id was given twice, and the entry is settled under another.
 *
 * Entries leave the stream only after the commit. A death before it does nothing; after a death behind it the entries are
 * delivered again and the inbox answers. A batch that fails although the database answers is halved until the entry at
 * fault stands alone. That entry is tried again at each delivery and becomes a dead letter after `maxDeliveries`.
 */
export class SettlementUsecase {
  private readonly stores: SettlementStores;
  /** Of the last batch of each item. */
  private readonly outlooks = new Map<bigint, SettlementOutlook>();
  private ahead = 0;

  constructor(
    private readonly transactions: TransactionRunner,
    private readonly ids: IdGenerator,
    private readonly items: ItemDirectory,
    orders: OrderRepo,
    private readonly instances: InstanceUsecase,
    private readonly settlements: SettlementRepo,
    stock: StockRepo,
    private readonly entitlements: EntitlementRepo,
    access: OrderAccess,
    private readonly policy: SettlementPolicy,
    private readonly nowMs: () => number = Date.now,
    /** Resolves when replies that have arrived are read. */
    private readonly nextTurn: () => Promise<void> = turn,
  ) {
    this.stores = { stock, instances, orders, settlements, access };
  }

  /** Items that may be bought now, so that their streams are worth looking for. @throws UNAVAILABLE */
  findItems(): Promise<readonly ItemSegments[]> {
    return this.settlements.findItems();
  }

  /**
   * Does everything that needs no transaction, so that it can go on while an earlier batch of the item is committed.
   * @throws UNAVAILABLE when the database is away
   */
  async prepare(itemId: bigint, deliveries: readonly Delivery[]): Promise<PreparedEntries> {
    const item = await this.items.find(itemId);
    if (item?.orderType === 'INSTANCE') await this.instances.loadSpecs([{ productId: itemId }]);
    const unique = [...new Map(deliveries.map((d) => [entryKey(d), d])).values()].sort((a, b) =>
      compareStreamIds(a.streamId, b.streamId),
    );
    const entries: PendingEntry[] = [];
    const suspects: PendingEntry[] = [];
    for (const entry of unique) {
      const parsed = parseEntry(entry);
      const pending = { entry, parsed, fault: faultOf(parsed, item) };
      (entry.deliveries > this.policy.maxDeliveries ? suspects : entries).push(pending);
    }
    return { stream: { itemId, item }, entries, suspects };
  }

  /**
   * Gives every entry its outcome. Batches of one item are committed in the order in which they were read.
   *
   * @param before resolves when the item's batch before this one is committed. Nothing is committed earlier.
   * @throws UNAVAILABLE when the database is away: no entry is lost, prepare and commit the same deliveries again
   * @throws what `before` rejects with: nothing was settled
   */
  async commit(prepared: PreparedEntries, before: Promise<unknown> = Promise.resolve()): Promise<Settlement> {
    const { stream, entries, suspects } = prepared;
    const earlier = this.outlooks.get(stream.itemId);
    const outlook = new SettlementOutlook();
    this.outlooks.set(stream.itemId, outlook);
    try {
      const progress = new Progress();
      if (suspects.length === 0 && earlier && this.mayGoAhead(prepared)) {
        const sales = await Promise.race([earlier.sales, before.then(() => undefined)]);
        const isAhead = sales !== undefined && this.ahead < AHEAD_MAX;
        if (isAhead && (await this.settleAhead(stream, entries, { sales, before, outlook }, progress))) return progress;
      }
      await before;
      if (entries.length > 0) await this.settleFirst(stream, entries, outlook, progress);
      for (const suspect of suspects) await this.settleHalving(stream, [suspect], progress);
      return progress;
    } finally {
      outlook.settle(undefined);
    }
  }

  private mayGoAhead({ stream: { item }, entries }: PreparedEntries): boolean {
    return (
      entries.length > 0 &&
      // The others look at what they write.
      item?.orderType === 'INSTANCE' &&
      entries.every((e) => e.entry.deliveries === 1) &&
      this.areYoung(entries)
    );
  }

  /**
   * Writes a batch before it is known whether its decisions are right, and commits it only if they are.
   * @returns whether it was committed; if not, or if that is unknown, it is to be settled as if nothing had been tried
   */
  private async settleAhead(
    stream: ItemStream,
    entries: readonly PendingEntry[],
    { sales: foreseen, before, outlook }: Ahead,
    progress: Progress,
  ): Promise<boolean> {
    let beforeCommitted = false;
    before.then(
      () => {
        beforeCommitted = true;
      },
      () => {},
    );
    this.ahead += 1;
    try {
      const fresh = newEntries(entries, foreseen, new Map(), 0);
      const batch = await this.decideAll(stream, foreseen, NO_FACTS, fresh);
      if (batch.hasRejections) return false;
      const lock = async (tx: Transaction) => {
        const found = await this.settlements.lock(tx, stream.itemId, lowestEpoch(entries));
        const isForeseen = isDeepStrictEqual(found, foreseen);
        // Not before it has the lock: the batch behind it asks for the lock then, and must not get it first.
        if (isForeseen) outlook.settle(salesAfter(foreseen, batch.sold));
        return { found, isForeseen };
      };
      const sales = await this.transactions.run(async (tx) => {
        const [{ found, isForeseen }, facts] = await together(
          lock(tx),
          this.findFacts(tx, stream.item, fresh, { lookUp: false }),
          batch.store(tx, this.stores),
        );
        if (facts.holdings.length > 0 || !isForeseen) throw new NotForeseen();
        // Its commit released the lock, but its reply may be read after this one. A batch that has yet to be committed, as
        // after an error, waits for the lock that this one holds: it must not be waited for.
        if (!beforeCommitted) await this.nextTurn();
        if (!beforeCommitted) throw new NotForeseen();
        return found;
      });
      this.addOutcomes(entries, new Map(batch.rows.map((row) => [row.streamId, row])), sales, progress);
      return true;
    } catch {
      return false;
    } finally {
      this.ahead -= 1;
    }
  }

  private async settleFirst(
    stream: ItemStream,
    entries: readonly PendingEntry[],
    outlook: SettlementOutlook,
    progress: Progress,
  ): Promise<void> {
    if (entries.every((e) => e.entry.deliveries === 1)) {
      try {
        return await this.settleBatch(stream, entries, { lookUp: false, outlook }, progress);
      } catch (err) {
        if (isUnavailable(err)) throw err;
      }
    }
    await this.settleHalving(stream, entries, progress);
  }

  private async settleHalving(stream: ItemStream, entries: readonly PendingEntry[], progress: Progress): Promise<void> {
    try {
      await this.settleBatch(stream, entries, { lookUp: true }, progress);
    } catch (err) {
      // A database that is away is no entry's fault.
      if (isUnavailable(err)) throw err;
      const [first] = entries;
      if (entries.length > 1) {
        const half = entries.length >> 1;
        await this.settleHalving(stream, entries.slice(0, half), progress);
        await this.settleHalving(stream, entries.slice(half), progress);
      } else if (first && first.entry.deliveries >= this.policy.maxDeliveries) {
        const dead = { ...first, fault: `gave up: ${errorText(err)}` };
        await this.settleBatch(stream, [dead], { lookUp: true }, progress);
      } else if (first) {
        progress.failed.push({ streamId: first.entry.streamId, cause: err });
      }
    }
  }

  private async settleBatch(
    stream: ItemStream,
    entries: readonly PendingEntry[],
    options: DecideOptions,
    progress: Progress,
  ): Promise<void> {
    const { rows, sales } = await this.transactions.run((tx) => this.decide(tx, stream, entries, options), {
      idempotent: true,
    });
    this.addOutcomes(entries, rows, sales, progress);
  }

  private addOutcomes(
    entries: readonly PendingEntry[],
    rows: ReadonlyMap<string, InboxRow>,
    sales: readonly Sale[],
    progress: Progress,
  ): void {
    for (const { entry, parsed } of entries) {
      const row = rows.get(inboxIdOf(parsed, rows));
      if (!row) throw new Error(`entry ${parsed.streamId} has no outcome`);
      progress.counts[row.kind] += 1;
      const uid = parsed.kind === 'purchase' ? (entry.fields.get('uid') ?? '') : '';
      progress.settled.push({ streamId: parsed.streamId, uid, correction: correctionOf(row, parsed, sales) });
    }
  }

  private async decide(
    tx: Transaction,
    stream: ItemStream,
    entries: readonly PendingEntry[],
    { lookUp, outlook }: DecideOptions,
  ): Promise<{ rows: ReadonlyMap<string, InboxRow>; sales: readonly Sale[] }> {
    const { itemId, item } = stream;
    const sales = await this.settlements.lock(tx, itemId, lowestEpoch(entries));
    const rows = lookUp ? await this.findRows(tx, itemId, entries) : new Map<string, InboxRow>();
    const deletedBeforeMs = await this.findDeletedBefore(tx, itemId, entries);
    const fresh = newEntries(entries, sales, rows, deletedBeforeMs);
    if (fresh.length === 0) return { rows, sales };

    // Nearly always the buyers hold nothing yet. What follows from that is decided while the database looks.
    const [facts, foreseen] = await together(
      this.findFacts(tx, item, fresh, { lookUp }),
      lookUp ? Promise.resolve(undefined) : this.decideAll(stream, sales, NO_FACTS, fresh),
    );
    const batch =
      foreseen && facts.holdings.length + facts.owners.length === 0
        ? foreseen
        : await this.decideAll(stream, sales, facts, fresh);
    // A rejection's reason may be a request number in use, which only a look-up tells.
    if (!lookUp && batch.hasRejections) return this.decide(tx, stream, entries, { lookUp: true });
    outlook?.settle(salesAfter(sales, batch.sold));
    await batch.store(tx, this.stores);
    for (const row of batch.rows) rows.set(row.streamId, row);
    return { rows, sales };
  }

  /** 0 where it need not be asked: nearly every entry is younger than anything that retention may delete. */
  private async findDeletedBefore(tx: Transaction, itemId: bigint, entries: readonly PendingEntry[]): Promise<number> {
    if (this.areYoung(entries)) return 0;
    return (await this.settlements.findDeletedBefore(tx, itemId)) ?? 0;
  }

  private areYoung(entries: readonly PendingEntry[]): boolean {
    const youngMs = this.nowMs() - MAY_BE_DELETED_MS;
    return entries.every((e) => timeOf(e.parsed.streamId) >= youngMs);
  }

  /** The inbox rows of the entries, by stream id; where another user has it, by the reused id too. */
  private async findRows(
    tx: Transaction,
    itemId: bigint,
    entries: readonly PendingEntry[],
  ): Promise<Map<string, InboxRow>> {
    const streamIds = entries.map((e) => e.parsed.streamId);
    const found = await this.settlements.findRows(tx, itemId, streamIds);
    const rows = new Map(found.map((row) => [row.streamId, row]));
    const reused = entries.map((e) => inboxIdOf(e.parsed, rows)).filter((id, i) => id !== streamIds[i]);
    if (reused.length > 0) {
      for (const row of await this.settlements.findRows(tx, itemId, reused)) rows.set(row.streamId, row);
    }
    return rows;
  }

  private async findFacts(
    tx: Transaction,
    item: Item | undefined,
    entries: readonly NewEntry[],
    { lookUp }: { readonly lookUp: boolean },
  ): Promise<Facts> {
    const users: UserOfSale[] = [];
    const reqIds = new Set<bigint>();
    for (const { parsed, fault, sale, tooOld } of entries) {
      if (parsed.kind === 'malformed' || fault !== undefined || tooOld) continue;
      if (lookUp) reqIds.add(parsed.reqId ?? derivedReqId(parsed.streamId));
      if (sale) users.push({ saleId: sale.id, userId: parsed.userId });
    }
    const [holdings, buyers, owners] = await together(
      users.length > 0 ? this.settlements.findHoldings(tx, users) : Promise.resolve(NO_FACTS.holdings),
      item && reqIds.size > 0 ? this.settlements.findReqIds(tx, item, [...reqIds]) : Promise.resolve(NO_FACTS.buyers),
      item?.orderType === 'CONTENT' ? this.findOwners(tx, item.id, entries) : Promise.resolve(NO_FACTS.owners),
    );
    return { holdings, buyers, owners };
  }

  /** The buyers who have permanent access to a content already. Their accesses stay locked, so that none comes to have it. */
  private async findOwners(
    tx: Transaction,
    contentId: bigint,
    entries: readonly NewEntry[],
  ): Promise<readonly string[]> {
    const accesses = entries.flatMap(({ parsed }) =>
      parsed.kind === 'malformed' ? [] : [{ userId: parsed.userId, contentId }],
    );
    if (accesses.length === 0) return [];
    await this.entitlements.lock(tx, accesses);
    return (await this.entitlements.findPermanent(tx, accesses)).map((a) => a.userId);
  }

  /** Asynchronous so that what it throws reaches a caller that also waits for statements. */
  private async decideAll(
    stream: ItemStream,
    sales: readonly Sale[],
    { holdings, buyers, owners }: Facts,
    entries: readonly NewEntry[],
  ): Promise<SettlementBatch> {
    const ledger = new SettlementLedger(sales, holdings, new Map(buyers));
    const batch = new SettlementBatch(stream, ledger, new Set(owners), this.ids);
    for (const entry of entries) batch.add(entry);
    return batch;
  }
}

interface DecideOptions {
  /** Whether to read which entries and request numbers are known before deciding. */
  readonly lookUp: boolean;
  /** Told as soon as the batch is decided. */
  readonly outlook?: SettlementOutlook;
}

/** What a batch is settled ahead on. */
interface Ahead {
  /** As the batch before it leaves them. */
  readonly sales: readonly Sale[];
  readonly before: Promise<unknown>;
  readonly outlook: SettlementOutlook;
}

/** What a batch was settled ahead on turned out to be otherwise. */
class NotForeseen extends Error {}

/** What is on record of the users and the request numbers of a batch. */
interface Facts {
  readonly holdings: readonly Holding[];
  /** The buyer of each request number that is in use. */
  readonly buyers: ReadonlyMap<bigint, string>;
  /** CONTENT: buyers who have permanent access to it. */
  readonly owners: readonly string[];
}

const NO_FACTS: Facts = { holdings: [], buyers: new Map(), owners: [] };

/** The settlement as far as it got. */
class Progress implements Settlement {
  readonly settled: SettledEntry[] = [];
  readonly counts: Record<OutcomeKind, number> = { ORDER: 0, REJECTED: 0, DEAD: 0 };
  readonly failed: FailedEntry[] = [];
}
