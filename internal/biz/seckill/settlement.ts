import { isUnavailable } from '../../../gen/common/v1/errors.js';
import type { Item, ItemDirectory } from '../catalog/item.js';
import { orderDeducted, orderHeld, type StockRepo } from '../catalog/stock.js';
import type { IdGenerator } from '../id-generator.js';
import type { CreateInstance, InstanceUsecase } from '../instance/instance.js';
import type { NewOrder, OrderItem, OrderRepo, OrderStatus } from '../order/order-state.js';
import type { Transaction, TransactionRunner } from '../transaction.js';
import {
  belongsTo,
  compareStreamIds,
  type Delivery,
  derivedReqId,
  type Finished,
  type Malformed,
  type Purchase,
  parseEntry,
  type Squaring,
  type StreamEntry,
} from './purchase-stream.js';
import type { Sale, UserOfSale } from './sale-state.js';
import { type Holding, SettlementLedger, type Taken } from './settlement-ledger.js';

/** ORDER: it became one; REJECTED: a good entry that gets nothing; DEAD: an entry that can never become an order. */
export type OutcomeKind = 'ORDER' | 'REJECTED' | 'DEAD';

/** The one outcome of a stream entry, as the inbox has it. */
export interface InboxRow {
  readonly streamId: string;
  readonly kind: OutcomeKind;
  readonly userId: string | undefined;
  readonly quantity: number | undefined;
  readonly orderId: bigint | undefined;
  /** SOLD_OUT, LIMIT_REACHED, DUPLICATE_REQ_ID, NO_SALE, or what is wrong with the entry. */
  readonly reason: string;
  /** The sale whose units it asked for; undefined: a direct purchase, or none. */
  readonly saleId: bigint | undefined;
  /** The sale's when this was decided. */
  readonly epoch: bigint | undefined;
}

/** An outcome, with where its order stands now. */
export interface Outcome extends InboxRow {
  readonly order: { readonly id: bigint; readonly status: OrderStatus; readonly closeReason: string } | undefined;
}

export interface DeadLetter {
  readonly entry: StreamEntry;
  readonly reason: string;
}

export abstract class SettlementRepo {
  /**
   * Keeps everybody else from settling this item until `tx` ends, and locks those of its sales that are not closed or
   * have an epoch of at least `epoch`.
   */
  abstract lock(tx: Transaction, itemId: bigint, epoch: bigint | undefined): Promise<readonly Sale[]>;
  /** The inbox rows that there are. */
  abstract findRows(tx: Transaction, itemId: bigint, streamIds: readonly string[]): Promise<readonly InboxRow[]>;
  abstract findHoldings(tx: Transaction, users: readonly UserOfSale[]): Promise<readonly Holding[]>;
  /** The buyers of orders that have these request numbers. */
  abstract findReqIds(
    tx: Transaction,
    item: Pick<Item, 'id' | 'orderType'>,
    reqIds: readonly bigint[],
  ): Promise<ReadonlyMap<bigint, string>>;
  abstract insertRows(tx: Transaction, itemId: bigint, rows: readonly InboxRow[]): Promise<void>;
  abstract insertDeadLetters(tx: Transaction, itemId: bigint, letters: readonly DeadLetter[]): Promise<void>;
  abstract addSold(tx: Transaction, sold: ReadonlyMap<bigint, number>): Promise<void>;
  abstract find(itemId: bigint, streamId: string): Promise<Outcome | undefined>;
}

export interface SettlementPolicy {
  /** Deliveries of an entry that fails alone before it is put aside. */
  readonly maxDeliveries: number;
}

export interface Settlement {
  readonly finished: readonly Finished[];
  readonly counts: Readonly<Record<OutcomeKind, number>>;
  /** Entries that failed by themselves and are to be delivered again. */
  readonly failed: readonly { readonly streamId: string; readonly cause: unknown }[];
}

