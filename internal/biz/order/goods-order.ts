import { invalidArgument, isUnavailable } from '../../../gen/common/v1/errors.js';
import { Batchers } from '../batchers.js';
import type { CatalogRepo, Goods } from '../catalog/catalog.js';
import { orderHeld, type StockRepo } from '../catalog/stock.js';
import type { StockGate } from '../catalog/stock-gate.js';
import type { IdGenerator } from '../id-generator.js';
import type { Quote } from '../pricing/price-calculator.js';
import type { PricedRequest, Pricing } from '../pricing/pricing.js';
import type { Transaction, TransactionRunner } from '../transaction.js';
import { type CartCheckoutRepo, CartOutdated, type NewCartCheckout, type ReadCart } from './cart-checkout.js';
import { type OrderLine, type Refusal, refusalError, refusalOf, shortageOf } from './goods-order-refusal.js';
import type { OrderPolicy } from './order.js';
import { orderItemOf, sellerOf } from './order-item.js';
import { type NewGoodsOrder, type Order, type OrderRepo, type Receiver, requestKey } from './order-state.js';
import type { PaidOrders } from './paid-orders.js';
import { fingerprintOf, requestReused } from './request-fingerprint.js';

export interface CreateGoodsOrder {
  readonly userId: string;
  /** 1 to 100; quantities of a sku that is named twice are added up. */
  readonly lines: readonly OrderLine[];
  readonly receiver: Receiver | undefined;
  readonly remark: string;
  /** Empty: each call creates an order of its own. */
  readonly requestId: string;
  /** What the buyer was shown; undefined: any amount will do. */
  readonly expectedAmountFen: bigint | undefined;
  /** The buyer's coupon, which the order holds; undefined: none. */
  readonly couponId?: bigint | undefined;
  /**
   * The lines are those of the user's cart, which they leave with the order. The request id then stands for whatever the cart
   * holds, so that a repeated call, which finds the cart without them, gets the same order.
   */
  readonly fromCart?: Pick<ReadCart, 'taken'>;
}

/** A request whose lines are merged and sorted by sku. */
interface PlacementRequest extends CreateGoodsOrder {
  readonly id: bigint;
  readonly reqId: bigint;
  readonly receiver: Receiver;
  readonly fingerprint: string;
}

/** What becomes of a request, decided inside the transaction. */
type Decision =
  | { readonly kind: 'placed' }
  /** The request id is taken: the caller looks at the order that it created before. */
  | { readonly kind: 'repeated' }
  /** The cart of the request must be read again. */
  | { readonly kind: 'cart-outdated' }
  | Refusal;

/** What became of a request in its transaction. */
type Outcome =
  | Decision
  /** Alone, after its batch failed. */
  | { readonly kind: 'failed'; readonly cause: unknown };

/** What a caller is told, by a value or by an error. */
type Placement = Exclude<Outcome, { readonly kind: 'placed' }> | { readonly kind: 'placed'; readonly order: Order };

/** A full cart. */
const LINES_MAX = 100;
const QUANTITY_MAX = 10_000;
/** Orders of one sku that share a transaction. */
const BATCH_MAX = 128;

/*
 * An ordinary order of goods:
 *
 *   repeated request id? → its order → free units as Redis was last told (turns most buyers of a sold-out sku away)
 *   → one transaction: lock the skus by id, then the coupons → the rules of prices in force → for each request in turn: on
 *   sale, enough free units, price → orders with their lines and discounts → HOLD lines of the ledger, which add to
 *   lock_stock → coupons become HELD → orders that cost nothing become PAID → COMMIT → tell Redis what is free now
 *
 * PostgreSQL has the last word on stock: the gate in Redis can be wrong for seconds in either direction. Orders of a
 * single sku that arrive while a transaction of that sku is under way go together in the next one, so that a hot row is
 * locked once for many orders. A batch that fails is placed again one by one, so that one order cannot fail another.
 */
export class GoodsOrderUsecase {
  private readonly batchers: Batchers<bigint, PlacementRequest, Placement>;

