import type { OrderItem } from '../../../internal/biz/order/order-item.js';
import {
  type Move,
  type NewGoodsOrder,
  type NewOrder,
  type Order,
  type OrderActor,
  type OrderEvent,
  type OrderFilter,
  OrderRepo,
  type OrderStatus,
  type Receiver,
  type RefundedPart,
  type RequestId,
  requestKey,
} from '../../../internal/biz/order/order-state.js';
import type { Page, PageRequest } from '../../../internal/biz/page.js';
import type { InboxRow } from '../../../internal/biz/seckill/settlement-state.js';
import type { Transaction } from '../../../internal/biz/transaction.js';
import { ConstraintViolation, type MemoryStore, MemoryTable } from './store.js';

interface EventRow extends OrderEvent {
  readonly orderId: bigint;
  readonly version: bigint;
}

export interface MemoryInboxRow extends InboxRow {
  readonly itemId: bigint;
}

const CLOSE_REASON_MAX = 64;
const EVENT_REASON_MAX = 255;
const REQUEST_KEY = 'user and request';

export class MemoryOrderRepo extends OrderRepo {
  readonly orders: MemoryTable<Order>;
  readonly events: MemoryTable<EventRow>;
  readonly items: MemoryTable<OrderItem & { readonly orderId: bigint }>;
  readonly inbox: MemoryTable<MemoryInboxRow>;
  private readonly hidden: MemoryTable<{ readonly id: bigint }>;

  constructor(protected readonly store: MemoryStore) {
    super();
    this.orders = new MemoryTable(store, 'orders', (o) => String(o.id), [
      { name: REQUEST_KEY, of: (o) => (o.requestId === undefined ? undefined : `${o.userId} ${o.requestId}`) },
      { name: 'product and req_id', of: (o) => (o.productId === undefined ? undefined : `${o.productId} ${o.reqId}`) },
      { name: 'content and req_id', of: (o) => o.content && `${o.content.id} ${o.reqId}` },
      { name: 'sku and req_id', of: (o) => (o.skuId === undefined ? undefined : `${o.skuId} ${o.reqId}`) },
    ]);
    this.events = new MemoryTable(store, 'order_events', (e) => `${e.orderId} ${e.version}`);
    this.items = new MemoryTable(store, 'order_items', (i) => `${i.orderId} ${i.skuId}`);
    this.hidden = new MemoryTable(store, 'hidden orders', (o) => String(o.id));
    this.inbox = new MemoryTable(store, 'stream_inbox', (i) => `${i.itemId} ${i.streamId}`);
  }

  override insert(tx: Transaction, orders: readonly NewOrder[], actor: OrderActor): Promise<boolean> {
    return this.store.statement('order.insert', tx, async () => {
      const at = this.store.now();
      let stored = 0;
      for (const order of orders) if (await this.insertOne(tx, orderOf(order, at), actor)) stored++;
      return stored === orders.length;
    });
  }

  override insertGoods(tx: Transaction, orders: readonly NewGoodsOrder[], actor: OrderActor): Promise<boolean> {
    return this.store.statement('order.insertGoods', tx, async () => {
      const at = this.store.now();
      let stored = 0;
      for (const order of orders) {
        if (!(await this.insertOne(tx, orderOf(order, at), actor))) continue;
        for (const item of order.items) await this.items.insert(tx, { orderId: order.id, ...item });
        stored++;
      }
      return stored === orders.length;
    });
  }

  override find(id: bigint, userId: string | undefined, tx?: Transaction): Promise<Order | undefined> {
    return this.store.statement('order.find', tx, async () => this.visible(id, userId, tx));
  }

  override findAll(ids: readonly bigint[], tx?: Transaction): Promise<readonly Order[]> {
    return this.store.statement('order.findAll', tx, async () =>
      ids.flatMap((id) => this.orders.find(String(id), tx) ?? []),
    );
  }

  override lock(tx: Transaction, id: bigint, userId: string | undefined): Promise<Order | undefined> {
    return this.store.statement('order.lock', tx, async () => {
      if (!this.visible(id, userId, tx)) return undefined;
      return this.orders.lock(tx, String(id));
    });
  }

  override findStreamId(tx: Transaction, orderId: bigint): Promise<string | undefined> {
    return this.store.statement('order.findStreamId', tx, async () => {
      return this.inbox.rows(tx).find((row) => row.orderId === orderId)?.streamId;
    });
  }

  override findByRequest(userId: string, requestId: string): Promise<Order | undefined> {
    return this.store.statement('order.findByRequest', undefined, async () =>
      this.orders.rows().find((o) => o.userId === userId && o.requestId === requestId),
    );
  }

  override findRequestIds(tx: Transaction, requests: readonly RequestId[]): Promise<Set<string>> {
    return this.store.statement('order.findRequestIds', tx, async () => {
      const wanted = new Set(requests.map(requestKey));
      const keys = this.orders.rows(tx).map(({ userId, requestId = '' }) => requestKey({ userId, requestId }));
      return new Set(keys.filter((key): key is string => key !== undefined && wanted.has(key)));
    });
  }

