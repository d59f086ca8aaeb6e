import { orderStatusConflict } from '../../../gen/order/v1/errors.js';
import type { Page, PageRequest } from '../page.js';
import type { Transaction } from '../transaction.js';
import type { OrderItem } from './order-item.js';

export type OrderStatus = 'PENDING' | 'PAID' | 'CANCELLED' | 'COMPLETED' | 'SHIPPED' | 'REFUNDING';
export type OrderType = 'INSTANCE' | 'GOODS' | 'CONTENT';
export type OrderSource = 'SECKILL' | 'NORMAL';
/** Who moved an order. */
export type OrderActor = 'user' | 'payment' | 'sweeper' | 'resource' | 'seckill' | 'admin';

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
  readonly orderType: OrderType;
  readonly source: OrderSource;
  readonly status: OrderStatus;
  readonly productId: bigint | undefined;
  /** Of GOODS of a flash sale, which has one sku. */
  readonly skuId: bigint | undefined;
  readonly productName: string;
  readonly quantity: number;
  readonly priceFen: bigint;
  /** To pay: total + freight - promotion. */
  readonly amountFen: bigint;
  /** Σ list price × quantity. */
  readonly totalFen: bigint;
  readonly freightFen: bigint;
  /** All discounts together. */
  readonly promotionFen: bigint;
  /** GOODS: the lines as they were ordered, by sku id. */
  readonly items: readonly OrderItem[];
  /** GOODS: undefined until it is known. */
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
  readonly completedAt: Date | undefined;
}

/** An order before it is stored. It starts at version 1 with its first event. */
export interface NewOrder {
  readonly id: bigint;
  readonly userId: string;
  readonly orderType: OrderType;
  readonly source: OrderSource;
  readonly status: 'PENDING' | 'PAID';
  readonly productId: bigint | undefined;
  readonly skuId?: bigint | undefined;
  readonly productName: string;
  readonly quantity: number;
  readonly priceFen: bigint;
  readonly amountFen: bigint;
  readonly reqId: bigint;
  readonly saleId?: bigint | undefined;
  readonly requestId?: string | undefined;
  readonly instanceId?: bigint | undefined;
  readonly remark?: string;
  /**
   * Only with PENDING: how long the buyer has to pay. The database, which judges the deadline, also sets it: by the clock
   * of a process that is slow, the order would be overdue at once.
   */
  readonly payTimeoutMs?: number | undefined;
}

/** An ordinary order of goods before it is stored. */
export interface NewGoodsOrder extends NewOrder {
  readonly freightFen: bigint;
  readonly promotionFen: bigint;
  readonly receiver: Receiver | undefined;
  readonly requestFingerprint?: string | undefined;
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
  /** Set with the move, so that the row (with its many indexes) is written once. */
  readonly instanceId?: bigint;
}

export interface OrderFilter {
  readonly status?: OrderStatus | undefined;
  readonly orderType?: OrderType | undefined;
}

/** A caller's own id of a request, unique for the user. */
export interface RequestId {
  readonly userId: string;
  /** Empty: none. */
  readonly requestId: string;
}

/** undefined where the caller gave no request id. */
export function requestKey({ userId, requestId }: RequestId): string | undefined {
  return requestId === '' ? undefined : `${userId} ${requestId}`;
}

export abstract class OrderRepo {
  /**
   * Stores orders that are no GOODS with their first events, in one statement.
   * @returns false, with nothing stored, where (user, request id) of a single order is taken. A batch carries no
   * request ids.
   */
  abstract insert(tx: Transaction, orders: readonly NewOrder[], actor: OrderActor): Promise<boolean>;
  /**
   * The same for GOODS, with their lines and the snapshot of them. @returns false where a request id is taken: some orders
   * may be stored, so roll back
   */
  abstract insertGoods(tx: Transaction, orders: readonly NewGoodsOrder[], actor: OrderActor): Promise<boolean>;
  /** `userId` undefined reads any user's order. */
  abstract find(id: bigint, userId: string | undefined, tx?: Transaction): Promise<Order | undefined>;
  /** The order, locked until `tx` ends. */
  abstract lock(tx: Transaction, id: bigint, userId: string | undefined): Promise<Order | undefined>;
  /** The stream entry that a SECKILL order came from. */
  abstract findStreamId(tx: Transaction, orderId: bigint): Promise<string | undefined>;
  abstract findByRequest(userId: string, requestId: string): Promise<Order | undefined>;
  /** Which of these request ids have an order, as `requestKey` names them. */
  abstract findRequestIds(tx: Transaction, requests: readonly RequestId[]): Promise<Set<string>>;
  /** A user's orders, newest first. */
  abstract list(userId: string, filter: OrderFilter, page: PageRequest): Promise<Page<Order>>;
  abstract listEvents(orderId: bigint): Promise<readonly OrderEvent[]>;
  /**
   * PENDING orders past their pay deadline, except those of `except` and those that another transaction has locked; the
   * longest overdue first. Locked until `tx` ends.
   */
  abstract lockOverdue(tx: Transaction, limit: number, except: readonly bigint[]): Promise<readonly Order[]>;
  /**
   * Compare-and-set of status and version, with the event, in one statement. Only `moveOrder` calls it.
   * @returns the order after the move; undefined where somebody else moved it first
   */
  abstract compareAndSet(tx: Transaction, order: Order, move: Move): Promise<Order | undefined>;
  /** Puts the instance on a PAID order that has none; false where it has one, is not PAID, or is gone. */
  abstract setInstance(tx: Transaction, orderId: bigint, instanceId: bigint): Promise<boolean>;
}

/*
 * PENDING   → PAID       payment confirmed
 * PENDING   → CANCELLED  the user, or the pay deadline passed
 * PAID      → SHIPPED    GOODS only
 * PAID      → COMPLETED  INSTANCE: the resource domain reports success; CONTENT: entitlement granted
 * PAID      → REFUNDING  the user before shipping; INSTANCE: creation failed for good
 * SHIPPED   → COMPLETED  receipt confirmed
 * SHIPPED   → REFUNDING  refused, or return asked
 * COMPLETED → REFUNDING  GOODS and CONTENT only
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
  COMPLETED: { REFUNDING: ['GOODS', 'CONTENT'] },
  REFUNDING: {
    CANCELLED: ['INSTANCE', 'GOODS', 'CONTENT'],
    PAID: ['INSTANCE', 'GOODS', 'CONTENT'],
    SHIPPED: ['GOODS'],
    COMPLETED: ['GOODS', 'CONTENT'],
  },
  CANCELLED: {},
};

export function canMove(order: Pick<Order, 'status' | 'orderType'>, to: OrderStatus): boolean {
  return TRANSITIONS[order.status][to]?.includes(order.orderType) ?? false;
}

/**
 * The only way an order's status changes.
 * @returns the order after the move; undefined where somebody else moved it first: read again and decide again
 * @throws ORDER_STATUS_CONFLICT where the machine has no such move
 */
export async function moveOrder(
  repo: OrderRepo,
  tx: Transaction,
  order: Order,
  move: Move,
): Promise<Order | undefined> {
  if (!canMove(order, move.to)) {
    throw orderStatusConflict(`order ${order.id} is ${order.status} and cannot become ${move.to}`, {
      metadata: { order_id: String(order.id), status: order.status },
    });
  }
  return repo.compareAndSet(tx, order, move);
}