  constructor(
    private readonly transactions: TransactionRunner,
    private readonly ids: IdGenerator,
    private readonly catalog: CatalogRepo,
    private readonly stock: StockRepo,
    private readonly gate: StockGate,
    private readonly orders: OrderRepo,
    private readonly pricing: Pricing,
    private readonly checkouts: CartCheckoutRepo,
    private readonly paid: PaidOrders,
    private readonly policy: OrderPolicy,
  ) {
    this.batchers = new Batchers({
      name: 'orders of this sku',
      maxBatch: BATCH_MAX,
      run: (_skuId, requests) => this.placeIsolated(requests),
    });
  }

  /**
   * Creates a PENDING order that holds its units. One that costs nothing is PAID, and its units have left the stock.
   * @throws INVALID_ARGUMENT lines, quantity, receiver; SKU_NOT_FOUND, SKU_NOT_ON_SALE, STOCK_INSUFFICIENT,
   * COUPON_NOT_FOUND, COUPON_UNAVAILABLE, PRICE_CHANGED, REQUEST_ID_REUSED; CartOutdated for lines of a cart
   */
  async create(wanted: CreateGoodsOrder): Promise<Order> {
    const request = this.requestOf(wanted);
    const before = await this.findRepeated(request);
    if (before) return before;
    const free = await this.gate.read(request.lines.map((l) => l.skuId));
    // With a copy of every sku it can name all that fall short; else PostgreSQL does.
    const shortage = free.size < request.lines.length ? undefined : shortageOf(request.lines, free);
    if (shortage) throw refusalError(wanted.lines, shortage);

    const placement = await this.place(request);
    switch (placement.kind) {
      case 'placed':
        return placement.order;
      case 'repeated':
        return (await this.findRepeated(request)) ?? lost(request.id);
      case 'failed':
        throw placement.cause;
      case 'cart-outdated':
        throw new CartOutdated();
      default:
        throw refusalError(wanted.lines, placement);
    }
  }

  /** The order of an earlier checkout with this request id. @throws REQUEST_ID_REUSED */
  findCheckout(wanted: Omit<CreateGoodsOrder, 'lines' | 'fromCart'>): Promise<Order | undefined> {
    return this.findRepeated({ ...wanted, fingerprint: checkoutFingerprint(wanted) });
  }

  private requestOf(wanted: CreateGoodsOrder): PlacementRequest {
    const { lines, receiver } = wanted;
    if (lines.length === 0 || lines.length > LINES_MAX) {
      throw invalidArgument(`an order has 1 to ${LINES_MAX} lines`, {
        violations: [{ field: 'lines', description: `must have 1 to ${LINES_MAX} items` }],
      });
    }
    if (!receiver) {
      throw invalidArgument('an order of goods needs a receiver', {
        violations: [{ field: 'receiver', description: 'is required with lines' }],
      });
    }
    const quantities = new Map<bigint, number>();
    lines.forEach(({ skuId, quantity }, i) => {
      const units = (quantities.get(skuId) ?? 0) + quantity;
      if (!Number.isInteger(quantity) || quantity < 1 || units > QUANTITY_MAX) {
        throw invalidArgument(`an order has 1 to ${QUANTITY_MAX} units of a sku`, {
          violations: [{ field: `lines[${i}].quantity`, description: `must add up to 1 to ${QUANTITY_MAX} per sku` }],
        });
      }
      quantities.set(skuId, units);
    });
    const merged = [...quantities]
      .map(([skuId, quantity]) => ({ skuId, quantity }))
      .sort((a, b) => compare(a.skuId, b.skuId));
    return {
      ...wanted,
      id: this.ids.nextId(),
      reqId: this.ids.nextId(),
      lines: merged,
      receiver,
      fingerprint: wanted.fromCart
        ? checkoutFingerprint(wanted)
        : // Absent without a coupon, so that requests of earlier versions keep their fingerprints.
          fingerprintOf({ lines: merged, receiver, remark: wanted.remark, couponId: wanted.couponId }),
    };
  }

  private async findRepeated({
    userId,
    requestId,
    fingerprint,
  }: Pick<PlacementRequest, 'userId' | 'requestId' | 'fingerprint'>): Promise<Order | undefined> {
    if (requestId === '') return undefined;
    const found = await this.orders.findByRequest(userId, requestId);
    if (found && found.requestFingerprint !== fingerprint) throw requestReused(requestId, found.id);
    return found;
  }