/** A delivery and what is known of it before the transaction. */
interface Candidate {
  readonly entry: Delivery;
  readonly parsed: Purchase | Malformed;
  /** Why it can never become an order. */
  readonly fault: string | undefined;
}

/** A candidate that has no outcome yet, and the sale whose units it asks for. */
interface Fresh extends Candidate {
  readonly sale: Sale | undefined;
}

/** Whose stream it is. */
interface Owner {
  readonly itemId: bigint;
  /** undefined: there is no such item. */
  readonly item: Item | undefined;
}

interface How {
  /** Whether to ask first which of the entries and request numbers are known. */
  readonly lookUp: boolean;
}

/*
 * The consumer's transaction, for up to a batch of one item's entries:
 *
 *   lock the item and its sale → inbox rows that are there already (a redelivery: their outcome stands)
 *   → for each new entry in stream order: dead, rejected (cap, limit, request number), or an order
 *   → instance requests and outbox rows of the orders that are paid; of goods stock moves in their place → orders, and of
 *   goods their lines → inbox → dead letters → sales.sold → COMMIT
 *
 * Entries that look like a first delivery are not looked up, neither in the inbox nor by request number: nearly always
 * they are new, and where not, a unique key refuses the batch, which is then settled with looking up.
 *
 * Only then the entries leave the stream. Dying anywhere before COMMIT does nothing, dying after it delivers the entries
 * again, and the inbox answers. A batch that fails for another reason than a database that is away is halved until the
 * entry that is to blame stands alone; it is tried again with each delivery and put aside after `maxDeliveries`.
 */
export class SettlementUsecase {
  constructor(
    private readonly transactions: TransactionRunner,
    private readonly ids: IdGenerator,
    private readonly items: ItemDirectory,
    private readonly orders: OrderRepo,
    private readonly instances: InstanceUsecase,
    private readonly settlements: SettlementRepo,
    private readonly stock: StockRepo,
    private readonly policy: SettlementPolicy,
  ) {}

  /**
   * @param turn nothing is decided before it resolves, and nothing at all when it rejects; what needs no transaction is
   * done meanwhile
   * @throws UNAVAILABLE when the database is away: none of the entries not yet settled is lost, try again
   */
  async settle(itemId: bigint, deliveries: readonly Delivery[], turn?: Promise<unknown>): Promise<Settlement> {
    const settlement = {
      finished: [] as Finished[],
      counts: { ORDER: 0, REJECTED: 0, DEAD: 0 },
      failed: [] as Failed[],
    };
    const item = await this.items.find(itemId);
    if (item?.orderType === 'INSTANCE') await this.instances.loadSpecs([{ productId: itemId }]);
    const unique = [...new Map(deliveries.map((d) => [d.streamId, d])).values()].sort((a, b) =>
      compareStreamIds(a.streamId, b.streamId),
    );
    const candidates = unique.map((entry): Candidate => {
      const parsed = parseEntry(entry);
      return { entry, parsed, fault: faultOf(parsed, item) };
    });
    // One that was delivered this often may be to blame for it, so it does not take others with it.
    const suspects = candidates.filter((c) => c.entry.deliveries > this.policy.maxDeliveries);
    const batch = candidates.filter((c) => c.entry.deliveries <= this.policy.maxDeliveries);
    const owner = { itemId, item };
    await turn;
    if (batch.length > 0) await this.settleNew(owner, batch, settlement);
    for (const suspect of suspects) await this.settleHalving(owner, [suspect], settlement);
    return settlement;
  }

  private async settleNew(owner: Owner, batch: readonly Candidate[], into: Mutable): Promise<void> {
    if (batch.every((c) => c.entry.deliveries === 1)) {
      try {
        return await this.settleBatch(owner, batch, { lookUp: false }, into);
      } catch (err) {
        if (isUnavailable(err)) throw err;
      }
    }
    await this.settleHalving(owner, batch, into);
  }

