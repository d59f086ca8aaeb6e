import { randomBytes } from 'node:crypto';
import { saleNotFound, saleUnavailable } from '../../../gen/seckill/v1/errors.js';
import type { PurchaseTokens } from './purchase-token.js';
import { mayReturn } from './sale.js';
import type { SaleCache } from './sale-cache.js';
import type { Sale, SaleSummary } from './sale-state.js';

/** What the waiting room answers. `now` is the clock that the sale is judged by. */
export type WaitingRoomReply =
  /** ticket: names the turn; empty where the sale has no waiting room. */
  | { readonly kind: 'READY'; readonly now: Date; readonly ticket: string; readonly untilMs: number }
  /** ahead: users called before; waitMs: until the call, at the present rate. */
  | { readonly kind: 'WAITING'; readonly now: Date; readonly ahead: number; readonly waitMs: number }
  | { readonly kind: 'NOT_STARTED' | 'ENDED' | 'SOLD_OUT' | 'FULL'; readonly now: Date }
  /** Admission has the sale under another epoch, or not at all. Nothing was done. */
  | { readonly kind: 'STALE' };

export interface WaitingRoomTerms {
  /** How long a turn lasts, or a token where there is no waiting room. */
  readonly turnMs: number;
  /** Users who may wait. */
  readonly capacity: number;
}

/**
 * The waiting rooms of running sales: one ticket for each user and sale, called in the order of arrival at the sale's rate.
 * @throws SALE_UNAVAILABLE when they cannot be reached; asking again is always safe
 */
export abstract class WaitingRoom {
  abstract ask(
    sale: Pick<Sale, 'itemId' | 'epoch'>,
    userId: string,
    terms: WaitingRoomTerms,
  ): Promise<WaitingRoomReply>;
}

/** The answer to a user who asks to be admitted. */
export type EntryDecision = {
  readonly serverTime: Date;
  readonly startsAt: Date;
  /** When it is worth asking again; undefined: never. */
  readonly askAgainMs: number | undefined;
} & (
  | { readonly kind: 'READY'; readonly token: string; readonly expiresAt: Date }
  | { readonly kind: 'WAITING'; readonly ahead: number; readonly waitMs: number }
  | { readonly kind: 'SOLD_OUT'; readonly mayReturn: boolean }
  | { readonly kind: 'NOT_STARTED' | 'ENDED' | 'WAITING_ROOM_FULL' }
);

export interface WaitingRoomPolicy {
  /** Users who may wait for one sale. */
  readonly capacity: number;
}

const ASK_AGAIN_MIN_MS = 200;
const ASK_AGAIN_MAX_MS = 60_000;
/** Where nothing says when: units that may return, a waiting room that may get emptier. */
const LATER_MS = 5_000;

/** Admits users to a sale, by token. */
export class WaitingRoomUsecase {
  constructor(
    private readonly sales: SaleCache,
    private readonly room: WaitingRoom,
    private readonly tokens: PurchaseTokens,
    private readonly policy: WaitingRoomPolicy,
  ) {}

  /** @throws SALE_NOT_FOUND, SALE_UNAVAILABLE */
  async enter(itemId: bigint, userId: string): Promise<EntryDecision> {
    const sale = await this.sales.find(itemId);
    if (!sale) throw saleNotFound(`item ${itemId} has no sale`, { metadata: { item_id: String(itemId) } });
    const first = await this.ask(sale, userId);
    if (first) return first;
    // Decided by the refreshed sale alone: it may be the item's next one, whose tokens carry another id.
    const now = await this.sales.refresh(sale);
    const again =
      now && (now.epoch !== sale.epoch || now.status !== sale.status) ? await this.ask(now, userId) : undefined;
    if (!again) throw saleUnavailable('the sale is being prepared; try again shortly');
    return again;
  }

  /** undefined where admission has another state of the sale than this one. */
  private async ask(sale: SaleSummary, userId: string): Promise<EntryDecision | undefined> {
    if (sale.status !== 'OPEN') {
      const kind = sale.status === 'CLOSED' ? 'ENDED' : 'NOT_STARTED';
      return this.decisionOf(sale, userId, { kind, now: new Date() });
    }
    const terms = { turnMs: this.tokens.policy.ttlMs, capacity: this.policy.capacity };
    const answer = await this.room.ask(sale, userId, terms);
    return answer.kind === 'STALE' ? undefined : this.decisionOf(sale, userId, answer);
  }

  private decisionOf(
    sale: SaleSummary,
    userId: string,
    answer: Exclude<WaitingRoomReply, { kind: 'STALE' }>,
  ): EntryDecision {
    const at = { serverTime: answer.now, startsAt: sale.startsAt };
    switch (answer.kind) {
      case 'READY': {
        const { untilMs } = answer;
        // The same turn is the same token, which buys once.
        const id = answer.ticket || randomBytes(12).toString('base64url');
        const token = this.tokens.issue({ saleId: sale.id, userId }, id, untilMs);
        return { kind: 'READY', ...at, askAgainMs: undefined, token, expiresAt: new Date(untilMs) };
      }
      case 'WAITING': {
        const { ahead, waitMs } = answer;
        return { kind: 'WAITING', ...at, askAgainMs: this.askAgainMs(waitMs), ahead, waitMs };
      }
      case 'NOT_STARTED': {
        const untilStartMs = sale.startsAt.getTime() - answer.now.getTime();
        return { kind: 'NOT_STARTED', ...at, askAgainMs: this.askAgainMs(untilStartMs) };
      }
      case 'SOLD_OUT': {
        const returns = mayReturn(sale);
        return { kind: 'SOLD_OUT', ...at, askAgainMs: returns ? LATER_MS : undefined, mayReturn: returns };
      }
      case 'FULL':
        return { kind: 'WAITING_ROOM_FULL', ...at, askAgainMs: LATER_MS };
      case 'ENDED':
        return { kind: 'ENDED', ...at, askAgainMs: undefined };
      default:
        return answer satisfies never;
    }
  }

  /** More often towards the end, so that few ask in vain and no user misses half of the turn. */
  private askAgainMs(waitMs: number): number {
    const latest = Math.min(ASK_AGAIN_MAX_MS, this.tokens.policy.ttlMs / 2);
    const wanted = waitMs <= 2_000 ? waitMs : waitMs / 2;
    return Math.ceil(Math.min(latest, Math.max(ASK_AGAIN_MIN_MS, wanted)));
  }
}
