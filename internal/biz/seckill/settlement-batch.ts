import { traceparentOf } from '../../kratos/tracing/traceparent.js';
import type { Goods } from '../catalog/catalog.js';
import type { Item } from '../catalog/item.js';
import { orderDeducted, orderHeld, type StockRepo } from '../catalog/stock.js';
import type { OrderAccess } from '../entitlement/order-access.js';
import type { IdGenerator } from '../id-generator.js';
import type { CreateInstance, InstanceUsecase } from '../instance/instance.js';
import { orderItemOf } from '../order/order-item.js';
import { completeOrders, type NewOrder, type OrderedContent, type OrderRepo } from '../order/order-state.js';
import { type Transaction, together } from '../transaction.js';
import type { Delivery, MalformedEntry, Purchase, StreamEntry } from './purchase-stream.js';
import type { Sale } from './sale-state.js';
import type { Reservation, SettlementLedger } from './settlement-ledger.js';
import type { DeadLetter, InboxRow, OutcomeKind, SettlementRepo } from './settlement-state.js';

/** The stream of one item. */
export interface ItemStream {
  readonly itemId: bigint;
  /** undefined: no such item exists. */
  readonly item: Item | undefined;
}

/** A delivered entry and what is known of it before the transaction. */
export interface PendingEntry {
  readonly entry: Delivery;
  readonly parsed: Purchase | MalformedEntry;
  /** Why it can never become an order; undefined: it may. */
  readonly fault: string | undefined;
}

/** An entry without an outcome, and the sale whose units it asks for. */
export interface NewEntry extends PendingEntry {
  readonly sale: Sale | undefined;
  /** Its outcome may have been deleted. */
  readonly tooOld: boolean;
}

/** What a batch writes through. */
export interface SettlementStores {
  readonly stock: StockRepo;
  readonly instances: InstanceUsecase;
  readonly orders: OrderRepo;
  readonly settlements: SettlementRepo;
  readonly access: OrderAccess;
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };

const REASON_MAX = 255;
/** Goods and contents are sold by sales alone. */
const NO_SALE: Reservation = { kind: 'refused', reason: 'NO_SALE' };
/** The buyer has permanent access to the content. */
const OWNED: Reservation = { kind: 'refused', reason: 'CONTENT_ALREADY_OWNED' };

/** Everything that one transaction writes for entries of one item. */
export class SettlementBatch {
  /** One for each entry that was added. */
  readonly rows: InboxRow[] = [];
  private readonly orders: Writable<NewOrder>[] = [];
  /** For the paid orders of instances. */
  private readonly instances: CreateInstance[] = [];
  private readonly deadLetters: DeadLetter[] = [];

  constructor(
    private readonly stream: ItemStream,
    private readonly ledger: SettlementLedger,
    /** CONTENT: buyers who have permanent access. */
    private readonly owners: Set<string>,
    private readonly ids: IdGenerator,
  ) {}

  /** Decides an entry. Entries are added in stream order: earlier ones take units first. */
  add({ entry, parsed, fault, sale, tooOld }: NewEntry): void {
    const { item } = this.stream;
    if (tooOld) {
      this.rows.push(inboxRow(parsed, sale, 'REJECTED', 'TOO_OLD', undefined));
      return;
    }
    const dead = parsed.kind === 'malformed' ? parsed.reason : (fault ?? epochFault(parsed, sale));
    if (dead !== undefined || parsed.kind === 'malformed' || item === undefined) {
      const reason = (dead ?? 'unknown product').slice(0, REASON_MAX);
      this.deadLetters.push({ entry, reason });
      this.rows.push(inboxRow(parsed, sale, 'DEAD', reason, undefined));
      return;
    }
    const reservation = this.reserve(item, parsed, sale);
    if (reservation.kind === 'refused') {
      this.rows.push(inboxRow(parsed, sale, 'REJECTED', reservation.reason, undefined));
      return;
    }
    const order = newOrder(this.ids.nextId(), parsed, item, sale, reservation.reqId);
    this.orders.push(order);
    this.rows.push(inboxRow(parsed, sale, 'ORDER', '', order.id));
    if (item.orderType === 'INSTANCE' && order.status === 'PAID')
      this.instances.push(instanceOf(order, item.id, entry));
    const { content } = order;
    if (content && content.days === undefined && order.status === 'PAID') this.owners.add(order.userId);
  }

  private reserve(item: Item, purchase: Purchase, sale: Sale | undefined): Reservation {
    if (item.orderType !== 'INSTANCE' && !sale) return NO_SALE;
    return this.owners.has(purchase.userId) ? OWNED : this.ledger.reserve(purchase, sale);
  }

  /** Units taken, by sale. */
  get sold(): ReadonlyMap<bigint, number> {
    return this.ledger.sold;
  }

  get hasRejections(): boolean {
    return this.rows.some((row) => row.kind === 'REJECTED');
  }

