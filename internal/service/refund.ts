import type {
  ApproveRefundRequest,
  CompleteRefundRequest,
  GetRefundRequest,
  ListRefundsReply,
  ListRefundsRequest,
  ReceiveReturnRequest,
  Refund as RefundMessage,
  RefundServiceService,
  RefuseRefundRequest,
  RequestRefundRequest,
} from '../../gen/order/v1/refund.js';
import { Refund_Kind as Kind, Refund_Status as Status } from '../../gen/order/v1/refund.js';
import type { RefundUsecase } from '../biz/order/refund.js';
import type { RefundRequestUsecase } from '../biz/order/refund-request.js';
import type { Refund } from '../biz/order/refund-state.js';
import type { CallContext, ServiceOf } from '../kratos/transport/call-context.js';
import { identityOf, userOf } from './caller.js';
import { enumName } from './enum-name.js';
import { orderIdOf } from './order-id.js';

export class RefundService implements ServiceOf<typeof RefundServiceService> {
  constructor(
    private readonly refunds: RefundUsecase,
    private readonly requests: RefundRequestUsecase,
  ) {}

  async requestRefund(req: RequestRefundRequest, ctx: CallContext): Promise<RefundMessage> {
    const { userId } = identityOf(ctx);
    const { reason, lines, requestId } = req;
    const orderId = orderIdOf(req.orderId, 'order_id');
    return refundReply(await this.requests.request({ orderId, userId, reason, lines, requestId }));
  }

  async getRefund(req: GetRefundRequest, ctx: CallContext): Promise<RefundMessage> {
    return refundReply(await this.refunds.get(req.id, identityOf(ctx).userId));
  }

  async listRefunds(req: ListRefundsRequest, ctx: CallContext): Promise<ListRefundsReply> {
    const { role, userId } = identityOf(ctx);
    const filter = {
      userId: role === 'ADMIN' ? userId : userOf(ctx),
      status: enumName(Status, req.status),
      orderId: req.orderId === '' ? undefined : orderIdOf(req.orderId, 'order_id'),
    };
    const page = await this.refunds.list(filter, { offset: req.offset, limit: req.limit });
    return { refunds: page.items.map(refundReply), total: page.total };
  }

  async approveRefund(req: ApproveRefundRequest): Promise<RefundMessage> {
    return refundReply(await this.refunds.approve(req.id));
  }

  async refuseRefund(req: RefuseRefundRequest): Promise<RefundMessage> {
    return refundReply(await this.refunds.refuse(req.id, req.reason));
  }

  async receiveReturn(req: ReceiveReturnRequest): Promise<RefundMessage> {
    return refundReply(await this.refunds.receiveReturn(req.id, req.restock));
  }

  async completeRefund(req: CompleteRefundRequest): Promise<RefundMessage> {
    return refundReply(await this.refunds.complete(req.id));
  }
}

function refundReply(refund: Refund): RefundMessage {
  return {
    id: refund.id,
    orderId: refund.orderId,
    userId: refund.userId,
    kind: Kind[refund.kind],
    status: Status[refund.status],
    amountFen: refund.amountFen,
    reason: refund.reason,
    requestedBy: refund.requestedBy,
    attempts: refund.attempts,
    lastError: refund.lastError,
    createdAt: refund.createdAt,
    doneAt: refund.doneAt,
    lines: refund.lines.map(({ skuId, quantity, amountFen }) => ({ skuId, quantity, amountFen })),
    decision: refund.decision,
    returnedAt: refund.returnedAt,
    restocked: refund.restocked,
  };
}
