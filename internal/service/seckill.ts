import { invalidArgument } from '../../gen/common/v1/errors.js';
import type { Duration } from '../../gen/google/protobuf/duration.js';
import {
  Sale_Availability as Availability,
  type CloseSaleRequest,
  PurchaseReply_Code as Code,
  type CreateSaleRequest,
  IssuePurchaseTokenReply_Code as EntryCode,
  type GetLimitRequest,
  type GetPurchaseRequest,
  type GetSaleRequest,
  type IssuePurchaseTokenReply,
  type IssuePurchaseTokenRequest,
  Sale_ItemType as ItemType,
  type ListSalesReply,
  type ListSalesRequest,
  type ListVipLimitsReply,
  type ListVipLimitsRequest,
  type OpenSaleRequest,
  Sale_PayMode as PayMode,
  type PurchaseBatchReply,
  type PurchaseBatchReply_Result,
  type PurchaseBatchRequest,
  type PurchaseRecord as PurchaseRecordMessage,
  type PurchaseReply,
  type PurchaseRequest,
  PurchaseRecord_Status as PurchaseStatus,
  type PurchaseStreamReply,
  type PurchaseStreamRequest,
  type Sale as SaleMessage,
  Sale_Status as SaleStatusCode,
  type SeckillServiceService,
  type SetVipLimitRequest,
  type UpdateSaleRequest,
  type VipLimit as VipLimitMessage,
  type WatchSaleRequest,
} from '../../gen/seckill/v1/seckill.js';
import { formatUserId } from '../biz/identity.js';
import type { PurchaseCollector, PurchaseStreamPolicy } from '../biz/seckill/purchase-collector.js';
import type { Delivery, ItemSegments } from '../biz/seckill/purchase-stream.js';
import type { SaleUsecase, SaleView } from '../biz/seckill/sale.js';
import { needsToken, type SalePatch } from '../biz/seckill/sale-state.js';
import type { SaleWatch } from '../biz/seckill/sale-watch.js';
import type { BatchOutcome, PurchaseOutcome, PurchaseRecord, SeckillUsecase } from '../biz/seckill/seckill.js';
import type { PreparedEntries, SettlementUsecase } from '../biz/seckill/settlement.js';
import type { Settlement } from '../biz/seckill/settlement-state.js';
import type { EntryDecision, WaitingRoomUsecase } from '../biz/seckill/waiting-room.js';
import { Metrics } from '../kratos/metrics/metrics.js';
import type { CallContext, ServiceOf } from '../kratos/transport/call-context.js';
import { userOf } from './caller.js';
import { enumName } from './enum-name.js';
import { PurchaseCounts } from './purchase-counts.js';
import { PurchaseSession } from './purchase-session.js';
import { patchOf } from './update-mask.js';

/** How long OpenSale waits for the sale keeper of another process, which opens a sale when its time has come. */
const LOAD_WAIT_MS = 3_000;

export class SeckillService implements ServiceOf<typeof SeckillServiceService> {
  private readonly purchases: PurchaseCounts;

  constructor(
    private readonly sales: SaleUsecase,
    private readonly watches: SaleWatch,
    private readonly seckill: SeckillUsecase,
    private readonly waitingRoom: WaitingRoomUsecase,
    private readonly collector: PurchaseCollector,
    private readonly streams: PurchaseStreamPolicy,
    metrics: Metrics = new Metrics(),
  ) {
    this.purchases = new PurchaseCounts(metrics);
  }

  async purchase(req: PurchaseRequest, ctx: CallContext): Promise<PurchaseReply> {
    const request = {
      itemId: req.itemId,
      userId: userOf(ctx),
      quantity: req.quantity ?? 1,
      requestId: req.requestId,
      traceparent: ctx.traceparent ?? '',
      token: req.token,
    };
    try {
      const outcome = await this.seckill.purchase(request);
      this.purchases.add(outcome.kind);
      return purchaseReply(outcome);
    } catch (err) {
      this.purchases.addError(err);
      throw err;
    }
  }

  async issuePurchaseToken(req: IssuePurchaseTokenRequest, ctx: CallContext): Promise<IssuePurchaseTokenReply> {
    return entryReply(await this.waitingRoom.enter(req.itemId, userOf(ctx)));
  }

  async getPurchase(req: GetPurchaseRequest, ctx: CallContext): Promise<PurchaseRecordMessage> {
    return recordReply(await this.seckill.getPurchase(req.seckillId, userOf(ctx)));
  }

  async getSale(req: GetSaleRequest): Promise<SaleMessage> {
    return saleReply(await this.sales.get(req.itemId));
  }

  async listSales(req: ListSalesRequest): Promise<ListSalesReply> {
    const page = await this.sales.list({ offset: req.offset, limit: req.limit }, enumName(SaleStatusCode, req.status));
    return { sales: page.items.map(saleReply), total: page.total };
  }

