import { orderNotFound, orderStatusConflict } from '../../../gen/order/v1/errors.js';
import type { Page, PageRequest } from '../page.js';
import type { Transaction } from '../transaction.js';
import type { OrderItem } from './order-item.js';

export type OrderStatus = 'PENDING' | 'PAID' | 'CANCELLED' | 'COMPLETED' | 'SHIPPED' | 'REFUNDING';
export type OrderType = 'INSTANCE' | 'GOODS' | 'CONTENT';
export type OrderSource = 'SECKILL' | 'NORMAL';
/** `closeReason` of an order whose money went back. */
export const REFUNDED = 'REFUNDED';
/** `closeReason` of an order that was not paid in time. */
export const PAY_TIMEOUT = 'PAY_TIMEOUT';
/** Who changed the status of an order. */
export type OrderActor =
  | 'user'
  | 'payment'
  | 'system'
  | 'sweeper'
  | 'confirmer'
  | 'resource'
  | 'seckill'
  | 'refund'
  | 'admin';

/** The content that a CONTENT order buys, as it was sold. The title is the order's `productName`. */
export interface OrderedContent {
  readonly id: bigint;
  readonly type: string;
  /** Days of access; undefined: permanent access. */
  readonly days: number | undefined;
}

/** Who receives the goods, and where. */
export interface Receiver {
  readonly name: string;
  readonly phone: string;
  /** Region code, from the largest unit to the smallest. */
  readonly region: string;
  readonly address: string;
}

export interface Order {
  readonly id: bigint;
  readonly orderNo: string;
  readonly userId: string;
  /** undefined: none, or the lines have different ones. */
  readonly sellerId: string | undefined;
  readonly orderType: OrderType;
  readonly source: OrderSource;
  readonly status: OrderStatus;
  readonly productId: bigint | undefined;
  /** Only of flash-sale orders of goods, which have one sku. */
  readonly skuId: bigint | undefined;
  /** Only of CONTENT orders. */
  readonly content: OrderedContent | undefined;
  readonly productName: string;
  readonly quantity: number;
  readonly priceFen: bigint;
  /** Amount to pay: total + freight - promotion. */
  readonly amountFen: bigint;
  /** Σ list price × quantity. */
  readonly totalFen: bigint;
  readonly freightFen: bigint;
  /** All discounts together. */
  readonly promotionFen: bigint;
  /** What went back by refunds of the order or its lines. */
  readonly refundedFen: bigint;
  /** Units that its refunds have left with the buyer; undefined: no refund has changed them. */
  readonly keptQuantity: number | undefined;
  /** GOODS: the lines as they were ordered, by sku id. */
  readonly items: readonly OrderItem[];
  /** GOODS: undefined until the buyer has given it. */
  readonly receiver: Receiver | undefined;
  readonly reqId: bigint;
  readonly saleId: bigint | undefined;
  readonly requestId: string | undefined;
  /** What the request id asked for, as `fingerprintOf` gives it. */
  readonly requestFingerprint: string | undefined;
  readonly instanceId: bigint | undefined;
  readonly closeReason: string;
  readonly remark: string;
  readonly version: bigint;
  readonly createdAt: Date;
  readonly payDeadline: Date | undefined;
  readonly paidAt: Date | undefined;
  /** GOODS: when they left the warehouse. */
  readonly shippedAt: Date | undefined;
  /** GOODS: when a SHIPPED order is confirmed automatically. */
  readonly confirmDeadline: Date | undefined;
  readonly completedAt: Date | undefined;
}

/** An order before it is stored. It starts at version 1 with its first event. */
export interface NewOrder {
  readonly id: bigint;
  readonly userId: string;
  readonly sellerId?: string | undefined;
  readonly orderType: OrderType;
  readonly source: OrderSource;
  readonly status: 'PENDING' | 'PAID';
  readonly productId: bigint | undefined;
  readonly skuId?: bigint | undefined;
  /** Required with CONTENT. */
  readonly content?: OrderedContent | undefined;
  readonly productName: string;
  readonly quantity: number;
  readonly priceFen: bigint;
  readonly amountFen: bigint;
  readonly reqId: bigint;
  readonly saleId?: bigint | undefined;
  readonly requestId?: string | undefined;
  readonly requestFingerprint?: string | undefined;
  readonly instanceId?: bigint | undefined;
  readonly remark?: string;
  /**
   * Only with PENDING: how long the buyer has to pay. The database both sets and judges the deadline. Set by a process
   * whose clock is slow, the order would be overdue at once.
   */
  readonly payTimeoutMs?: number | undefined;
}

/** An ordinary order of goods before it is stored. */
export interface NewGoodsOrder extends NewOrder {
  readonly freightFen: bigint;
  readonly promotionFen: bigint;
  readonly receiver: Receiver | undefined;
  /** One for each sku, by sku id. */
  readonly items: readonly OrderItem[];
}