  override list(
    userId: string,
    filter: OrderFilter,
    { offset, limit, afterId }: PageRequest & { readonly afterId?: bigint | undefined },
  ): Promise<Page<Order>> {
    return this.store.statement('order.list', undefined, async () => {
      const found = this.orders
        .rows()
        .filter((o) => o.userId === userId && !this.hidden.find(String(o.id)))
        .filter((o) => filter.status === undefined || o.status === filter.status)
        .filter((o) => filter.orderType === undefined || o.orderType === filter.orderType)
        .sort((a, b) => b.createdAt.getTime() - a.createdAt.getTime() || (a.id < b.id ? 1 : -1));
      const first = afterId === undefined ? offset : found.findIndex((o) => o.id === afterId) + 1;
      return { items: found.slice(first, first + limit), total: BigInt(found.length) };
    });
  }

  override listEvents(orderId: bigint): Promise<readonly OrderEvent[]> {
    return this.store.statement('order.listEvents', undefined, async () =>
      this.events
        .rows()
        .filter((e) => e.orderId === orderId)
        .sort((a, b) => (a.version < b.version ? -1 : 1))
        .map(({ from, to, actor, reason, at }) => ({ from, to, actor, reason, at })),
    );
  }

  override lockOverdue(tx: Transaction, limit: number, except: readonly bigint[]): Promise<readonly Order[]> {
    return this.store.statement('order.lockOverdue', tx, async () =>
      this.lockDue(tx, limit, except, 'PENDING', (o) => o.payDeadline),
    );
  }

  override lockUnconfirmed(tx: Transaction, limit: number, except: readonly bigint[]): Promise<readonly Order[]> {
    return this.store.statement('order.lockUnconfirmed', tx, async () =>
      this.lockDue(tx, limit, except, 'SHIPPED', (o) => o.confirmDeadline),
    );
  }

  override setReceiver(
    tx: Transaction,
    id: bigint,
    { receiver, freightFen }: { readonly receiver: Receiver; readonly freightFen: bigint },
  ): Promise<Order> {
    return this.store.statement('order.setReceiver', tx, async () => {
      const changed = await this.orders.update(tx, String(id), (o) => {
        const amountFen = o.amountFen - o.freightFen + freightFen;
        return { ...o, receiver, freightFen, amountFen, version: o.version + 1n };
      });
      if (!changed) throw new Error(`order ${id} does not exist`);
      return changed;
    });
  }

  override hide(id: bigint, userId: string): Promise<boolean> {
    return this.store.statement('order.hide', undefined, async (tx) => {
      const order = await this.orders.lock(tx, String(id));
      if (order?.userId !== userId) return false;
      if (this.hidden.find(String(id), tx)) return true;
      if (order.status !== 'CANCELLED' && order.status !== 'COMPLETED') return false;
      await this.hidden.insert(tx, { id });
      await this.orders.update(tx, String(id), (o) => ({ ...o, version: o.version + 1n }));
      return true;
    });
  }

  override compareAndSet(tx: Transaction, order: Order, move: Move): Promise<Order | undefined> {
    return this.store.statement('order.compareAndSet', tx, () => this.move(tx, order, move, true));
  }

  override completeAll(
    tx: Transaction,
    orderIds: readonly bigint[],
    from: Pick<Order, 'status' | 'orderType'>,
    actor: OrderActor,
  ): Promise<number> {
    return this.store.statement('order.completeAll', tx, async () => {
      let completed = 0;
      for (const id of [...orderIds].sort((a, b) => (a < b ? -1 : 1))) {
        const order = await this.orders.lock(tx, String(id));
        if (order?.status !== from.status || order.orderType !== from.orderType) continue;
        if (await this.move(tx, order, { to: 'COMPLETED', actor, reason: '' }, true)) completed++;
      }
      return completed;
    });
  }

  override setInstance(tx: Transaction, orderId: bigint, instanceId: bigint): Promise<boolean> {
    return this.store.statement('order.setInstance', tx, async () => {
      const set = await this.orders.update(tx, String(orderId), (o) =>
        o.status === 'PAID' && o.instanceId === undefined ? { ...o, instanceId, version: o.version + 1n } : undefined,
      );
      return set !== undefined;
    });
  }

  override addRefund(tx: Transaction, orderId: bigint, { amountFen, units }: RefundedPart): Promise<void> {
    return this.store.statement('order.addRefund', tx, async () => {
      await this.orders.update(tx, String(orderId), (o) => {
        const refundedFen = o.refundedFen + amountFen;
        const keptQuantity = (o.keptQuantity ?? o.quantity) - units;
        if (refundedFen > o.amountFen) throw new ConstraintViolation('orders: refunded within amount');
        if (keptQuantity < 0) throw new ConstraintViolation('orders: kept within quantity');
        return { ...o, refundedFen, keptQuantity, version: o.version + 1n };
      });
    });
  }

