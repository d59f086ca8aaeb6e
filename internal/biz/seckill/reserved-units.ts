import { orderDeducted, orderRestocked, orderReturned, type StockRepo } from '../catalog/stock.js';
import type { Order } from '../order/order-state.js';
import { ReservedUnits } from '../order/reserved-units.js';
import type { NewOutboxRow, Outbox } from '../outbox.js';
import type { Transaction } from '../transaction.js';
import type { Sale } from './sale-state.js';
import { encodeUnitsReturn, TOPIC_SECKILL_RETURN } from './seckill-return.js';

export interface SaleUnits {
  readonly saleId: bigint;
  readonly quantity: number;
}

/** A sale after units went back to it. */
export interface SaleAfterReturn extends Pick<Sale, 'id' | 'itemId' | 'epoch' | 'status'> {
  /** Whether the sale has given up its unsold units, so that it holds none any more. */
  readonly released: boolean;
}

export abstract class SaleUnitsRepo {
  /**
   * Takes units off what the sales have sold. A sale that was released passes them on: they count as returned.
   * One statement, which locks the sales in the order of their ids.
   *
   * @returns each sale once
   * @throws where a sale has sold fewer units than that
   */
  abstract returnUnits(tx: Transaction, units: readonly SaleUnits[]): Promise<readonly SaleAfterReturn[]>;
}

/** Flash-sale orders reserve units of their sale; orders of goods reserve units of their skus. */
export class SaleReservedUnits extends ReservedUnits {
  constructor(
    private readonly sales: SaleUnitsRepo,
    private readonly stock: StockRepo,
    private readonly outbox: Outbox,
  ) {
    super();
  }

  /**
   * Returns the units to the sale. An outbox row updates admission, but only while the sale is open, because no other
   * sale
   * admits purchases. Units of goods return to the SKU instead, once the sale has released its unsold units.
   */
  override async release(tx: Transaction, orders: readonly Order[]): Promise<void> {
    await this.returnToSale(tx, orders, orderReturned);
  }

  override restock(tx: Transaction, orders: readonly Order[]): Promise<void> {
    return this.returnToSale(tx, orders, orderRestocked);
  }

  private async returnToSale(tx: Transaction, orders: readonly Order[], moveOf: typeof orderReturned): Promise<void> {
    const units = orders.flatMap(({ saleId, quantity }) => (saleId === undefined ? [] : [{ saleId, quantity }]));
    const returned = units.length === 0 ? [] : await this.sales.returnUnits(tx, units);
    const sales = new Map(returned.map((sale) => [sale.id, sale]));
    const saleOf = ({ saleId }: Order) => (saleId === undefined ? undefined : sales.get(saleId));
    const toSku = (order: Order) => order.saleId === undefined || saleOf(order)?.released === true;
    await this.stock.move(
      tx,
      orders.flatMap((order) => reservedLines(order).map((line) => moveOf(line, toSku(order)))),
    );
    await this.outbox.append(
      tx,
      orders.flatMap((order) => {
        const sale = saleOf(order);
        return sale?.status === 'OPEN' ? [returnRow(order, sale)] : [];
      }),
    );
  }

  override async consume(tx: Transaction, orders: readonly Order[]): Promise<void> {
    await this.stock.move(tx, orders.flatMap(reservedLines).map(orderDeducted));
  }
}

function reservedLines({ id, saleId, items }: Order) {
  return items.map(({ skuId, quantity }) => ({ id, saleId, skuId, quantity }));
}

function returnRow({ id: orderId, userId, quantity }: Order, { itemId, epoch }: SaleAfterReturn): NewOutboxRow {
  const payload = Buffer.from(encodeUnitsReturn({ orderId, itemId, userId, quantity, epoch }));
  return { topic: TOPIC_SECKILL_RETURN, refId: orderId, payload };
}