export interface OrderEvent {
  readonly from: OrderStatus | undefined;
  readonly to: OrderStatus;
  readonly actor: OrderActor;
  readonly reason: string;
  readonly at: Date;
}

export interface Move {
  readonly to: OrderStatus;
  readonly actor: OrderActor;
  readonly reason: string;
  /** Set with the move, so that the row and its many indexes are written once. */
  readonly instanceId?: bigint;
  /** Only to SHIPPED: how long the buyer has to confirm. The database both sets and judges the deadline. */
  readonly confirmAfterMs?: number;
}

export interface OrderFilter {
  readonly status?: OrderStatus | undefined;
  readonly orderType?: OrderType | undefined;
}

/** Idempotency key of a request, unique per user. */
export interface RequestId {
  readonly userId: string;
  /** Empty: none. */
  readonly requestId: string;
}

/** @returns undefined: the caller gave no request id */
export function requestKey({ userId, requestId }: RequestId): string | undefined {
  return requestId === '' ? undefined : `${userId} ${requestId}`;
}

/** What a refund changes on its order. */
export interface RefundedPart {
  readonly amountFen: bigint;
  /** Units that are on sale again. */
  readonly units: number;
}

/** The units of an order that count as sold: towards its sale, and towards its buyer's limit. */
export function soldQuantity({ status, quantity, keptQuantity }: Order): number {
  return keptQuantity ?? (status === 'CANCELLED' ? 0 : quantity);
}

export abstract class OrderRepo {
  /**
   * Stores orders other than GOODS with their first events, in one statement.
   * @returns false: the (user, request id) of a single order is taken, and nothing was stored. A batch has no request ids.
   */
  abstract insert(tx: Transaction, orders: readonly NewOrder[], actor: OrderActor): Promise<boolean>;
  /**
   * The same for GOODS, with their lines and the snapshot of them.
   * @returns false: a request id is taken. Some orders may be stored, so roll back.
   */
  abstract insertGoods(tx: Transaction, orders: readonly NewGoodsOrder[], actor: OrderActor): Promise<boolean>;
  /** `userId` undefined: an order of any user, also one that its owner has deleted. */
  abstract find(id: bigint, userId: string | undefined, tx?: Transaction): Promise<Order | undefined>;
  /** Those of these orders that there are, of any user, in any order. */
  abstract findAll(ids: readonly bigint[], tx?: Transaction): Promise<readonly Order[]>;
  /** The order as `find` finds it, locked until `tx` ends. */
  abstract lock(tx: Transaction, id: bigint, userId: string | undefined): Promise<Order | undefined>;
  /** The id of the stream entry that became this order. */
  abstract findStreamId(tx: Transaction, orderId: bigint): Promise<string | undefined>;
  abstract findByRequest(userId: string, requestId: string): Promise<Order | undefined>;
  /** Those of these request ids that have an order, as `requestKey` formats them. */
  abstract findRequestIds(tx: Transaction, requests: readonly RequestId[]): Promise<Set<string>>;
  /** A user's orders, newest first. `page.afterId`: those that follow this order in the list. */
  abstract list(
    userId: string,
    filter: OrderFilter,
    page: PageRequest & { readonly afterId?: bigint | undefined },
  ): Promise<Page<Order>>;
  abstract listEvents(orderId: bigint): Promise<readonly OrderEvent[]>;
  /**
   * PENDING orders past their pay deadline, except those of `except` and those that another transaction has locked; the
   * longest overdue first. Locked until `tx` ends.
   */
  abstract lockOverdue(tx: Transaction, limit: number, except: readonly bigint[]): Promise<readonly Order[]>;
  /** The same for SHIPPED orders past their confirm deadline. */
  abstract lockUnconfirmed(tx: Transaction, limit: number, except: readonly bigint[]): Promise<readonly Order[]>;
  /** Replaces the receiver of an order that `tx` has locked, and its freight, which changes its amount. */
  abstract setReceiver(
    tx: Transaction,
    id: bigint,
    change: { readonly receiver: Receiver; readonly freightFen: bigint },
  ): Promise<Order>;
  /** Hides a CANCELLED or COMPLETED order from its owner. @returns whether it is hidden now */
  abstract hide(id: bigint, userId: string): Promise<boolean>;
  /**
   * Compare-and-set of status and version, with the event, in one statement. Only `moveOrder` calls it.
   * @returns the order after the move; undefined: another transaction moved it first
   */
  abstract compareAndSet(tx: Transaction, order: Order, move: Move): Promise<Order | undefined>;
  /**
   * Moves those of the orders that are `from` and of this type to COMPLETED, with an event each, in one statement.
   * @returns how many
   */
  abstract completeAll(
    tx: Transaction,
    orderIds: readonly bigint[],
    from: Pick<Order, 'status' | 'orderType'>,
    actor: OrderActor,
  ): Promise<number>;
  /** Sets the instance of a PAID order. @returns false: the order has one already, is not PAID, or does not exist */
  abstract setInstance(tx: Transaction, orderId: bigint, instanceId: bigint): Promise<boolean>;
  /**
   * Adds to what was refunded of an order that `tx` has locked.
   * @throws when more would be refunded than it cost, or more units returned than it has
   */
  abstract addRefund(tx: Transaction, orderId: bigint, part: RefundedPart): Promise<void>;
  /** Whether the order was completed less than `windowMs` ago, by the clock that recorded it. */
  abstract isCompletedWithin(tx: Transaction, orderId: bigint, windowMs: number): Promise<boolean>;
}