  /**
   * Writes it all. The sales are locked already, so the skus come first: see the lock order in transaction.ts. PostgreSQL
   * writes one table while the rows of the next are encoded.
   */
  async store(tx: Transaction, stores: SettlementStores): Promise<void> {
    const { item } = this.stream;
    const { settlements } = stores;
    const statements: Promise<void>[] = [];
    if (this.orders.length > 0) {
      if (item?.orderType === 'GOODS') await this.storeGoods(tx, item.goods, stores);
      else if (item?.orderType === 'CONTENT') await this.storeContents(tx, stores);
      else statements.push(...this.storeInstances(tx, stores));
    }
    statements.push(settlements.insertRows(tx, this.stream.itemId, this.rows));
    if (this.deadLetters.length > 0) {
      statements.push(settlements.insertDeadLetters(tx, this.stream.itemId, this.deadLetters));
    }
    if (this.ledger.sold.size > 0) statements.push(settlements.addSold(tx, this.ledger.sold));
    await together(...statements);
  }

  private async storeGoods(tx: Transaction, goods: Goods, { stock, orders, access }: SettlementStores): Promise<void> {
    await stock.move(
      tx,
      this.orders.map((o) => (o.status === 'PAID' ? orderDeducted(o) : orderHeld(o))),
    );
    const withLines = this.orders.map((order) => {
      const { priceFen, quantity } = order;
      const items = [orderItemOf(goods, { priceFen, quantity, promotionFen: 0n })];
      return { ...order, freightFen: 0n, promotionFen: 0n, receiver: undefined, items };
    });
    allInserted(await orders.insertGoods(tx, withLines, 'seckill'));
    await access.open(
      tx,
      withLines.filter((o) => o.status === 'PAID'),
    );
  }

  private async storeContents(tx: Transaction, { orders, access }: SettlementStores): Promise<void> {
    allInserted(await orders.insert(tx, this.orders, 'seckill'));
    const paid = this.orders.filter((o) => o.status === 'PAID');
    if (paid.length === 0) return;
    await access.open(tx, paid);
    const ids = paid.map((o) => o.id);
    await completeOrders(orders, tx, ids, { status: 'PAID', orderType: 'CONTENT' }, 'seckill');
  }

  private storeInstances(tx: Transaction, { instances, orders }: SettlementStores): Promise<void>[] {
    const planned = instances.plan(this.instances);
    const instanceIds = new Map(planned.map((p) => [p.orderId, p.instanceId]));
    for (const order of this.orders) order.instanceId = instanceIds.get(order.id);
    const inserted = orders.insert(tx, this.orders, 'seckill').then(allInserted);
    return planned.length === 0 ? [inserted] : [inserted, instances.storeNew(tx, planned)];
  }
}

/** Only a request id can be taken already, and the orders of a settlement have none. */
function allInserted(inserted: boolean): void {
  if (!inserted) throw new Error('an order of a settlement was not inserted');
}

function epochFault(purchase: Purchase, sale: Sale | undefined): string | undefined {
  return purchase.epoch !== undefined && !sale ? `no sale of the item had epoch ${purchase.epoch}` : undefined;
}

function inboxRow(
  parsed: Purchase | MalformedEntry,
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

function newOrder(
  id: bigint,
  purchase: Purchase,
  item: Item,
  sale: Sale | undefined,
  reqId: bigint,
): Writable<NewOrder> {
  const priceFen = sale?.priceFen ?? item.priceFen;
  const amountFen = priceFen * BigInt(purchase.quantity);
  // An order that costs nothing is PAID at once, as in a PREPAID sale: no payment provider takes 0 fen.
  const later = sale?.payMode === 'PAY_LATER' && amountFen > 0n;
  return {
    id,
    userId: purchase.userId,
    sellerId: item.sellerId,
    orderType: item.orderType,
    source: 'SECKILL',
    status: later ? 'PENDING' : 'PAID',
    productId: item.orderType === 'INSTANCE' ? item.id : undefined,
    skuId: item.orderType === 'GOODS' ? item.id : undefined,
    content: item.orderType === 'CONTENT' ? contentOf(item) : undefined,
    productName: item.name,
    quantity: purchase.quantity,
    priceFen,
    amountFen,
    reqId,
    saleId: sale?.id,
    instanceId: undefined,
    payTimeoutMs: later ? sale.payTimeoutMs : undefined,
  };
}

function contentOf({ id, content }: Extract<Item, { orderType: 'CONTENT' }>): OrderedContent {
  return { id, type: content.contentType, days: content.accessDays };
}

function instanceOf(order: NewOrder, productId: bigint, entry: StreamEntry): CreateInstance {
  return {
    productId,
    userId: order.userId,
    source: 'SECKILL',
    sourceId: entry.streamId,
    orderId: order.id,
    // Any client of Redis may have added the entry.
    trace: traceparentOf(entry.fields.get('tp')),
  };
}