  private place(request: PlacementRequest): Promise<Placement> {
    const [line] = request.lines;
    const batcher = request.lines.length === 1 && line ? this.batchers.of(line.skuId) : undefined;
    return batcher ? batcher.add(request) : this.placeAlone(request);
  }

  /** A batch that fails is placed again one by one: the order at fault fails alone. */
  private async placeIsolated(requests: readonly PlacementRequest[]): Promise<readonly Placement[]> {
    const outcomes: Outcome[] = [];
    try {
      outcomes.push(...(await this.decideAll(requests)));
    } catch (err) {
      if (isUnavailable(err)) throw err;
      for (const request of requests) {
        outcomes.push(await this.decideAlone(request).catch((cause: unknown) => ({ kind: 'failed', cause })));
      }
    }
    return this.read(requests, outcomes);
  }

  private async placeAlone(request: PlacementRequest): Promise<Placement> {
    const [placement] = await this.read([request], [await this.decideAlone(request)]);
    return placement ?? lost(request.id);
  }

  private async decideAlone(request: PlacementRequest): Promise<Outcome> {
    try {
      const [decision] = await this.decideAll([request]);
      return decision ?? lost(request.id);
    } catch (err) {
      if (err instanceof RequestIdTaken) return { kind: 'repeated' };
      throw err;
    }
  }

  private decideAll(requests: readonly PlacementRequest[]): Promise<readonly Decision[]> {
    // Its own request id tells a second run that the first was committed.
    const idempotent = requests.every((r) => r.requestId !== '');
    return this.transactions.run((tx) => this.decide(tx, requests), { idempotent });
  }

  /**
   * Adds the stored orders to the outcomes: together, because a query for each would take longer than placing them all.
   * They are committed, so a failure here must not place them again.
   */
  private async read(
    requests: readonly PlacementRequest[],
    outcomes: readonly Outcome[],
  ): Promise<readonly Placement[]> {
    const placed = requests.filter((_, i) => outcomes[i]?.kind === 'placed').map((r) => r.id);
    let orders = new Map<bigint, Order>();
    let failure: { readonly kind: 'failed'; readonly cause: unknown } | undefined;
    try {
      if (placed.length > 0) orders = new Map((await this.orders.findAll(placed)).map((order) => [order.id, order]));
    } catch (cause) {
      failure = { kind: 'failed', cause };
    }
    return requests.map((request, i): Placement => {
      const outcome = outcomes[i] ?? lost(request.id);
      if (outcome.kind !== 'placed') return outcome;
      return failure ?? { kind: 'placed', order: orders.get(request.id) ?? lost(request.id) };
    });
  }

  private async decide(tx: Transaction, requests: readonly PlacementRequest[]): Promise<readonly Decision[]> {
    const skuIds = [...new Set(requests.flatMap((r) => r.lines.map((l) => l.skuId)))].sort(compare);
    const levels = await this.catalog.lockGoods(tx, skuIds);
    // Repeats of a request wait for the same skus, so what was stored before is seen here.
    const taken = await this.orders.findRequestIds(tx, requests);
    const outdated = await this.lockCarts(tx, requests);
    const goods = new Map(levels.map((g) => [g.sku.id, g]));
    const free = new Map(levels.map(({ sku }) => [sku.id, sku.stock - sku.lockStock]));
    const prices = await this.pricing.open(requests.map(pricedRequestOf), goods, tx);
    const orders: NewGoodsOrder[] = [];
    const checkouts: NewCartCheckout[] = [];
    const decisions = requests.map((request): Decision => {
      const key = requestKey(request);
      if (key !== undefined && taken.has(key)) return { kind: 'repeated' };
      if (request.fromCart && outdated.has(request.userId)) return { kind: 'cart-outdated' };
      const refusal = refusalOf(request.lines, goods, free);
      if (refusal) return refusal;
      const priced = prices.quote(pricedRequestOf(request));
      if (priced.kind === 'unknown-coupon') return priced;
      const { quote } = priced;
      if (quote.coupon?.refusal !== undefined) {
        return { kind: 'coupon-refused', couponId: quote.coupon.id, reason: quote.coupon.refusal };
      }
      const order = this.orderOf(request, goods, quote);
      if (request.expectedAmountFen !== undefined && request.expectedAmountFen !== order.amountFen) {
        return { kind: 'price-changed', amountFen: order.amountFen };
      }
      for (const { skuId, quantity } of request.lines) free.set(skuId, (free.get(skuId) ?? 0n) - BigInt(quantity));
      if (key !== undefined) taken.add(key);
      if (request.fromCart) {
        outdated.add(request.userId);
        checkouts.push({ userId: request.userId, orderId: order.id, lines: request.lines });
      }
      orders.push(order);
      prices.place(order.id, pricedRequestOf(request), quote);
      return { kind: 'placed' };
    });
    await this.store(tx, orders);
    await this.pricing.store(tx, prices);
    await this.paid.payCreated(tx, orders);
    if (checkouts.length > 0) await this.checkouts.insert(tx, checkouts);
    if (decisions.some((d) => d.kind === 'short')) {
      const units = levels.map(({ sku }) => ({ skuId: sku.id, free: free.get(sku.id) ?? 0n, seq: sku.stockSeq }));
      // Skus that orders were placed on are published with what those took.
      const moved = new Set(orders.flatMap((o) => o.items.map((i) => i.skuId)));
      const unmoved = units.filter((u) => !moved.has(u.skuId));
      this.transactions.afterCommit(tx, () => this.gate.publish(unmoved));
    }
    return decisions;
  }