/*
 * PENDING   → PAID       payment confirmed, or nothing to pay
 * PENDING   → CANCELLED  the user, or the pay deadline passed
 * PAID      → SHIPPED    GOODS only
 * PAID      → COMPLETED  INSTANCE: the resource domain reports success; CONTENT: entitlement granted
 * PAID      → REFUNDING  the user before shipping; INSTANCE: creation failed for good
 * SHIPPED   → COMPLETED  the buyer confirms the receipt, or the confirm deadline passed
 * SHIPPED   → REFUNDING  refused, or return asked
 * COMPLETED → REFUNDING  a refund is asked for within the after-sale window
 * REFUNDING → CANCELLED  refund done
 * REFUNDING → PAID / SHIPPED / COMPLETED  refund refused
 */
const TRANSITIONS: Readonly<Record<OrderStatus, Readonly<Partial<Record<OrderStatus, readonly OrderType[]>>>>> = {
  PENDING: { PAID: ['INSTANCE', 'GOODS', 'CONTENT'], CANCELLED: ['INSTANCE', 'GOODS', 'CONTENT'] },
  PAID: {
    SHIPPED: ['GOODS'],
    COMPLETED: ['INSTANCE', 'CONTENT'],
    REFUNDING: ['INSTANCE', 'GOODS', 'CONTENT'],
  },
  SHIPPED: { COMPLETED: ['GOODS'], REFUNDING: ['GOODS'] },
  COMPLETED: { REFUNDING: ['INSTANCE', 'GOODS', 'CONTENT'] },
  REFUNDING: {
    CANCELLED: ['INSTANCE', 'GOODS', 'CONTENT'],
    PAID: ['INSTANCE', 'GOODS', 'CONTENT'],
    SHIPPED: ['GOODS'],
    COMPLETED: ['INSTANCE', 'GOODS', 'CONTENT'],
  },
  CANCELLED: {},
};

export function canMove(order: Pick<Order, 'status' | 'orderType'>, to: OrderStatus): boolean {
  return TRANSITIONS[order.status][to]?.includes(order.orderType) ?? false;
}

/**
 * The only way to change the status of an order.
 * @returns the order after the move; undefined: another transaction moved it first, so read it again and decide again
 * @throws ORDER_STATUS_CONFLICT when the state machine has no such transition
 */
export async function moveOrder(
  repo: OrderRepo,
  tx: Transaction,
  order: Order,
  move: Move,
): Promise<Order | undefined> {
  if (!canMove(order, move.to)) {
    throw statusConflict(order, `it cannot become ${move.to}`);
  }
  return repo.compareAndSet(tx, order, move);
}

/**
 * The set-based form of a move to COMPLETED. Orders that are not `from` stay as they are.
 * @throws ORDER_STATUS_CONFLICT when the state machine has no such transition
 */
export async function completeOrders(
  repo: OrderRepo,
  tx: Transaction,
  orderIds: readonly bigint[],
  from: Pick<Order, 'status' | 'orderType'>,
  actor: OrderActor,
): Promise<void> {
  const [first] = orderIds;
  if (first === undefined) return;
  if (!canMove(from, 'COMPLETED')) throw statusConflict({ id: first, ...from }, 'it cannot become COMPLETED');
  await repo.completeAll(tx, orderIds, from, actor);
}

/** `moveOrder` for an order that `tx` has locked, so that no other transaction can move it first. */
export async function moveLocked(repo: OrderRepo, tx: Transaction, order: Order, move: Move): Promise<Order> {
  const moved = await moveOrder(repo, tx, order, move);
  if (!moved) throw new Error(`order ${order.id} changed while it was locked`);
  return moved;
}

/** ORDER_STATUS_CONFLICT. @param why ends the sentence that names the order's status */
export function statusConflict({ id, status }: Pick<Order, 'id' | 'status'>, why: string): Error {
  return orderStatusConflict(`order ${id} is ${status}: ${why}`, { metadata: { order_id: String(id), status } });
}

/** @throws ORDER_NOT_FOUND */
export function noOrder(id: bigint): never {
  throw orderNotFound(`no order ${id}`, { metadata: { order_id: String(id) } });
}
