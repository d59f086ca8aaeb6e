import type { Sale } from '../../biz/seckill/sale-state.js';
import { WaitingRoom, type WaitingRoomReply, type WaitingRoomTerms } from '../../biz/seckill/waiting-room.js';
import { WAITING_ROOM } from './lua-script.js';
import { REAL_PACE } from './pace.js';
import type { RedisServer } from './redis.js';
import { orSaleUnavailable } from './segment-admission.js';
import { SegmentRefill } from './segment-refill.js';
import { RedisUnitMoves } from './unit-moves.js';

/** The waiting rooms in Redis, whose clock calls the tickets; see waiting_room.lua. */
export class RedisWaitingRoom extends WaitingRoom {
  private readonly refill: SegmentRefill;

  constructor(private readonly server: RedisServer) {
    super();
    this.refill = new SegmentRefill(new RedisUnitMoves(server), REAL_PACE);
  }

  override async ask(
    sale: Pick<Sale, 'itemId' | 'epoch' | 'segments'>,
    userId: string,
    terms: WaitingRoomTerms,
  ): Promise<WaitingRoomReply> {
    const reply = await this.askOnce(sale, userId, terms);
    // It looks at the units of segment 0, whose keys it shares. Others may have some.
    if (reply.kind !== 'SOLD_OUT' || sale.segments === 1 || !(await this.refill.bringOne(sale, 0))) return reply;
    return this.askOnce(sale, userId, terms);
  }

  private async askOnce(
    sale: Pick<Sale, 'itemId' | 'epoch'>,
    userId: string,
    terms: WaitingRoomTerms,
  ): Promise<WaitingRoomReply> {
    const keys = this.server.keys.sale(sale.itemId);
    const args = [String(sale.epoch), userId, String(terms.turnMs), String(terms.capacity)];
    const reply = await orSaleUnavailable(WAITING_ROOM.run(this.server.commands, keys, args));
    const [outcome, nowMs, ticket, untilMs, ahead, waitMs] = reply as [string, number, string, number, number, number];
    const now = new Date(nowMs);
    switch (outcome) {
      case 'UNAVAILABLE':
        return { kind: 'STALE' };
      case 'READY':
        return { kind: 'READY', now, ticket, untilMs };
      case 'WAITING':
        return { kind: 'WAITING', now, ahead, waitMs };
      case 'NOT_STARTED':
      case 'ENDED':
      case 'SOLD_OUT':
      case 'FULL':
        return { kind: outcome, now };
      default:
        throw new Error(`waiting_room answered ${outcome}`);
    }
  }
}
