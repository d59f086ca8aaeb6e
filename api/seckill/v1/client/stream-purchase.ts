import type { PurchaseReply_Code as Code } from '../../../../gen/seckill/v1/seckill.js';

export interface StreamPurchase {
  readonly itemId: bigint;
  /** The buyer: a UUID or a decimal int64. */
  readonly userId: string;
  /** Default 1. */
  readonly quantity?: number;
  /** At most 64 bytes. Default: a random one, which makes the purchase safe to send again. */
  readonly requestId?: string;
  readonly timeoutMs?: number;
  /** W3C traceparent of the buyer's call. */
  readonly traceparent?: string;
}

/**
 * As in PurchaseStreamReply. With `CODE_UNSPECIFIED` there is a reason. After SALE_UNAVAILABLE the purchase may have been made:
 * the same request id tells.
 */
export interface StreamResult {
  readonly code: Code;
  readonly seckillId: string;
  readonly mayReturn: boolean;
  readonly reason: string;
  readonly message: string;
}

/**
 * Why there is no result. After DEADLINE_EXCEEDED and CLOSED the purchase may have been made: the same request id tells.
 * QUEUE_FULL: it was not sent. REFUSED: product does not accept this client's streams.
 */
export type NoResult = 'DEADLINE_EXCEEDED' | 'QUEUE_FULL' | 'CLOSED' | 'REFUSED';

export class PurchaseStreamError extends Error {
  constructor(
    readonly reason: NoResult,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
