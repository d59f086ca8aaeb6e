import {
  type Order,
  type OrderedContent,
  type OrderSource,
  type OrderType,
  REFUNDED,
  type Receiver,
} from '../../biz/order/order-state.js';
import { type ItemJson, itemOf } from './order-item.js';
import { ORDER_STATUS, orderStatusOf } from './status.js';

/** The columns of `OrderRow`. */
export const ORDER_COLUMNS = `id, order_no, user_id, order_type, source, status, product_id, sku_id, product_name, quantity, price,
  amount, req_id, sale_id, request_id, instance_id, close_reason, remark, version, created_at, pay_deadline, paid_at,
  completed_at, total_amount, freight_amount, promotion_amount, refunded_amount, kept_quantity, items, receiver_json, request_fingerprint, seller_id,
  shipped_at, confirm_deadline, content_id, content_type, content_days`;

export interface OrderRow {
  id: bigint;
  order_no: string;
  user_id: string;
  order_type: OrderType;
  source: OrderSource;
  status: number;
  product_id: bigint | null;
  sku_id: bigint | null;
  product_name: string;
  quantity: number;
  price: bigint;
  amount: bigint;
  req_id: bigint;
  sale_id: bigint | null;
  request_id: string | null;
  instance_id: bigint | null;
  close_reason: string;
  remark: string;
  version: bigint;
  created_at: Date;
  pay_deadline: Date | null;
  paid_at: Date | null;
  completed_at: Date | null;
  total_amount: bigint;
  freight_amount: bigint;
  promotion_amount: bigint;
  refunded_amount: bigint;
  kept_quantity: number | null;
  items: readonly ItemJson[] | null;
  receiver_json: Receiver | null;
  request_fingerprint: string | null;
  seller_id: string | null;
  shipped_at: Date | null;
  confirm_deadline: Date | null;
  content_id: bigint | null;
  content_type: string | null;
  content_days: number | null;
}

/** Whether an earlier version, which left no amount on the order, refunded the whole of it. */
function wasRefundedEarlier(row: OrderRow): boolean {
  return row.status === ORDER_STATUS.CANCELLED && row.close_reason === REFUNDED && row.kept_quantity === null;
}

function contentOf({ content_id: id, content_type: type, content_days: days }: OrderRow): OrderedContent | undefined {
  return id === null ? undefined : { id, type: type ?? '', days: days ?? undefined };
}

export function orderOf(row: OrderRow): Order {
  return {
    id: row.id,
    orderNo: row.order_no,
    userId: row.user_id,
    orderType: row.order_type,
    source: row.source,
    status: orderStatusOf(row.status),
    productId: row.product_id ?? undefined,
    skuId: row.sku_id ?? undefined,
    productName: row.product_name,
    quantity: row.quantity,
    priceFen: row.price,
    amountFen: row.amount,
    totalFen: row.total_amount,
    freightFen: row.freight_amount,
    promotionFen: row.promotion_amount,
    refundedFen: wasRefundedEarlier(row) ? row.amount : row.refunded_amount,
    keptQuantity: row.kept_quantity ?? undefined,
    items: row.items?.map(itemOf) ?? [],
    receiver: row.receiver_json ?? undefined,
    reqId: row.req_id,
    saleId: row.sale_id ?? undefined,
    requestId: row.request_id ?? undefined,
    requestFingerprint: row.request_fingerprint ?? undefined,
    instanceId: row.instance_id ?? undefined,
    closeReason: row.close_reason,
    remark: row.remark,
    version: row.version,
    createdAt: row.created_at,
    payDeadline: row.pay_deadline ?? undefined,
    paidAt: row.paid_at ?? undefined,
    completedAt: row.completed_at ?? undefined,
    sellerId: row.seller_id ?? undefined,
    shippedAt: row.shipped_at ?? undefined,
    confirmDeadline: row.confirm_deadline ?? undefined,
    content: contentOf(row),
  };
}