  private async settleHalving(owner: Owner, batch: readonly Candidate[], into: Mutable): Promise<void> {
    try {
      await this.settleBatch(owner, batch, { lookUp: true }, into);
    } catch (err) {
      if (isUnavailable(err)) throw err;
      const [first] = batch;
      if (batch.length > 1) {
        const half = batch.length >> 1;
        await this.settleHalving(owner, batch.slice(0, half), into);
        await this.settleHalving(owner, batch.slice(half), into);
      } else if (first && first.entry.deliveries >= this.policy.maxDeliveries) {
        await this.settleBatch(owner, [{ ...first, fault: `gave up: ${messageOf(err)}` }], { lookUp: true }, into);
      } else if (first) {
        into.failed.push({ streamId: first.entry.streamId, cause: err });
      }
    }
  }

  private async settleBatch(owner: Owner, batch: readonly Candidate[], how: How, into: Mutable): Promise<void> {
    const { rows, sales } = await this.transactions.run((tx) => this.decide(tx, owner, batch, how), {
      idempotent: true,
    });
    for (const { parsed } of batch) {
      const row = rows.get(parsed.streamId);
      if (!row) throw new Error(`entry ${parsed.streamId} of item ${owner.itemId} has no outcome`);
      into.counts[row.kind] += 1;
      into.finished.push({ streamId: row.streamId, squaring: squaringOf(row, parsed, sales) });
    }
  }

  private async decide(
    tx: Transaction,
    owner: Owner,
    candidates: readonly Candidate[],
    { lookUp }: How,
  ): Promise<{ rows: ReadonlyMap<string, InboxRow>; sales: readonly Sale[] }> {
    const { itemId, item } = owner;
    const purchases = candidates.flatMap(({ parsed }) => (parsed.kind === 'purchase' ? [parsed] : []));
    const sales = await this.settlements.lock(tx, itemId, leastEpoch(purchases));
    const streamIds = candidates.map((c) => c.parsed.streamId);
    const known = lookUp ? await this.settlements.findRows(tx, itemId, streamIds) : [];
    const rows = new Map(known.map((row) => [row.streamId, row]));
    const fresh = candidates.flatMap((c): Fresh[] => {
      if (rows.has(c.parsed.streamId)) return [];
      const sale = c.parsed.kind === 'purchase' ? sales.find((s) => belongsTo(c.parsed as Purchase, s)) : undefined;
      return [{ entry: c.entry, parsed: c.parsed, fault: c.fault, sale }];
    });
    if (fresh.length === 0) return { rows, sales };

    const ledger = await this.openLedger(tx, item, sales, fresh, { lookUp });
    const orders: Writable<NewOrder>[] = [];
    const letters: DeadLetter[] = [];
    const wanted: CreateInstance[] = [];
    const lines: OrderItem[] = [];
    const added: InboxRow[] = [];
    for (const { entry, parsed, fault, sale } of fresh) {
      const dead = parsed.kind === 'malformed' ? parsed.reason : (fault ?? epochFault(parsed, sale));
      if (dead !== undefined || parsed.kind === 'malformed' || item === undefined) {
        const reason = (dead ?? 'unknown product').slice(0, REASON_MAX);
        letters.push({ entry, reason });
        added.push(inboxRow(parsed, sale, 'DEAD', reason, undefined));
        continue;
      }
      const taken = item.orderType === 'GOODS' && !sale ? NO_SALE : ledger.take(parsed, sale);
      if (taken.kind === 'refused') {
        added.push(inboxRow(parsed, sale, 'REJECTED', taken.reason, undefined));
        continue;
      }
      const order = this.newOrder(parsed, item, sale, taken.reqId);
      orders.push(order);
      added.push(inboxRow(parsed, sale, 'ORDER', '', order.id));
      if (item.orderType === 'GOODS') lines.push(lineOf(order, item));
      else if (order.status === 'PAID') wanted.push(instanceOf(order, itemId, entry));
    }
    // Which reason goes first, that of a request number or another, is known when the numbers are.
    if (!lookUp && added.some((row) => row.kind === 'REJECTED')) {
      return this.decide(tx, owner, candidates, { lookUp: true });
    }
    await this.store(tx, itemId, { orders, lines, wanted, added, letters, sold: ledger.sold });
    for (const row of added) rows.set(row.streamId, row);
    return { rows, sales };
  }