  /** @returns users whose carts must be read again */
  private async lockCarts(tx: Transaction, requests: readonly PlacementRequest[]): Promise<Set<string>> {
    const carts = requests.flatMap(({ userId, fromCart }) => (fromCart ? [{ userId, taken: fromCart.taken }] : []));
    return carts.length === 0 ? new Set() : new Set(await this.checkouts.lockUsers(tx, carts));
  }

  private async store(tx: Transaction, orders: readonly NewGoodsOrder[]): Promise<void> {
    if (orders.length === 0) return;
    // By request id, so that two transactions that share some of them wait for each other in one order.
    const sorted = [...orders].sort((a, b) => ((a.requestId ?? '') < (b.requestId ?? '') ? -1 : 1));
    if (!(await this.orders.insertGoods(tx, sorted, 'user'))) throw new RequestIdTaken();
    await this.stock.move(
      tx,
      orders.flatMap(({ id, items }) => items.map(({ skuId, quantity }) => orderHeld({ id, skuId, quantity }))),
    );
  }

  private orderOf(request: PlacementRequest, goods: ReadonlyMap<bigint, Goods>, quote: Quote): NewGoodsOrder {
    const items = quote.lines.map(({ skuId, priceFen, quantity, promotionFen }) =>
      orderItemOf(goods.get(skuId) ?? lost(request.id), { priceFen, quantity, promotionFen }),
    );
    const [first] = items;
    if (!first) throw new Error(`order ${request.id} has no lines`);
    return {
      id: request.id,
      userId: request.userId,
      sellerId: sellerOf(items),
      orderType: 'GOODS',
      source: 'NORMAL',
      status: 'PENDING',
      productId: undefined,
      productName: first.skuName,
      quantity: request.lines.reduce((units, line) => units + line.quantity, 0),
      priceFen: first.priceFen,
      amountFen: quote.amountFen,
      freightFen: quote.freightFen,
      promotionFen: quote.promotionFen,
      items,
      receiver: request.receiver,
      reqId: request.reqId,
      requestId: request.requestId === '' ? undefined : request.requestId,
      requestFingerprint: request.fingerprint,
      remark: request.remark,
      payTimeoutMs: this.policy.payTimeoutMs,
    };
  }
}

function checkoutFingerprint({ receiver, remark, couponId }: Omit<CreateGoodsOrder, 'lines'>): string {
  return fingerprintOf({ checkout: true, receiver, remark, couponId });
}

function pricedRequestOf({ userId, lines, receiver, couponId }: PlacementRequest): PricedRequest {
  return { userId, lines, region: receiver.region, couponId };
}

/** A request id of the batch was taken by a transaction that had not committed when this one looked. */
class RequestIdTaken extends Error {
  override readonly name = 'RequestIdTaken';

  constructor() {
    super('a request id was taken meanwhile');
  }
}

function lost(orderId: bigint): never {
  throw new Error(`order ${orderId} was placed and is gone`);
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
