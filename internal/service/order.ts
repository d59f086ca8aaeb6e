import { invalidArgument } from '../../gen/common/v1/errors.js';
import {
  type CancelOrderRequest,
  type ConfirmReceiptRequest,
  type CreateOrderRequest,
  type DeleteOrderReply,
  type DeleteOrderRequest,
  type GetOrderRequest,
  type GetOrderStatsReply,
  type GetOrderStatsRequest,
  type ListOrderEventsReply,
  type ListOrderEventsRequest,
  type ListOrdersReply,
  type ListOrdersRequest,
  type MarkOrderPaidRequest,
  type Order as OrderMessage,
  type OrderServiceService,
  MarkOrderPaidRequest_Outcome as Outcome,
  type SearchOrdersReply,
  type SearchOrdersRequest,
  type SetReceiverRequest,
  type ShipOrderRequest,
  Order_Source as Source,
  type StartPaymentReply,
  type StartPaymentRequest,
  Order_Status as Status,
  Order_Type as Type,
} from '../../gen/order/v1/order.js';
import type { ContentOrderUsecase } from '../biz/entitlement/content-order.js';
import { formatUserId } from '../biz/identity.js';
import type { GoodsOrderUsecase } from '../biz/order/goods-order.js';
import type { OrderUsecase } from '../biz/order/order.js';
import type { OrderSearchUsecase } from '../biz/order/order-search.js';
import type { Order } from '../biz/order/order-state.js';
import type { PaymentSessionUsecase, SessionNotice } from '../biz/order/payment-session.js';
import type { PaymentSignatures } from '../biz/order/payment-signature.js';
import type { ReceiverUsecase } from '../biz/order/receiver.js';
import type { Shipment, ShipmentUsecase } from '../biz/order/shipment.js';
import type { CallContext, ServiceOf } from '../kratos/transport/call-context.js';
import { identityOf, userOf } from './caller.js';
import { enumName } from './enum-name.js';
import { orderIdOf } from './order-id.js';
import { skuContentReply } from './sku-content.js';

export class OrderService implements ServiceOf<typeof OrderServiceService> {
  constructor(
    private readonly orders: OrderUsecase,
    private readonly goods: GoodsOrderUsecase,
    private readonly contents: ContentOrderUsecase,
    private readonly shipments: ShipmentUsecase,
    private readonly receivers: ReceiverUsecase,
    private readonly searches: OrderSearchUsecase,
    private readonly payments: PaymentSessionUsecase,
    private readonly signatures: PaymentSignatures,
  ) {}

  async createOrder(req: CreateOrderRequest, ctx: CallContext): Promise<OrderMessage> {
    const { requestId, remark, expectedAmountFen } = req;
    const common = { userId: userOf(ctx), requestId, remark, expectedAmountFen };
    const { productId, contentId, quantity = 1 } = req;
    if ([productId !== 0n, contentId !== 0n, req.lines.length > 0].filter(Boolean).length !== 1) {
      throw oneOf('exactly one of product_id, lines and content_id is required');
    }
    if (req.couponId !== 0n && req.lines.length === 0) throw oneOf('a coupon is only for lines', 'coupon_id');
    if (productId !== 0n) return orderReply(await this.orders.create({ ...common, productId, quantity }));
    if (contentId !== 0n) return orderReply(await this.contents.create({ ...common, contentId, quantity }));
    const { lines, receiver, couponId } = req;
    return orderReply(await this.goods.create({ ...common, lines, receiver, couponId: couponId || undefined }));
  }

  async getOrder(req: GetOrderRequest, ctx: CallContext): Promise<OrderMessage> {
    const order = await this.orders.get(orderIdOf(req.id), ctx.identity.userId);
    return orderReply(order, await this.shipments.shipmentOf(order));
  }

  async listOrders(req: ListOrdersRequest, ctx: CallContext): Promise<ListOrdersReply> {
    const page = await this.orders.list(
      userOf(ctx),
      { status: enumName(Status, req.status), orderType: enumName(Type, req.orderType) },
      { offset: req.offset, limit: req.limit, pageToken: req.pageToken },
    );
    const { items, total, nextPageToken } = page;
    return { orders: items.map((order) => orderReply(order)), total, nextPageToken };
  }

  async searchOrders(req: SearchOrdersRequest): Promise<SearchOrdersReply> {
    const filter = {
      status: enumName(Status, req.status),
      orderType: enumName(Type, req.orderType),
      source: enumName(Source, req.source),
      userId: req.userId === '' ? undefined : formatUserId(req.userId, 'user_id'),
      saleId: req.saleId === 0n ? undefined : req.saleId,
      skuId: req.skuId === 0n ? undefined : req.skuId,
      createdFrom: req.createdFrom,
      createdBefore: req.createdBefore,
    };
    const { items, nextPageToken } = await this.searches.search(filter, req.limit, req.pageToken);
    return { orders: items.map((order) => orderReply(order)), nextPageToken };
  }

  async getOrderStats(req: GetOrderStatsRequest): Promise<GetOrderStatsReply> {
    const { createdFrom: from, createdBefore: before, utcOffsetMinutes } = req;
    const rows = await this.searches.stats({ from, before, utcOffsetMinutes });
    return {
      rows: rows.map((row) => ({ ...row, status: Status[row.status], orderType: Type[row.orderType] })),
    };
  }

  async cancelOrder(req: CancelOrderRequest, ctx: CallContext): Promise<OrderMessage> {
    return orderReply(await this.orders.cancel(orderIdOf(req.id), ctx.identity.userId, req.reason));
  }

