import type { SavedCarts } from '../../internal/biz/cart/cart-store.js';
import type { CatalogRepo, NewSku, NewSpu, Sku } from '../../internal/biz/catalog/catalog.js';
import type { ContentRepo } from '../../internal/biz/catalog/content.js';
import type { NewProduct, Product, ProductRepo } from '../../internal/biz/catalog/product.js';
import type { StockMove, StockRepo } from '../../internal/biz/catalog/stock.js';
import type { Access, EntitlementRepo } from '../../internal/biz/entitlement/entitlement-state.js';
import { formatUserId } from '../../internal/biz/identity.js';
import type { InstanceRepo } from '../../internal/biz/instance/instance.js';
import type { CartCheckoutRepo } from '../../internal/biz/order/cart-checkout.js';
import type { OrderItem } from '../../internal/biz/order/order-item.js';
import type { NewGoodsOrder, NewOrder, OrderRepo } from '../../internal/biz/order/order-state.js';
import type { PaymentRepo } from '../../internal/biz/order/payment.js';
import type { PaymentSessionRepo } from '../../internal/biz/order/payment-session-state.js';
import type { RefundRepo } from '../../internal/biz/order/refund-state.js';
import type { ShipmentRepo } from '../../internal/biz/order/shipment.js';
import type { Outbox } from '../../internal/biz/outbox.js';
import type { CouponRepo } from '../../internal/biz/pricing/coupon.js';
import type { PriceRuleRepo } from '../../internal/biz/pricing/price-rule.js';
import type { UserCouponRepo } from '../../internal/biz/pricing/user-coupon.js';
import type { SaleUnitsRepo } from '../../internal/biz/seckill/reserved-units.js';
import type { SaleAccounts } from '../../internal/biz/seckill/sale-account.js';
import type { Sale, SaleRepo } from '../../internal/biz/seckill/sale-state.js';
import type { VipLimitRepo } from '../../internal/biz/seckill/vip-limit.js';
import type { Transaction, TransactionRunner } from '../../internal/biz/transaction.js';
import type { UserRepo } from '../../internal/biz/user/user.js';

/** A line of an order without what only the snapshot on the order has. */
export type OrderItemRow = Omit<OrderItem, 'goodsType' | 'contents'>;

/** One implementation of the ports of biz, and what a test must do or read without them. */
export interface Backend {
  readonly transactions: TransactionRunner;
  readonly products: ProductRepo;
  readonly catalog: CatalogRepo;
  readonly contents: ContentRepo;
  readonly entitlements: EntitlementRepo;
  readonly stock: StockRepo;
  readonly orders: OrderRepo;
  readonly cartCheckouts: CartCheckoutRepo;
  readonly savedCarts: SavedCarts;
  readonly shipments: ShipmentRepo;
  readonly payments: PaymentRepo;
  readonly paymentSessions: PaymentSessionRepo;
  readonly priceRules: PriceRuleRepo;
  readonly coupons: CouponRepo;
  readonly userCoupons: UserCouponRepo;
  readonly refunds: RefundRepo;
  readonly instances: InstanceRepo;
  readonly saleUnits: SaleUnitsRepo;
  readonly sales: SaleRepo;
  readonly vipLimits: VipLimitRepo;
  readonly accounts: SaleAccounts;
  readonly outbox: Outbox;
  readonly users: UserRepo;
  /** Topics of the outbox rows that refer to this id. */
  topics(refId: bigint): Promise<readonly string[]>;
  insertSale(sale: Pick<Sale, 'id' | 'itemId' | 'total'> & Partial<Pick<Sale, 'orderType'>>): Promise<void>;
  /** Closes the sale and returns its unsold units. */
  releaseSale(saleId: bigint): Promise<void>;
  /** Counts a unit as sold, in `tx`. */
  sell(tx: Transaction, saleId: bigint): Promise<void>;
  sold(saleId: bigint): Promise<bigint>;
  returned(saleId: bigint): Promise<bigint>;
  /** The lines of an order, as rows. */
  items(orderId: bigint): Promise<readonly OrderItemRow[]>;
  /** Makes it so that the request was created, and its event published, this long ago. */
  publish(instanceId: bigint, agoMs: number): Promise<void>;
  /** Makes it so that the entitlements of these accesses began and end this much earlier. */
  ageEntitlements(accesses: readonly Access[], byMs: number): Promise<void>;
  insertInboxRow(order: NewOrder, streamId: string): Promise<void>;
  /** Breaks the connection of `tx`, so that its next statement fails. */
  breakConnection(tx: Transaction): Promise<void>;
  /** COMMIT of `tx` will succeed, but its reply will be lost. */
  loseCommitReply(tx: Transaction): void;
  close(): Promise<void>;
}

