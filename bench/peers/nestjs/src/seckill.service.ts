import { status } from '@grpc/grpc-js';
import { Injectable } from '@nestjs/common';
import { RpcException } from '@nestjs/microservices';
import { Admission, type Wish } from './admission.js';

export type Code = 'QUEUED' | 'SOLD_OUT' | 'NOT_STARTED' | 'ENDED' | 'LIMIT_REACHED';

export interface Outcome {
  code: Code;
  seckillId?: string;
}

@Injectable()
export class SeckillService {
  constructor(private readonly admission: Admission) {}

  async purchase(wish: Wish): Promise<Outcome> {
    for (const refresh of [false, true]) {
      const epoch = await this.admission.epoch(wish.itemId, refresh);
      if (epoch === null) throw new RpcException({ code: status.NOT_FOUND, message: 'the item has no sale' });
      const outcome = await this.admission.admit(epoch, wish);
      if (outcome === undefined) continue;
      if (outcome.startsWith('QUEUED ')) {
        return { code: 'QUEUED', seckillId: `${wish.itemId}-${outcome.slice('QUEUED '.length)}` };
      }
      if (outcome === 'BACKLOG_FULL') {
        throw new RpcException({ code: status.UNAVAILABLE, message: 'too many purchases wait to become orders' });
      }
      return { code: outcome as Code };
    }
    throw new RpcException({ code: status.UNAVAILABLE, message: 'the sale is being prepared' });
  }
}