  private async openLedger(
    tx: Transaction,
    item: Item | undefined,
    sales: readonly Sale[],
    fresh: readonly Fresh[],
    { lookUp }: How,
  ): Promise<SettlementLedger> {
    const users: UserOfSale[] = [];
    const reqIds = new Set<bigint>();
    for (const { parsed, fault, sale } of fresh) {
      if (parsed.kind === 'malformed' || fault !== undefined) continue;
      if (lookUp) reqIds.add(parsed.reqId ?? derivedReqId(parsed.streamId));
      if (sale) users.push({ saleId: sale.id, userId: parsed.userId });
    }
    const holdings = users.length > 0 ? await this.settlements.findHoldings(tx, users) : [];
    const buyers = item && reqIds.size > 0 ? await this.settlements.findReqIds(tx, item, [...reqIds]) : [];
    return new SettlementLedger(sales, holdings, new Map(buyers));
  }

  private newOrder(purchase: Purchase, item: Item, sale: Sale | undefined, reqId: bigint): Writable<NewOrder> {
    const priceFen = sale?.priceFen ?? item.priceFen;
    const later = sale?.payMode === 'PAY_LATER';
    return {
      id: this.ids.nextId(),
      userId: purchase.userId,
      orderType: item.orderType,
      source: 'SECKILL',
      status: later ? 'PENDING' : 'PAID',
      productId: item.orderType === 'INSTANCE' ? item.id : undefined,
      skuId: item.orderType === 'GOODS' ? item.id : undefined,
      productName: item.name,
      quantity: purchase.quantity,
      priceFen,
      amountFen: priceFen * BigInt(purchase.quantity),
      reqId,
      saleId: sale?.id,
      instanceId: undefined,
      payTimeoutMs: later ? sale.payTimeoutMs : undefined,
    };
  }

  private async store(
    tx: Transaction,
    itemId: bigint,
    batch: {
      readonly orders: readonly Writable<NewOrder>[];
      readonly lines: readonly OrderItem[];
      readonly wanted: readonly CreateInstance[];
      readonly added: readonly InboxRow[];
      readonly letters: readonly DeadLetter[];
      readonly sold: ReadonlyMap<bigint, number>;
    },
  ): Promise<void> {
    // Before the orders: skus are locked after sales, and before everything else.
    const goods = batch.orders.filter((o) => o.orderType === 'GOODS');
    await this.stock.move(
      tx,
      goods.map((o) => (o.status === 'PAID' ? orderDeducted(o) : orderHeld(o))),
    );
    await this.storeOrders(tx, batch.orders, batch.wanted);
    await this.orders.insertItems(tx, batch.lines);
    await this.settlements.insertRows(tx, itemId, batch.added);
    if (batch.letters.length > 0) await this.settlements.insertDeadLetters(tx, itemId, batch.letters);
    if (batch.sold.size > 0) await this.settlements.addSold(tx, batch.sold);
  }

  private async storeOrders(
    tx: Transaction,
    orders: readonly Writable<NewOrder>[],
    wanted: readonly CreateInstance[],
  ): Promise<void> {
    if (orders.length === 0) return;
    const given = await this.instances.createInstances(tx, wanted);
    const instanceIds = new Map(given.map((g) => [g.orderId, g.instanceId]));
    for (const order of orders) order.instanceId = instanceIds.get(order.id);
    if (!(await this.orders.insert(tx, orders, 'seckill'))) throw new Error('orders of a batch carry no request ids');
  }
}

