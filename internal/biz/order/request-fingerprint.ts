import { createHash } from 'node:crypto';
import { requestIdReused } from '../../../gen/order/v1/errors.js';

/** SHA-256 in hex of what a request asks for. Equal content gives equal text; name the fields in a fixed order. */
export function fingerprintOf(content: object): string {
  const text = JSON.stringify(content, (_key, value: unknown) => (typeof value === 'bigint' ? `${value}n` : value));
  return createHash('sha256').update(text).digest('hex');
}

export function requestReused(requestId: string, orderId: bigint): Error {
  return requestIdReused(`request id ${requestId} created order ${orderId} with different content`, {
    metadata: { request_id: requestId, order_id: String(orderId) },
  });
}