  async setReceiver(req: SetReceiverRequest, ctx: CallContext): Promise<OrderMessage> {
    const { receiver, expectedAmountFen } = req;
    if (!receiver) throw missing('receiver');
    const { userId } = ctx.identity;
    return orderReply(await this.receivers.set(orderIdOf(req.id), userId, receiver, expectedAmountFen));
  }

  async shipOrder(req: ShipOrderRequest): Promise<OrderMessage> {
    const { carrier, trackingNumbers } = req;
    const { order, shipment } = await this.shipments.ship({ orderId: orderIdOf(req.id), carrier, trackingNumbers });
    return orderReply(order, shipment);
  }

  async confirmReceipt(req: ConfirmReceiptRequest, ctx: CallContext): Promise<OrderMessage> {
    return orderReply(await this.shipments.confirm(orderIdOf(req.id), ctx.identity.userId));
  }

  async deleteOrder(req: DeleteOrderRequest, ctx: CallContext): Promise<DeleteOrderReply> {
    await this.orders.delete(orderIdOf(req.id), userOf(ctx));
    return {};
  }

  async markOrderPaid(req: MarkOrderPaidRequest, ctx: CallContext): Promise<OrderMessage> {
    const orderId = orderIdOf(req.id);
    this.signatures.verify(identityOf(ctx), {
      timestamp: header(ctx, 'x-payment-timestamp'),
      signature: header(ctx, 'x-payment-signature'),
      orderId,
      body: ctx.rawBody,
      amountFen: req.paidAmountFen,
    });
    const { provider, eventId, paidAmountFen: amountFen } = req;
    const sessionId = req.paymentId === 0n ? undefined : req.paymentId;
    const notice = { orderId, userId: ctx.identity.userId, provider, eventId, amountFen, sessionId };
    switch (req.outcome) {
      case Outcome.OUTCOME_UNSPECIFIED:
      case Outcome.PAID:
      case Outcome.UNRECOGNIZED:
        return orderReply(await this.handleOrderPaid(notice));
      case Outcome.DECLINED:
        return orderReply(await this.orders.get(orderId, ctx.identity.userId));
      case Outcome.CLOSED:
        return orderReply(await this.payments.close(notice));
      default:
        return req.outcome satisfies never;
    }
  }

  async startPayment(req: StartPaymentRequest, ctx: CallContext): Promise<StartPaymentReply> {
    const session = await this.payments.start(orderIdOf(req.id), ctx.identity.userId, req.provider);
    const { id: paymentId, provider, amountFen, payUrl = '', expiresAt } = session;
    return { paymentId, provider, amountFen, payUrl, expiresAt };
  }

  async listOrderEvents(req: ListOrderEventsRequest, ctx: CallContext): Promise<ListOrderEventsReply> {
    const events = await this.orders.listEvents(orderIdOf(req.id), ctx.identity.userId);
    return {
      events: events.map((e) => ({
        from: e.from === undefined ? Status.STATUS_UNSPECIFIED : Status[e.from],
        to: Status[e.to],
        actor: e.actor,
        reason: e.reason,
        at: e.at,
      })),
    };
  }

  /** The single entry point for payments, from any channel; it requests the instance with source ORDER. */
  handleOrderPaid(notice: SessionNotice): Promise<Order> {
    return this.payments.receive(notice);
  }
}

function header(ctx: CallContext, name: string): string | undefined {
  const value = ctx.metadata(name);
  return typeof value === 'string' ? value : undefined;
}

function oneOf(description: string, field = 'product_id') {
  return invalidArgument(description, { violations: [{ field, description }] });
}

function missing(field: string) {
  return invalidArgument(`${field} is required`, { violations: [{ field, description: 'is required' }] });
}

export function orderReply(order: Order, shipment?: Shipment): OrderMessage {
  return {
    id: order.id,
    orderNo: order.orderNo,
    userId: order.userId,
    orderType: Type[order.orderType],
    source: Source[order.source],
    status: Status[order.status],
    productId: order.productId ?? 0n,
    skuId: order.skuId ?? 0n,
    productName: order.productName,
    quantity: order.quantity,
    priceFen: order.priceFen,
    amountFen: order.amountFen,
    reqId: order.reqId,
    instanceId: order.instanceId ?? 0n,
    closeReason: order.closeReason,
    remark: order.remark,
    version: order.version,
    createdAt: order.createdAt,
    payDeadline: order.payDeadline,
    paidAt: order.paidAt,
    completedAt: order.completedAt,
    items: order.items.map((item) => ({
      skuId: item.skuId,
      spuId: item.spuId,
      spuName: item.spuName,
      skuName: item.skuName,
      skuImage: item.skuImage,
      specs: item.specs,
      priceFen: item.priceFen,
      quantity: item.quantity,
      totalPriceFen: item.priceFen * BigInt(item.quantity),
      promotionAmountFen: item.promotionFen,
      sellerId: item.sellerId ?? '',
      goodsType: item.goodsType,
      contents: item.contents.map(skuContentReply),
    })),
    totalAmountFen: order.totalFen,
    freightAmountFen: order.freightFen,
    promotionAmountFen: order.promotionFen,
    receiver: order.receiver,
    sellerId: order.sellerId ?? '',
    saleId: order.saleId ?? 0n,
    shippedAt: order.shippedAt,
    confirmDeadline: order.confirmDeadline,
    shipment: shipment && {
      carrier: shipment.carrier,
      trackingNumbers: [...shipment.trackingNumbers],
      shippedAt: shipment.shippedAt,
    },
    refundedAmountFen: order.refundedFen,
    contentId: order.content?.id ?? 0n,
    contentType: order.content?.type ?? '',
    contentDays: order.content?.days ?? 0,
  };
}