  async createSale(req: CreateSaleRequest): Promise<SaleMessage> {
    return saleReply(
      await this.sales.create({
        itemId: req.itemId,
        name: req.name,
        startsAt: req.startsAt,
        endsAt: req.endsAt,
        total: req.total,
        priceFen: req.priceFen,
        payMode: req.payMode === PayMode.PAY_LATER ? 'PAY_LATER' : 'PREPAID',
        payTimeoutMs: req.payTimeout === undefined ? undefined : durationMs(req.payTimeout),
        defaultLimit: req.defaultLimit,
        requireToken: req.requireToken,
        admitRate: req.admitRate,
        ...(req.segments !== undefined && { segments: req.segments }),
      }),
    );
  }

  async openSale(req: OpenSaleRequest): Promise<SaleMessage> {
    return saleReply(await this.sales.open(req.itemId, LOAD_WAIT_MS));
  }

  async updateSale(req: UpdateSaleRequest): Promise<SaleMessage> {
    const patch = patchOf<SalePatch>(req.updateMask, {
      defaultLimit: { path: 'default_limit', given: req.defaultLimit },
      requireToken: { path: 'require_token', given: req.requireToken },
      admitRate: { path: 'admit_rate', given: req.admitRate },
      total: { path: 'total', given: req.total },
      priceFen: { path: 'price_fen', given: req.priceFen },
      startsAt: { path: 'starts_at', given: req.startsAt },
      endsAt: { path: 'ends_at', given: req.endsAt, cleared: null },
    });
    if (Object.keys(patch).length === 0) throw invalidArgument('nothing to change: give at least one field');
    return saleReply(await this.sales.update(req.itemId, req.version, patch));
  }

  async setVipLimit(req: SetVipLimitRequest): Promise<VipLimitMessage> {
    const { itemId, limit, version } = req;
    const userId = formatUserId(req.userId);
    return { itemId, userId, ...(await this.sales.setVipLimit({ itemId, userId, limit, version })) };
  }

  async listVipLimits({ itemId, offset, limit }: ListVipLimitsRequest): Promise<ListVipLimitsReply> {
    const { items, total } = await this.sales.listVipLimits(itemId, { offset, limit });
    return { vipLimits: items.map((item) => ({ itemId, ...item })), total };
  }

  async getLimit({ itemId }: GetLimitRequest, ctx: CallContext): Promise<VipLimitMessage> {
    const userId = userOf(ctx);
    return { itemId, userId, ...(await this.sales.limitOf(itemId, userId)) };
  }

  async purchaseBatch(req: PurchaseBatchRequest, ctx: CallContext): Promise<PurchaseBatchReply> {
    const traceparent = ctx.traceparent ?? '';
    const requests = req.purchases.map((p, i) => ({
      userId: formatUserId(p.userId, `purchases[${i}].user_id`),
      quantity: p.quantity ?? 1,
      requestId: p.requestId,
      traceparent,
    }));
    const outcomes = await this.seckill.purchaseAll(req.itemId, requests).catch((err: unknown) => {
      for (const _ of requests) this.purchases.addError(err);
      throw err;
    });
    for (const outcome of outcomes) {
      if (outcome.kind === 'FAILED') this.purchases.addReason(outcome.reason);
      else this.purchases.add(outcome.kind);
    }
    return { results: outcomes.map(resultReply) };
  }

  purchaseStream(requests: AsyncIterable<PurchaseStreamRequest>, ctx: CallContext): AsyncIterable<PurchaseStreamReply> {
    return new PurchaseSession(this.streams.window, this.collector, this.purchases).replies(requests, ctx);
  }

  async *watchSale(req: WatchSaleRequest, ctx: CallContext): AsyncIterable<SaleMessage> {
    for await (const view of this.watches.watch(req.itemId, ctx.signal)) yield saleReply(view);
  }

  async closeSale(req: CloseSaleRequest): Promise<SaleMessage> {
    return saleReply(await this.sales.close(req.itemId));
  }
}

/** Turns entries of the purchase streams into orders, one entry or many. */
export class SeckillOrderService {
  constructor(private readonly settlements: SettlementUsecase) {}

  /** Items that may have a purchase stream. @throws UNAVAILABLE */
  findItems(): Promise<readonly ItemSegments[]> {
    return this.settlements.findItems();
  }

  /** @throws UNAVAILABLE */
  prepareSeckillOrder(itemId: bigint, deliveries: readonly Delivery[]): Promise<PreparedEntries> {
    return this.settlements.prepare(itemId, deliveries);
  }

  /**
   * @param before resolves when the item's batch before this one is committed
   * @throws UNAVAILABLE: prepare and handle the same deliveries again; what `before` rejects with
   */
  handleSeckillOrder(prepared: PreparedEntries, before: Promise<unknown>): Promise<Settlement> {
    return this.settlements.commit(prepared, before);
  }
}

