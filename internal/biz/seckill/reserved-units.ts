import { orderDeducted, orderRestocked, orderReturned, type StockMove, type StockRepo } from '../catalog/stock.js';
import type { Order } from '../order/order-state.js';
import { ReservedUnits, type RestockedUnits } from '../order/reserved-units.js';
import type { NewOutboxRow, Outbox } from '../outbox.js';
import type { Transaction } from '../transaction.js';
import type { Sale } from './sale-state.js';
import { encodeUnitsReturn, TOPIC_SECKILL_RETURN } from './seckill-return.js';

export interface SaleUnits {
  readonly saleId: bigint;
  readonly quantity: number;
}

/** A sale after units went back to it. */
export interface SaleAfterReturn extends Pick<Sale, 'id' | 'itemId' | 'epoch' | 'segments' | 'status'> {
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
    await this.returnToSales(
      tx,
      orders.map((order) => ({
        returnId: order.id,
        order,
        quantity: order.quantity,
        moves: (toSku) => reservedLines(order).map((line) => orderReturned(line, toSku)),
      })),
    );
  }

  override async restock(tx: Transaction, { order, refundId, quantity, lines }: RestockedUnits): Promise<void> {
    const { id, saleId } = order;
    const moves = (toSku: boolean) => lines.map((line) => orderRestocked({ id, saleId, ...line }, refundId, toSku));
    await this.returnToSales(tx, [{ returnId: refundId, order, quantity, moves }]);
  }

  override async consume(tx: Transaction, orders: readonly Order[]): Promise<void> {
    await this.stock.move(tx, orders.flatMap(reservedLines).map(orderDeducted));
  }

  private async returnToSales(tx: Transaction, returning: readonly ReturningUnits[]): Promise<void> {
    const units = returning.flatMap(({ order: { saleId }, quantity }) => {
      return saleId === undefined ? [] : [{ saleId, quantity }];
    });
    const returned = units.length === 0 ? [] : await this.sales.returnUnits(tx, units);
    const sales = new Map(returned.map((sale) => [sale.id, sale]));
    const saleOf = ({ saleId }: Order) => (saleId === undefined ? undefined : sales.get(saleId));
    const toSku = (order: Order) => order.saleId === undefined || saleOf(order)?.released === true;
    await this.stock.move(
      tx,
      returning.flatMap(({ order, moves }) => moves(toSku(order))),
    );
    await this.outbox.append(
      tx,
      returning.flatMap((r) => {
        const sale = saleOf(r.order);
        return sale?.status === 'OPEN' ? [returnRow(r, sale)] : [];
      }),
    );
  }
}

/** Units on their way back to a sale or a sku. */
interface ReturningUnits {
  /** Of the cancelled order, or of the refund: the units of one id return once. */
  readonly returnId: bigint;
  readonly order: Order;
  readonly quantity: number;
  /** @param toSku whether the units become free */
  readonly moves: (toSku: boolean) => readonly StockMove[];
}

function reservedLines({ id, saleId, items }: Order) {
  return items.map(({ skuId, quantity }) => ({ id, saleId, skuId, quantity }));
}

function returnRow(
  { returnId, order, quantity }: ReturningUnits,
  { itemId, epoch, segments }: SaleAfterReturn,
): NewOutboxRow {
  const { userId } = order;
  const payload = Buffer.from(
    encodeUnitsReturn({ returnId, itemId, userId, quantity, epoch, ...(segments > 1 && { segments }) }),
  );
  return { topic: TOPIC_SECKILL_RETURN, refId: returnId, payload };
}