  override isCompletedWithin(tx: Transaction, orderId: bigint, windowMs: number): Promise<boolean> {
    return this.store.statement('order.isCompletedWithin', tx, async () => {
      const atMs = this.orders.find(String(orderId), tx)?.completedAt?.getTime();
      return atMs !== undefined && atMs > this.store.now().getTime() - windowMs;
    });
  }

  private visible(id: bigint, userId: string | undefined, tx: Transaction | undefined): Order | undefined {
    const order = this.orders.find(String(id), tx);
    if (userId === undefined) return order;
    return order?.userId === userId && !this.hidden.find(String(id), tx) ? order : undefined;
  }

  private lockDue(
    tx: Transaction,
    limit: number,
    except: readonly bigint[],
    status: OrderStatus,
    deadlineOf: (order: Order) => Date | undefined,
  ): readonly Order[] {
    const nowMs = this.store.now().getTime();
    const dueAtMs = (order: Order) => deadlineOf(order)?.getTime() ?? Number.POSITIVE_INFINITY;
    const due = this.orders
      .rows(tx)
      .filter((o) => o.status === status && dueAtMs(o) < nowMs)
      .filter((o) => !except.includes(o.id))
      .sort((a, b) => dueAtMs(a) - dueAtMs(b));
    const locked: Order[] = [];
    for (const { id } of due) {
      if (locked.length === limit) break;
      const order = this.orders.tryLock(tx, String(id));
      if (order) locked.push(order);
    }
    return locked;
  }

  private async insertOne(tx: Transaction, order: Order, actor: OrderActor): Promise<boolean> {
    if (await this.orders.insert(tx, order, REQUEST_KEY)) return false;
    const { id: orderId, status: to, createdAt: at } = order;
    await this.events.insert(tx, { orderId, version: 1n, from: undefined, to, actor, reason: '', at });
    return true;
  }

  protected async move(tx: Transaction, order: Order, move: Move, compare: boolean): Promise<Order | undefined> {
    const at = this.store.now();
    const moved = await this.orders.update(tx, String(order.id), (o) => {
      if (compare && (o.status !== order.status || o.version !== order.version)) return undefined;
      return {
        ...o,
        status: move.to,
        version: o.version + 1n,
        paidAt: move.to === 'PAID' ? (o.paidAt ?? at) : o.paidAt,
        shippedAt: move.to === 'SHIPPED' ? (o.shippedAt ?? at) : o.shippedAt,
        confirmDeadline:
          move.confirmAfterMs === undefined ? o.confirmDeadline : new Date(at.getTime() + move.confirmAfterMs),
        completedAt: move.to === 'COMPLETED' ? (o.completedAt ?? at) : o.completedAt,
        closeReason: move.to === 'CANCELLED' || move.to === 'REFUNDING' ? move.reason.slice(0, CLOSE_REASON_MAX) : '',
        instanceId: move.instanceId ?? o.instanceId,
      };
    });
    if (!moved) return undefined;
    if (moved.completedAt && !(moved.paidAt && moved.paidAt <= moved.completedAt)) {
      throw new ConstraintViolation('orders: paid before completed');
    }
    if (moved.shippedAt && !moved.receiver) throw new ConstraintViolation('orders: shipped to a receiver');
    if (moved.status === 'SHIPPED' && !moved.confirmDeadline) {
      throw new ConstraintViolation('orders: shipped has a deadline');
    }
    const reason = move.reason.slice(0, EVENT_REASON_MAX);
    const { version } = moved;
    await this.events.insert(tx, {
      orderId: order.id,
      version,
      from: order.status,
      to: move.to,
      actor: move.actor,
      reason,
      at,
    });
    return moved;
  }
}

function orderOf({ payTimeoutMs, ...order }: NewOrder & Partial<NewGoodsOrder>, at: Date): Order {
  const { freightFen = 0n, promotionFen = 0n } = order;
  return {
    ...order,
    totalFen: order.amountFen - freightFen + promotionFen,
    freightFen,
    promotionFen,
    refundedFen: 0n,
    keptQuantity: undefined,
    items: order.items ?? [],
    receiver: order.receiver,
    requestFingerprint: order.requestFingerprint,
    sellerId: order.sellerId,
    orderNo: `ORD${order.id}`,
    skuId: order.skuId,
    content: order.content,
    saleId: order.saleId,
    requestId: order.requestId,
    instanceId: order.instanceId,
    closeReason: '',
    remark: order.remark ?? '',
    version: 1n,
    createdAt: at,
    payDeadline: payTimeoutMs === undefined ? undefined : new Date(at.getTime() + payTimeoutMs),
    paidAt: order.status === 'PAID' ? at : undefined,
    shippedAt: undefined,
    confirmDeadline: undefined,
    completedAt: undefined,
  };
}