const MESSAGES: Readonly<Record<PurchaseOutcome['kind'], string>> = {
  QUEUED: 'Purchase accepted; your order is being created',
  SOLD_OUT: 'Sold out',
  NOT_STARTED: 'The sale has not started',
  ENDED: 'The sale has ended',
  LIMIT_REACHED: 'You have reached your limit in this sale',
  TOKEN_REQUIRED: 'This sale requires a purchase token; call IssuePurchaseToken',
  TOKEN_EXPIRED: 'The purchase token has expired; call IssuePurchaseToken again',
};

/** Frozen, so that the most frequent replies of a sale are encoded only once. */
const REFUSALS = {
  NOT_STARTED: refusal('NOT_STARTED', false),
  ENDED: refusal('ENDED', false),
  LIMIT_REACHED: refusal('LIMIT_REACHED', false),
  TOKEN_REQUIRED: refusal('TOKEN_REQUIRED', false),
  TOKEN_EXPIRED: refusal('TOKEN_EXPIRED', false),
};
const SOLD_OUT = { forGood: refusal('SOLD_OUT', false), forNow: refusal('SOLD_OUT', true) };

function refusal(kind: PurchaseOutcome['kind'], mayReturn: boolean): Readonly<PurchaseReply> {
  return Object.freeze({ code: Code[kind], message: MESSAGES[kind], data: undefined, mayReturn });
}

function purchaseReply(outcome: PurchaseOutcome): PurchaseReply {
  switch (outcome.kind) {
    case 'QUEUED': {
      const data = { seckillId: outcome.seckillId };
      return { code: Code.QUEUED, message: MESSAGES.QUEUED, data, mayReturn: false };
    }
    case 'SOLD_OUT':
      return outcome.mayReturn ? SOLD_OUT.forNow : SOLD_OUT.forGood;
    default:
      return REFUSALS[outcome.kind];
  }
}

const ENTRY_MESSAGES: Readonly<Record<EntryDecision['kind'], string>> = {
  READY: 'It is your turn',
  WAITING: 'You are in the waiting room',
  NOT_STARTED: 'The sale has not started',
  ENDED: 'The sale has ended',
  SOLD_OUT: 'Sold out',
  WAITING_ROOM_FULL: 'The waiting room is full; try again later',
};

function entryReply(entry: EntryDecision): IssuePurchaseTokenReply {
  return {
    code: EntryCode[entry.kind],
    message: ENTRY_MESSAGES[entry.kind],
    token: entry.kind === 'READY' ? entry.token : '',
    expiresAt: entry.kind === 'READY' ? entry.expiresAt : undefined,
    ahead: entry.kind === 'WAITING' ? BigInt(entry.ahead) : 0n,
    estimatedWait: entry.kind === 'WAITING' ? durationOf(entry.waitMs) : undefined,
    askAgainAfter: entry.askAgainMs === undefined ? undefined : durationOf(entry.askAgainMs),
    serverTime: entry.serverTime,
    startsAt: entry.startsAt,
    mayReturn: entry.kind === 'SOLD_OUT' && entry.mayReturn,
  };
}

function resultReply(outcome: BatchOutcome): PurchaseBatchReply_Result {
  if (outcome.kind === 'FAILED') return { code: Code.CODE_UNSPECIFIED, seckillId: '', reason: outcome.reason };
  return { code: Code[outcome.kind], seckillId: outcome.kind === 'QUEUED' ? outcome.seckillId : '', reason: '' };
}

function recordReply(record: PurchaseRecord): PurchaseRecordMessage {
  return {
    seckillId: record.seckillId,
    itemId: record.itemId,
    quantity: record.quantity,
    status: PurchaseStatus[record.status],
    orderId: record.orderId ?? 0n,
    reason: record.reason,
  };
}

function saleReply({ sale, remaining, serverTime, availability }: SaleView): SaleMessage {
  return {
    id: sale.id,
    itemId: sale.itemId,
    name: sale.name,
    status: SaleStatusCode[sale.status],
    startsAt: sale.startsAt,
    endsAt: sale.endsAt,
    total: sale.total,
    sold: sale.sold,
    remaining,
    priceFen: sale.priceFen,
    payMode: PayMode[sale.payMode],
    payTimeout: durationOf(sale.payTimeoutMs),
    defaultLimit: sale.defaultLimit,
    epoch: sale.epoch,
    serverTime,
    availability: Availability[availability],
    version: sale.version,
    requireToken: needsToken(sale),
    admitRate: sale.admitRate,
    segments: sale.segments,
    itemType: ItemType[sale.orderType],
    returned: sale.returned,
  };
}

/** Milliseconds of a positive duration; smaller fractions are truncated. */
function durationMs({ seconds, nanos }: Duration): number {
  return Math.max(1, Number(seconds) * 1_000 + Math.floor(nanos / 1_000_000));
}

function durationOf(ms: number): Duration {
  return { seconds: BigInt(Math.floor(ms / 1_000)), nanos: (ms % 1_000) * 1_000_000 };
}