type Failed = Settlement['failed'][number];
type Mutable = { finished: Finished[]; counts: Record<OutcomeKind, number>; failed: Failed[] };
type Writable<T> = { -readonly [K in keyof T]: T[K] };

const REASON_MAX = 255;
/** The stock of goods is given out by sales alone. */
const NO_SALE: Taken = { kind: 'refused', reason: 'NO_SALE' };

function inboxRow(
  parsed: Purchase | Malformed,
  sale: Sale | undefined,
  kind: OutcomeKind,
  reason: string,
  orderId: bigint | undefined,
): InboxRow {
  const purchase = parsed.kind === 'purchase' ? parsed : undefined;
  return {
    streamId: parsed.streamId,
    kind,
    userId: purchase?.userId,
    quantity: purchase?.quantity,
    orderId,
    reason,
    saleId: sale?.id,
    epoch: sale?.epoch,
  };
}

function faultOf(parsed: Purchase | Malformed, item: Item | undefined): string | undefined {
  if (parsed.kind === 'malformed') return parsed.reason;
  if (!item) return 'unknown product';
  if (!item.onSale) return item.orderType === 'INSTANCE' ? 'PRODUCT_DISABLED' : 'GOODS_UNPUBLISHED';
  if (item.orderType === 'INSTANCE' && parsed.quantity !== 1) return 'qty must be 1 for an instance plan';
  return undefined;
}

function epochFault(purchase: Purchase, sale: Sale | undefined): string | undefined {
  return purchase.epoch !== undefined && !sale ? `no sale of the item had epoch ${purchase.epoch}` : undefined;
}

function lineOf(order: NewOrder, { goods: { sku, spu } }: Item & { orderType: 'GOODS' }): OrderItem {
  return {
    orderId: order.id,
    skuId: sku.id,
    spuId: sku.spuId,
    spuName: spu.title,
    skuName: sku.skuName,
    skuImage: spu.mainImages[0] ?? '',
    specs: sku.specs,
    priceFen: order.priceFen,
    quantity: order.quantity,
  };
}

function instanceOf(order: NewOrder, productId: bigint, entry: StreamEntry): CreateInstance {
  const trace = entry.fields.get('tp');
  return {
    productId,
    userId: order.userId,
    source: 'SECKILL',
    sourceId: entry.streamId,
    orderId: order.id,
    trace: trace !== undefined && TRACEPARENT.test(trace) ? trace : undefined,
  };
}

/** Anybody may have added the entry: what is no traceparent goes no further. */
const TRACEPARENT = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;

/** Only where the outcome is not what the entry's units were taken for, and the sale still admits. */
function squaringOf(row: InboxRow, parsed: Purchase | Malformed, sales: readonly Sale[]): Squaring | undefined {
  if (parsed.kind === 'malformed' || row.saleId === undefined || row.epoch === undefined) return undefined;
  // One of an older epoch may have been lost with Redis before the load that would have counted it.
  if (row.kind === 'ORDER' && parsed.epoch === row.epoch) return undefined;
  if (sales.find((s) => s.id === row.saleId)?.status !== 'OPEN') return undefined;
  return {
    epoch: row.epoch,
    entryEpoch: parsed.epoch,
    userId: parsed.userId,
    quantity: parsed.quantity,
    outcome: row.kind === 'ORDER' ? 'ORDER' : row.reason === 'SOLD_OUT' ? 'SOLD_OUT' : 'REFUSED',
  };
}

function leastEpoch(purchases: readonly Purchase[]): bigint | undefined {
  let least: bigint | undefined;
  for (const { epoch } of purchases) if (epoch !== undefined && (least === undefined || epoch < least)) least = epoch;
  return least;
}

function messageOf(err: unknown): string {
  return err instanceof Error ? err.message : String(err);
}
