import type { Transaction } from '../transaction.js';

/**
 * ADJUST: an operator adds or takes away; SALE_HOLD, SALE_RETURN: a sale takes its units out of the free stock, and
 * gives back the unsold ones at its end; HOLD, DEDUCT, RETURN: an order waits for payment, is paid, is cancelled.
 */
export type StockMoveKind = 'ADJUST' | 'SALE_HOLD' | 'SALE_RETURN' | 'HOLD' | 'DEDUCT' | 'RETURN';

/** A line of the ledger. A sku's stock and lock_stock are what its lines add up to. */
export interface StockMove {
  readonly kind: StockMoveKind;
  readonly skuId: bigint;
  readonly orderId?: bigint | undefined;
  readonly saleId?: bigint | undefined;
  readonly requestId?: string | undefined;
  readonly units: bigint;
  readonly stockDelta: bigint;
  readonly lockDelta: bigint;
  readonly reason?: string;
}

export interface StockLevel {
  /** Units that are there, the held ones included. */
  readonly stock: bigint;
  /** Units of them that sales and unpaid orders hold. */
  readonly lockStock: bigint;
  /** The sku's. */
  readonly version: bigint;
}

/** What is free of a sku, `stock - lockStock`. */
export interface FreeUnits {
  readonly skuId: bigint;
  readonly free: bigint;
  /** Counts the changes of the sku's stock: of two values the higher one is the newer. */
  readonly seq: bigint;
}

export abstract class StockRepo {
  /** The sku's level, locked until `tx` ends. */
  abstract lock(tx: Transaction, skuId: bigint): Promise<StockLevel | undefined>;
  /** What this request added to the stock before. */
  abstract findAdjustment(tx: Transaction, skuId: bigint, requestId: string): Promise<bigint | undefined>;
  /**
   * Writes the lines, and changes each sku by what they add up to, in one statement; an ADJUST counts in its version.
   * It throws where the ledger has such a line already, or less would be there than is held.
   */
  abstract move(tx: Transaction, moves: readonly StockMove[]): Promise<void>;
}

/** An order as far as it takes units of a sku. */
interface Holder {
  /** The order's. */
  readonly id: bigint;
  readonly skuId?: bigint | undefined;
  readonly saleId?: bigint | undefined;
  readonly quantity: number;
}

/*
 * A sale holds its units from its creation on, so that nobody else can take them however late they are sold. An unpaid
 * order of it therefore adds nothing to lock_stock: its units were locked before, by the sale, and are again when it is
 * cancelled. An ordinary order takes its units from the free ones: it locks them itself. Hence, per sku:
 *
 *   lock_stock = Σ over its sales (total - sold - returned) + Σ over its unpaid orders (quantity)
 */

export function saleHeld(sale: { readonly id: bigint; readonly itemId: bigint }, units: bigint): StockMove {
  return { kind: 'SALE_HOLD', skuId: sale.itemId, saleId: sale.id, units, stockDelta: 0n, lockDelta: units };
}

/** At the end of a sale, once no purchase of it is on its way any more. */
export function saleReturned(sale: { readonly id: bigint; readonly itemId: bigint }, units: bigint): StockMove {
  return { kind: 'SALE_RETURN', skuId: sale.itemId, saleId: sale.id, units, stockDelta: 0n, lockDelta: -units };
}

/** An unpaid order takes units that its sale held, or without a sale free ones. */
export function orderHeld(order: Holder): StockMove {
  const line = orderUnits(order);
  return { kind: 'HOLD', ...line, stockDelta: 0n, lockDelta: order.saleId === undefined ? line.units : 0n };
}

/** Paid units leave the stock for good. */
export function orderDeducted(order: Holder): StockMove {
  const line = orderUnits(order);
  return { kind: 'DEDUCT', ...line, stockDelta: -line.units, lockDelta: -line.units };
}

/** @param toSku whether the units go to the sku itself: without a sale, or when the sale holds nothing any more */
export function orderReturned(order: Holder, toSku: boolean): StockMove {
  const line = orderUnits(order);
  return { kind: 'RETURN', ...line, stockDelta: 0n, lockDelta: toSku ? -line.units : 0n };
}

function orderUnits({ id, skuId, saleId, quantity }: Holder) {
  if (skuId === undefined) throw new Error(`order ${id} takes units of no sku`);
  return { skuId, orderId: id, saleId, units: BigInt(quantity) };
}
