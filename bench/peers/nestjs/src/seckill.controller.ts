import type { Metadata } from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import { BadRequestException, Controller, HttpCode, Post, Req } from '@nestjs/common';
import { GrpcMethod, RpcException } from '@nestjs/microservices';
import { type Code, SeckillService } from './seckill.service.js';

interface PurchaseRequest {
  itemId: string;
  quantity?: number;
  requestId: string;
}

interface Request {
  readonly body: Partial<PurchaseRequest>;
  readonly headers: Readonly<Record<string, unknown>>;
}

interface PurchaseReply {
  code: Code;
  message: string;
  data?: { seckillId: string };
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

const MESSAGES: Record<Code, string> = {
  QUEUED: 'Purchase accepted; your order is being created',
  SOLD_OUT: 'Sold out',
  NOT_STARTED: 'The sale has not started',
  ENDED: 'The sale has ended',
  LIMIT_REACHED: 'You have reached your limit in this sale',
};

@Controller()
export class SeckillController {
  constructor(private readonly seckill: SeckillService) {}

  @Post('v1/seckill')
  @HttpCode(200)
  async purchaseJson(request: Request): Promise<PurchaseReply> {
    const { itemId = '', quantity = 1, requestId = '' } = request.body;
    const valid = /^[1-9][0-9]*$/.test(itemId) && quantity >= 1 && quantity <= 10_000 && requestId.length <= 64;
    if (!valid) throw new BadRequestException('itemId, quantity or requestId is out of range');
    return this.reply(formatUserId(request.headers['x-user-id']), { itemId, quantity, requestId });
  }

  @GrpcMethod('SeckillService', 'Purchase')
  async purchase(request: PurchaseRequest, metadata: Metadata): Promise<PurchaseReply> {
    const { itemId, quantity = 1, requestId } = request;
    if (!/^[1-9][0-9]*$/.test(itemId) || quantity < 1 || quantity > 10_000 || requestId.length > 64) {
      throw new RpcException({
        code: status.INVALID_ARGUMENT,
        message: 'item_id, quantity or request_id is out of range',
      });
    }
    return this.reply(formatUserId(metadata.get('x-user-id')[0]), { itemId, quantity, requestId });
  }

  private async reply(
    userId: string,
    { itemId, quantity, requestId }: Required<PurchaseRequest>,
  ): Promise<PurchaseReply> {
    const outcome = await this.seckill.purchase({ itemId, userId, quantity, requestId });
    const reply: PurchaseReply = { code: outcome.code, message: MESSAGES[outcome.code] };
    if (outcome.seckillId !== undefined) reply.data = { seckillId: outcome.seckillId };
    return reply;
  }
}

/** A UUID, or a number that maps to one. */
function formatUserId(given: unknown): string {
  if (typeof given !== 'string' || given === '') {
    throw new RpcException({ code: status.UNAUTHENTICATED, message: 'this call needs an identity' });
  }
  if (/^[0-9]{1,18}$/.test(given)) {
    const hex = BigInt(given).toString(16).padStart(16, '0');
    return `00000000-0000-800${hex[0]}-8${hex.slice(1, 4)}-${hex.slice(4)}`;
  }
  const lower = given.toLowerCase();
  if (UUID.test(lower)) return lower;
  throw new RpcException({ code: status.INVALID_ARGUMENT, message: 'x-user-id must be a UUID or a number' });
}

// As a call, because the linter of this project reads no decorators of parameters.
Req()(SeckillController.prototype, 'purchaseJson', 0);
