import { cartFull, cartMerged } from '../../../gen/cart/v1/errors.js';
import { skuNotFound, skuNotOnSale } from '../../../gen/catalog/v1/errors.js';
import type { CatalogRepo, Goods } from '../catalog/catalog.js';
import { noCoupon } from '../pricing/coupon.js';
import type { Quote } from '../pricing/price-calculator.js';
import type { PricedRequest, Pricing } from '../pricing/pricing.js';
import type { CartLoader } from './cart-load.js';
import { type CartOwner, cartName, userCart } from './cart-owner.js';
import { type CartLine, type CartStore, LINES_MAX, type MergeResult } from './cart-store.js';

/** A change of one line. Absent fields stay as they are; a new line has 1 unit and is selected. */
export interface PutLine {
  readonly skuId: bigint;
  readonly quantity: number | undefined;
  readonly selected: boolean | undefined;
}

export type CartMark = 'CHANGED_PRICE' | 'OUT_OF_STOCK' | 'NOT_ON_SALE';

/** A line with what the catalog says of it now. */
export interface ShownLine {
  readonly line: CartLine;
  /** undefined: there is no such sku. */
  readonly goods: Goods | undefined;
  readonly marks: readonly CartMark[];
}

export interface ShownCart {
  /** Newest first. */
  readonly lines: readonly ShownLine[];
  /** Of the lines that a checkout would order; undefined: none. */
  readonly quote: Quote | undefined;
}

/** What a cart is to be quoted with. */
export type CartQuoteOptions = Omit<PricedRequest, 'userId' | 'lines'>;

/*
 * Redis has the working copy of a cart, PostgreSQL the one that survives:
 *
 *   call → script in Redis, which changes the cart and lists it as unsaved → reply
 *            │ the cart is not in Redis: loaded from PostgreSQL, then the script again
 *   cart saver: unsaved carts, some seconds later, in batches → PostgreSQL → the script that marks them as saved
 */
export class CartUsecase {
  constructor(
    private readonly store: CartStore,
    private readonly loader: CartLoader,
    private readonly catalog: CatalogRepo,
    private readonly pricing: Pricing,
  ) {}

  /** @throws COUPON_NOT_FOUND */
  async get(owner: CartOwner, options: CartQuoteOptions): Promise<ShownCart> {
    const { shown, goods } = await this.show(owner);
    const wanted = orderable(shown);
    if (wanted.length === 0) return { lines: shown, quote: undefined };
    const request = { ...options, userId: owner.id, lines: wanted };
    const priced = new Map(wanted.flatMap(({ skuId }) => [...entryOf(goods, skuId)]));
    const result = (await this.pricing.open([request], priced)).quote(request);
    if (result.kind === 'unknown-coupon') throw noCoupon(result.couponId, 'coupon_id');
    return { lines: shown, quote: result.quote };
  }

  /** What a checkout would order now. */
  async orderableLines(owner: CartOwner): Promise<readonly CartOrderLine[]> {
    return orderable((await this.show(owner)).shown);
  }

  /** @throws SKU_NOT_FOUND, SKU_NOT_ON_SALE for a new line, CART_FULL, CART_MERGED */
  async put(owner: CartOwner, put: PutLine): Promise<CartLine> {
    const goods = await this.catalog.findGoods(put.skuId);
    if (!goods) throw refusal(skuNotFound, put.skuId, `no sku ${put.skuId}`, 'no such sku');
    const onSale = goods.spu.publishStatus === 'PUBLISHED';
    const terms = { ...put, priceFen: goods.sku.priceFen, mayAdd: onSale };
    const result = await this.loader.run([owner], () => this.store.put(owner, terms));
    switch (result.kind) {
      case 'PUT':
        return result.line;
      case 'NO_LINE':
        throw refusal(skuNotOnSale, put.skuId, `sku ${put.skuId} is not on sale`, 'is not on sale');
      case 'FULL':
        throw cartFull(`a cart has at most ${LINES_MAX} lines`, { metadata: { lines: String(LINES_MAX) } });
      case 'MERGED':
        throw cartMerged('the guest cart was merged into the cart of a user');
      default:
        return result satisfies never;
    }
  }

  /** @param skuIds undefined: all lines */
  async remove(owner: CartOwner, skuIds?: readonly bigint[]): Promise<void> {
    await this.loader.run([owner], () => this.store.remove(owner, skuIds));
  }

  /** Moves the lines of a guest cart to the cart of a user, once. */
  merge(guest: CartOwner, userId: string): Promise<MergeResult> {
    const user = userCart(userId);
    if (!guest.guest) throw new Error(`${cartName(guest)} is no guest cart`);
    return this.loader.run([guest, user], () => this.store.merge(guest, user));
  }

  /** The lines, newest first, and the goods of those that exist. */
  private async show(
    owner: CartOwner,
  ): Promise<{ readonly shown: readonly ShownLine[]; readonly goods: ReadonlyMap<bigint, Goods> }> {
    const { lines } = await this.loader.read(owner);
    const found = lines.length === 0 ? [] : await this.catalog.findAllGoods(lines.map((l) => l.skuId));
    const goods = new Map(found.map((g) => [g.sku.id, g]));
    return { shown: lines.map((line) => shownLine(line, goods.get(line.skuId))).sort(newestFirst), goods };
  }
}

export interface CartOrderLine {
  readonly skuId: bigint;
  readonly quantity: number;
}

/** Lines that a checkout orders: selected ones that are on sale. */
export function orderable(lines: readonly ShownLine[]): readonly CartOrderLine[] {
  return lines.flatMap(({ line: { skuId, quantity, selected }, marks }) =>
    selected && !marks.includes('NOT_ON_SALE') ? [{ skuId, quantity }] : [],
  );
}

export function shownLine(line: CartLine, goods: Goods | undefined): ShownLine {
  if (goods?.spu.publishStatus !== 'PUBLISHED') return { line, goods, marks: ['NOT_ON_SALE'] };
  const { sku } = goods;
  const marks: CartMark[] = [];
  if (line.priceFen !== undefined && line.priceFen !== sku.priceFen) marks.push('CHANGED_PRICE');
  if (sku.stock - sku.lockStock < BigInt(line.quantity)) marks.push('OUT_OF_STOCK');
  return { line, goods, marks };
}

function newestFirst({ line: a }: ShownLine, { line: b }: ShownLine): number {
  return b.addedAt.getTime() - a.addedAt.getTime() || (a.skuId < b.skuId ? 1 : -1);
}

function* entryOf(goods: ReadonlyMap<bigint, Goods>, skuId: bigint): Iterable<readonly [bigint, Goods]> {
  const found = goods.get(skuId);
  if (found) yield [skuId, found];
}

function refusal(make: typeof skuNotFound, skuId: bigint, message: string, description: string) {
  const metadata = { sku_id: String(skuId) };
  return make(message, { metadata, violations: [{ field: 'sku_id', description }] });
}
