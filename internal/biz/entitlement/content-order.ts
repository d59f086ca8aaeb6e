import { invalidArgument } from '../../../gen/common/v1/errors.js';
import { contentAlreadyOwned } from '../../../gen/content/v1/errors.js';
import type { Content, ContentUsecase } from '../catalog/content.js';
import type { IdGenerator } from '../id-generator.js';
import { type OrderPolicy, priceHasChanged } from '../order/order.js';
import type { NewOrder, Order, OrderRepo } from '../order/order-state.js';
import type { PaidOrders } from '../order/paid-orders.js';
import { fingerprintOf, requestReused } from '../order/request-fingerprint.js';
import type { TransactionRunner } from '../transaction.js';
import type { EntitlementRepo } from './entitlement-state.js';

export interface CreateContentOrder {
  readonly userId: string;
  readonly contentId: bigint;
  readonly quantity: number;
  readonly remark: string;
  /** Empty: each call creates an order of its own. */
  readonly requestId: string;
  /** What the buyer was shown; undefined: any amount will do. */
  readonly expectedAmountFen: bigint | undefined;
}

/** Ordinary orders of contents. */
export class ContentOrderUsecase {
  constructor(
    private readonly transactions: TransactionRunner,
    private readonly ids: IdGenerator,
    private readonly contents: ContentUsecase,
    private readonly entitlements: EntitlementRepo,
    private readonly orders: OrderRepo,
    private readonly paid: PaidOrders,
    private readonly policy: OrderPolicy,
  ) {}

  /**
   * Creates an order, PENDING or, of a content that costs nothing, COMPLETED. A content that the buyer has permanent access to is refused here; one that the buyer comes to own
   * before the payment is refunded by it.
   * @throws INVALID_ARGUMENT quantity, CONTENT_NOT_FOUND, CONTENT_NOT_ON_SALE, CONTENT_ALREADY_OWNED, PRICE_CHANGED,
   * REQUEST_ID_REUSED
   */
  async create(wanted: CreateContentOrder): Promise<Order> {
    if (wanted.quantity !== 1) {
      throw invalidArgument('an order of a content has quantity 1', {
        violations: [{ field: 'quantity', description: 'must be 1 for a content' }],
      });
    }
    const before = await this.findRepeated(wanted);
    if (before) return before;
    const content = await this.contents.getOnSale(wanted.contentId);
    const { userId, contentId, expectedAmountFen } = wanted;
    const owned = await this.entitlements.findPermanent(undefined, [{ userId, contentId }]);
    if (owned.length > 0) {
      throw contentAlreadyOwned(`the user has permanent access to content ${contentId}`, {
        metadata: { content_id: String(contentId) },
      });
    }
    if (expectedAmountFen !== undefined && expectedAmountFen !== content.priceFen)
      throw priceHasChanged(content.priceFen);
    const order = this.orderOf(wanted, content);
    const stored = await this.transactions.run(
      async (tx) => {
        const inserted = await this.orders.insert(tx, [order], 'user');
        if (inserted) await this.paid.payCreated(tx, [order]);
        return inserted;
      },
      // With a request id a second run can see that the first one was committed.
      { idempotent: wanted.requestId !== '' },
    );
    const created = stored ? await this.orders.find(order.id, userId) : await this.findRepeated(wanted);
    if (!created) throw new Error(`order ${order.id} was stored but cannot be found`);
    return created;
  }

  private orderOf(wanted: CreateContentOrder, content: Content): NewOrder {
    return {
      id: this.ids.nextId(),
      userId: wanted.userId,
      sellerId: content.sellerId,
      orderType: 'CONTENT',
      source: 'NORMAL',
      status: 'PENDING',
      productId: undefined,
      content: { id: content.id, type: content.contentType, days: content.accessDays },
      productName: content.title,
      quantity: 1,
      priceFen: content.priceFen,
      amountFen: content.priceFen,
      reqId: this.ids.nextId(),
      requestId: wanted.requestId === '' ? undefined : wanted.requestId,
      requestFingerprint: fingerprint(wanted),
      remark: wanted.remark,
      payTimeoutMs: this.policy.payTimeoutMs,
    };
  }

  private async findRepeated(wanted: CreateContentOrder): Promise<Order | undefined> {
    if (wanted.requestId === '') return undefined;
    const found = await this.orders.findByRequest(wanted.userId, wanted.requestId);
    if (found && found.requestFingerprint !== fingerprint(wanted)) throw requestReused(wanted.requestId, found.id);
    return found;
  }
}

function fingerprint({ contentId, remark }: CreateContentOrder): string {
  return fingerprintOf({ contentId, remark });
}
