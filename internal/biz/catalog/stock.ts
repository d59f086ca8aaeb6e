import type { Transaction } from '../transaction.js';

/**
 * ADJUST: an operator adds or removes units. SALE_HOLD, SALE_RETURN: a sale reserves its units, and returns the unsold ones
 * at its end; SALE_RESIZE: it reserves more or fewer
 * while it is live. HOLD, DEDUCT, RETURN: an order is unpaid, paid, cancelled. RESTOCK: the units of a paid order
 * come back.
 */
export type StockMoveKind =
  | 'ADJUST'
  | 'SALE_HOLD'
  | 'SALE_RETURN'
  | 'SALE_RESIZE'
  | 'HOLD'
  | 'DEDUCT'
  | 'RETURN'
  | 'RESTOCK';

/** A row of the stock ledger. The stock and lock_stock of a sku are the sums of its rows. */
export interface StockMove {
  readonly kind: StockMoveKind;
  readonly skuId: bigint;
  readonly orderId?: bigint | undefined;
  readonly saleId?: bigint | undefined;
  /** RESTOCK: the refund whose units they are. */
  readonly refundId?: bigint | undefined;
  readonly requestId?: string | undefined;
  readonly units: bigint;
  readonly stockDelta: bigint;
  readonly lockDelta: bigint;
  readonly reason?: string;
}

/** A stored row of the ledger. */
export interface StockLedgerRow extends StockMove {
  readonly id: bigint;
  readonly reason: string;
  readonly createdAt: Date;
}

export interface StockLevel {
  /** Units in stock, including reserved ones. */
  readonly stock: bigint;
  /** Units of the stock that sales and unpaid orders reserve. */
  readonly lockStock: bigint;
  /** Version of the sku. */
  readonly version: bigint;
}

/** The free units of a sku, `stock - lockStock`. */
export interface FreeUnits {
  readonly skuId: bigint;
  readonly free: bigint;
  /** Counts the changes of the sku's stock: of two values the higher one is the newer. */
  readonly seq: bigint;
}

export abstract class StockRepo {
  /** The sku's level, locked until `tx` ends. */
  abstract lock(tx: Transaction, skuId: bigint): Promise<StockLevel | undefined>;
  /** The stock delta of an earlier adjustment with this request id. */
  abstract findAdjustment(tx: Transaction, skuId: bigint, requestId: string): Promise<bigint | undefined>;
  /**
   * Writes the rows and changes each sku by their sums, in one statement. An ADJUST increments the version of the sku.
   * @throws when the ledger already has such a row, or the stock would fall below the reserved units
   */
  abstract move(tx: Transaction, moves: readonly StockMove[]): Promise<void>;
  /** The ledger of a sku, by id, descending. @param belowId only rows with a lower id */
  abstract listMoves(skuId: bigint, belowId: bigint | undefined, limit: number): Promise<readonly StockLedgerRow[]>;
}

/** The fields of an order, or of an order line, that concern its units of a sku. */
interface Holder {
  /** The order's. */
  readonly id: bigint;
  readonly skuId?: bigint | undefined;
  readonly saleId?: bigint | undefined;
  readonly quantity: number;
}

/*
 * A sale reserves its units when it is created, so that no ordinary order can take them before they are sold. An unpaid
 * order of a sale therefore does not change lock_stock: the sale reserved its units before, and does so again after a
 * cancellation. An ordinary order reserves free units itself. Hence, per sku:
 *
 *   lock_stock = Σ over its sales (total - sold - returned) + Σ over its unpaid orders (quantity)
 */

export function saleHeld(sale: { readonly id: bigint; readonly itemId: bigint }, units: bigint): StockMove {
  return { kind: 'SALE_HOLD', skuId: sale.itemId, saleId: sale.id, units, stockDelta: 0n, lockDelta: units };
}

/** At the end of a sale, after its last purchase was settled. */
export function saleReturned(sale: { readonly id: bigint; readonly itemId: bigint }, units: bigint): StockMove {
  return { kind: 'SALE_RETURN', skuId: sale.itemId, saleId: sale.id, units, stockDelta: 0n, lockDelta: -units };
}

/** @param more units that the sale reserves in addition; negative: that it gives back */
export function saleResized(sale: { readonly id: bigint; readonly itemId: bigint }, more: bigint): StockMove {
  const units = more < 0n ? -more : more;
  return { kind: 'SALE_RESIZE', skuId: sale.itemId, saleId: sale.id, units, stockDelta: 0n, lockDelta: more };
}

/** An unpaid order takes units that its sale has reserved, or free ones if it has no sale. */
export function orderHeld(order: Holder): StockMove {
  const line = orderUnits(order);
  return { kind: 'HOLD', ...line, stockDelta: 0n, lockDelta: order.saleId === undefined ? line.units : 0n };
}

/** Paid units leave the stock for good. */
export function orderDeducted(order: Holder): StockMove {
  const line = orderUnits(order);
  return { kind: 'DEDUCT', ...line, stockDelta: -line.units, lockDelta: -line.units };
}

/** @param toSku whether the units become free: the order has no sale, or the sale has returned its unsold units */
export function orderReturned(order: Holder, toSku: boolean): StockMove {
  const line = orderUnits(order);
  return { kind: 'RETURN', ...line, stockDelta: 0n, lockDelta: toSku ? -line.units : 0n };
}

/** Units of a paid order come back by a refund. @param toSku as of `orderReturned` */
export function orderRestocked(order: Holder, refundId: bigint, toSku: boolean): StockMove {
  const line = orderUnits(order);
  return { kind: 'RESTOCK', ...line, refundId, stockDelta: line.units, lockDelta: toSku ? 0n : line.units };
}

function orderUnits({ id, skuId, saleId, quantity }: Holder) {
  if (skuId === undefined) throw new Error(`order ${id} has no sku`);
  return { skuId, orderId: id, saleId, units: BigInt(quantity) };
}
