import type { PublishStatus } from '../../biz/catalog/catalog.js';
import type { ProductStatus } from '../../biz/catalog/product.js';
import type { OrderStatus } from '../../biz/order/order-state.js';
import type { SaleStatus } from '../../biz/seckill/sale-state.js';

/*
 * The numbers by which SMALLINT columns store statuses. Statements write them into their text rather than pass them as
 * parameters, because a partial index is used only where its predicate is a constant of the statement.
 */

/** `orders.status`, `order_events.from_status` and `order_events.to_status`. */
export const ORDER_STATUS = {
  PENDING: 0,
  PAID: 1,
  CANCELLED: 2,
  COMPLETED: 3,
  SHIPPED: 4,
  REFUNDING: 5,
} as const satisfies Readonly<Record<OrderStatus, number>>;

/** The units of a row of `orders` that count as sold: towards its sale, and towards its buyer's limit. As `soldQuantity`. */
export const SOLD_QUANTITY = `coalesce(kept_quantity, CASE WHEN status = ${ORDER_STATUS.CANCELLED} THEN 0 ELSE quantity END)`;

/** `sales.status`. */
export const SALE_STATUS = { SCHEDULED: 0, OPEN: 1, CLOSED: 2 } as const satisfies Readonly<Record<SaleStatus, number>>;

/** `products.status`. */
export const PRODUCT_STATUS = { DISABLED: 0, ENABLED: 1 } as const satisfies Readonly<Record<ProductStatus, number>>;

/** `spu.publish_status`. */
export const PUBLISH_STATUS = {
  UNPUBLISHED: 0,
  PUBLISHED: 1,
} as const satisfies Readonly<Record<PublishStatus, number>>;

export const orderStatusOf = reader<OrderStatus>('orders.status', ORDER_STATUS);
export const saleStatusOf = reader<SaleStatus>('sales.status', SALE_STATUS);
export const productStatusOf = reader<ProductStatus>('products.status', PRODUCT_STATUS);
export const publishStatusOf = reader<PublishStatus>('spu.publish_status', PUBLISH_STATUS);

/** @returns a function from the stored number to the status, which throws where no status has the number */
function reader<Status extends string>(
  column: string,
  codes: Readonly<Record<Status, number>>,
): (code: number) => Status {
  const statuses = new Map(Object.entries<number>(codes).map(([status, code]) => [code, status as Status]));
  return (code) => {
    const status = statuses.get(code);
    if (status === undefined) throw new Error(`${column} has unknown value ${code}`);
    return status;
  };
}
