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
  belongsTo,
  compareStreamIds,
  type Delivery,
  derivedReqId,
  entryKey,
  type MalformedEntry,
  type Purchase,
  parseEntry,
  reusedStreamId,
  type SettledEntry,
  type StockCorrection,
} from './purchase-stream.js';
import type { Sale, UserOfSale } from './sale-state.js';
import {
  type ItemStream,
  type NewEntry,
  type PendingEntry,
  SettlementBatch,
  type SettlementStores,
} from './settlement-batch.js';
import { type Holding, SettlementLedger } from './settlement-ledger.js';
import type { FailedEntry, InboxRow, OutcomeKind, Settlement, SettlementRepo } from './settlement-state.js';

/**
 * No inbox row is deleted within a day (`retention.inbox`). Half of it, because the ages are measured by other clocks than
 * this process's.
 */
const MAY_BE_DELETED_MS = 12 * 3_600_000;

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
 * An inbox row of another user is no redelivery: the stream id was given twice, and the entry is settled under another.
 *
 * Entries leave the stream only after the commit. A death before it does nothing; after a death behind it the entries are
 * delivered again and the inbox answers. A batch that fails although the database answers is halved until the entry at
 * fault stands alone. That entry is tried again at each delivery and becomes a dead letter after `maxDeliveries`.
 */
export class SettlementUsecase {
  private readonly stores: SettlementStores;

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
  ) {
    this.stores = { stock, instances, orders, settlements, access };
  }

  /** Items that may be bought now, so that their streams are worth looking for. @throws UNAVAILABLE */
  findItemIds(): Promise<readonly bigint[]> {
    return this.settlements.findItemIds();
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
   * @throws UNAVAILABLE when the database is away: no entry is lost, prepare and commit the same deliveries again
   */
  async commit({ stream, entries, suspects }: PreparedEntries): Promise<Settlement> {
    const progress = new Progress();
    if (entries.length > 0) await this.settleFirst(stream, entries, progress);
    for (const suspect of suspects) await this.settleHalving(stream, [suspect], progress);
    return progress;
  }

  private async settleFirst(stream: ItemStream, entries: readonly PendingEntry[], progress: Progress): Promise<void> {
    if (entries.every((e) => e.entry.deliveries === 1)) {
      try {
        return await this.settleBatch(stream, entries, { lookUp: false }, progress);
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
    options: { readonly lookUp: boolean },
    progress: Progress,
  ): Promise<void> {
    const { rows, sales } = await this.transactions.run((tx) => this.decide(tx, stream, entries, options), {
      idempotent: true,
    });
    for (const { entry, parsed } of entries) {
      const row = rows.get(inboxIdOf(parsed, rows));
      if (!row) throw new Error(`entry ${parsed.streamId} of item ${stream.itemId} has no outcome`);
      progress.counts[row.kind] += 1;
      const uid = parsed.kind === 'purchase' ? (entry.fields.get('uid') ?? '') : '';
      progress.settled.push({ streamId: parsed.streamId, uid, correction: correctionOf(row, parsed, sales) });
    }
  }

  /** @param options.lookUp whether to read which entries and request numbers are known before deciding */
  private async decide(
    tx: Transaction,
    stream: ItemStream,
    entries: readonly PendingEntry[],
    { lookUp }: { readonly lookUp: boolean },
  ): Promise<{ rows: ReadonlyMap<string, InboxRow>; sales: readonly Sale[] }> {
    const { itemId, item } = stream;
    const sales = await this.settlements.lock(tx, itemId, lowestEpoch(entries));
    const rows = lookUp ? await this.findRows(tx, itemId, entries) : new Map<string, InboxRow>();
    const deletedBeforeMs = await this.findDeletedBefore(tx, itemId, entries);
    const fresh = entries.flatMap(({ entry, parsed, fault }): NewEntry[] => {
      const streamId = inboxIdOf(parsed, rows);
      if (rows.has(streamId)) return [];
      const sale = parsed.kind === 'purchase' ? sales.find((s) => belongsTo(parsed, s)) : undefined;
      const tooOld = timeOf(streamId) < deletedBeforeMs;
      if (streamId === parsed.streamId) return [{ entry, parsed, fault, sale, tooOld }];
      return [{ entry: { ...entry, streamId }, parsed: { ...parsed, streamId }, fault, sale, tooOld }];
    });
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
    await batch.store(tx, this.stores);
    for (const row of batch.rows) rows.set(row.streamId, row);
    return { rows, sales };
  }

  /** 0 where it need not be asked: nearly every entry is younger than anything that retention may delete. */
  private async findDeletedBefore(tx: Transaction, itemId: bigint, entries: readonly PendingEntry[]): Promise<number> {
    const youngMs = this.nowMs() - MAY_BE_DELETED_MS;
    if (entries.every((e) => timeOf(e.parsed.streamId) >= youngMs)) return 0;
    return (await this.settlements.findDeletedBefore(tx, itemId)) ?? 0;
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

const NOT_ON_SALE = { INSTANCE: 'PRODUCT_DISABLED', GOODS: 'GOODS_UNPUBLISHED', CONTENT: 'CONTENT_UNPUBLISHED' };

function faultOf(parsed: Purchase | MalformedEntry, item: Item | undefined): string | undefined {
  if (parsed.kind === 'malformed') return parsed.reason;
  if (!item) return 'unknown product';
  if (!item.onSale) return NOT_ON_SALE[item.orderType];
  if (item.orderType === 'INSTANCE' && parsed.quantity !== 1) return 'qty must be 1 for an instance plan';
  if (item.orderType === 'CONTENT' && parsed.quantity !== 1) return 'qty must be 1 for a content';
  return undefined;
}

/** When Redis added an entry, in ms since 1970. */
function timeOf(streamId: string): number {
  return Number(streamId.split('-', 1)[0]);
}

/** The id under which the inbox has an entry, or will have it. */
function inboxIdOf(parsed: Purchase | MalformedEntry, rows: ReadonlyMap<string, InboxRow>): string {
  const { streamId } = parsed;
  const row = rows.get(streamId);
  const userId = parsed.kind === 'purchase' ? parsed.userId : undefined;
  return row === undefined || row.userId === userId ? streamId : reusedStreamId(streamId, userId ?? '');
}

/** undefined where the outcome is the one that the entry's units were taken for, or the sale admits no more. */
function correctionOf(
  row: InboxRow,
  parsed: Purchase | MalformedEntry,
  sales: readonly Sale[],
): StockCorrection | undefined {
  if (parsed.kind === 'malformed' || row.saleId === undefined || row.epoch === undefined) return undefined;
  // An entry of an older epoch may have been lost with Redis before the load that would have counted it.
  if (row.kind === 'ORDER' && parsed.epoch === row.epoch) return undefined;
  if (sales.find((s) => s.id === row.saleId)?.status !== 'OPEN') return undefined;
  return {
    epoch: row.epoch,
    entryEpoch: parsed.epoch,
    userId: parsed.userId,
    quantity: parsed.quantity,
    outcome: row.kind === 'ORDER' ? 'ORDER' : 'REFUSED',
  };
}

function lowestEpoch(entries: readonly PendingEntry[]): bigint | undefined {
  let lowest: bigint | undefined;
  for (const { parsed } of entries) {
    if (parsed.kind === 'malformed' || parsed.epoch === undefined) continue;
    if (lowest === undefined || parsed.epoch < lowest) lowest = parsed.epoch;
  }
  return lowest;
}