export type OpenBackend = () => Promise<Backend>;

/** Registers the hooks of the enclosing suite, which opens the backend once. */
export function useBackend(open: OpenBackend): { readonly it: Backend } {
  const opened: { it?: Backend } = {};
  before(async () => {
    opened.it = await open();
  });
  after(() => opened.it?.close());
  return opened as { readonly it: Backend };
}

let lastId = 1_000_000n;

/** Ids that no other test of this run uses. */
export function freshId(): bigint {
  return ++lastId;
}

/** A user that no other test of this run uses. */
export function freshUser(): string {
  return formatUserId(String(freshId()));
}

const PLAN: Omit<NewProduct, 'specId'> = {
  ...{ name: 'small', description: 'a plan', status: 'ENABLED', priceFen: 9_900n, imageUrl: '', sellerId: undefined },
};

export async function insertProduct(products: ProductRepo, changes: Partial<NewProduct> = {}): Promise<Product> {
  const spec = await products.insertSpec({ cpu: 2, memoryGb: 4, gpu: 0, image: 'debian-12', config: undefined });
  const product = await products.insert({ ...PLAN, specId: spec.id, ...changes });
  if (!product) throw new Error('the specification was just inserted');
  return product;
}

export async function insertSku(
  { transactions, catalog, stock }: Pick<Backend, 'transactions' | 'catalog' | 'stock'>,
  units: bigint,
  changes: { readonly spu?: Partial<NewSpu>; readonly sku?: Partial<NewSku> } = {},
): Promise<Sku> {
  const spu = await catalog.insertSpu({
    ...{ spuNo: `spu-${freshId()}`, title: 'phone', categoryId: 1n, brandId: 2n, mainImages: [], detailHtml: '' },
    ...{ publishStatus: 'PUBLISHED', ...changes.spu },
  });
  const sku = await transactions.run(async (tx) => {
    const inserted = await catalog.insertSku(tx, {
      ...{ spuId: spu!.id, skuNo: `sku-${freshId()}`, skuName: 'phone, black', priceFen: 500n, marketPriceFen: 0n },
      ...{ specs: { color: 'black' }, ...changes.sku },
    });
    if (units > 0n) await stock.move(tx, [adjustment(inserted!.id, units)]);
    return inserted!;
  });
  return (await catalog.findSku(sku.id))!;
}

export function adjustment(skuId: bigint, delta: bigint, requestId?: string): StockMove {
  return { kind: 'ADJUST', skuId, requestId, units: delta < 0n ? -delta : delta, stockDelta: delta, lockDelta: 0n };
}

export function newOrder(product: Product, changes: Partial<NewOrder> = {}): NewOrder {
  return {
    id: freshId(),
    userId: freshUser(),
    orderType: 'INSTANCE',
    source: 'NORMAL',
    status: 'PENDING',
    productId: product.id,
    productName: product.name,
    quantity: 1,
    priceFen: product.priceFen,
    amountFen: product.priceFen,
    reqId: freshId(),
    ...changes,
  };
}

/** An order of goods with a line for each sku. */
export function newGoodsOrder(lines: readonly (readonly [sku: Sku, quantity: number])[]): NewGoodsOrder {
  const items = lines.map(
    ([sku, quantity]): OrderItem => ({
      ...{ skuId: sku.id, spuId: sku.spuId, spuName: 'phone', skuName: sku.skuName, skuImage: '', specs: {} },
      ...{ priceFen: 100n, quantity, promotionFen: 0n, sellerId: undefined, goodsType: '', contents: [] },
    }),
  );
  const units = lines.reduce((sum, [, quantity]) => sum + quantity, 0);
  return {
    ...{ id: freshId(), userId: freshUser(), orderType: 'GOODS', source: 'NORMAL', status: 'PENDING' },
    ...{ productId: undefined, productName: 'phone', quantity: units, priceFen: 100n, amountFen: 100n * BigInt(units) },
    ...{ freightFen: 0n, promotionFen: 0n, receiver: undefined, reqId: freshId(), items },
  };
}

/** Lets one actor of a test wait for another at a known point. */
export function latch(): { readonly opened: Promise<void>; readonly open: () => void } {
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

export function times<T>(n: number, make: (i: number) => T): T[] {
  return Array.from({ length: n }, (_, i) => make(i));
}
