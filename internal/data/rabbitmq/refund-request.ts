import { RefundRequested } from '../../../gen/order/v1/event.js';
import { decodeRefundRequest } from '../../biz/order/refund.js';

/** The message of an outbox row of topic `order.refund.requested`. */
export function refundRequestMessage(payload: Uint8Array): Uint8Array {
  return RefundRequested.encode(decodeRefundRequest(payload)).finish();
}
