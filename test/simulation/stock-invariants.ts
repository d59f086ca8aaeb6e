import type { StockMove } from '../../internal/biz/catalog/stock.js';
import { type Order, REFUNDED, soldQuantity } from '../../internal/biz/order/order-state.js';
import type { World } from './world.js';

/** Cancelled before it was paid. */
function isUnpaid({ status, closeReason }: Order): boolean {
  return status === 'CANCELLED' && closeReason !== REFUNDED;
}

/** Units of an order's refunds that are on sale again: those that never left, and those that came back in order. */
function restockedUnits(world: World, { id, quantity }: Order): number {
  const granted = world.refundRepo.refunds
    .rows()
    .filter((r) => r.orderId === id && r.kind !== 'PAYMENT' && r.status !== 'REFUSED');
  const ofLines = ({ lines }: { readonly lines: readonly { readonly quantity: number }[] }) =>
    lines.reduce((sum, line) => sum + line.quantity, 0);
  const inPart = granted.filter((r) => r.kind === 'LINES').reduce((sum, r) => sum + ofLines(r), 0);
  return granted
    .filter((r) => (r.orderStatus === 'PAID' ? r.status === 'DONE' : r.restocked))
    .reduce((sum, r) => sum + (r.kind === 'LINES' ? ofLines(r) : quantity - inPart), 0);
}

/** A line of an order, with the units of it that are on sale again. An ordinary order is only refunded as a whole. */
function lineOf(world: World, order: Order, skuId: bigint) {
  const line = order.items.find((i) => i.skuId === skuId);
  if (!line) return [];
  const units = line.quantity;
  const restocked = restockedUnits(world, order);
  return [{ order, units, restocked: order.source === 'NORMAL' && restocked > 0 ? units : restocked }];
}

/** A SKU equals the sums of its ledger, and each reserved unit belongs to a sale or an order. */
export function stockViolations(
  world: World,
  orders: readonly Order[],
  expect: (holds: boolean, invariant: string, what: () => string) => void,
): void {
  const moves = world.stockRepo.moves.rows();
  const items = world.orderRepo.items.rows();
  const sum = (numbers: readonly bigint[]) => numbers.reduce((a, b) => a + b, 0n);
  for (const sku of world.catalogRepo.skus.rows()) {
    const ofSku = moves.filter((m) => m.skuId === sku.id);
    const ledger = [sum(ofSku.map((m) => m.stockDelta)), sum(ofSku.map((m) => m.lockDelta))];
    const goods = orders.flatMap((order) => lineOf(world, order, sku.id));
    const sales = world.saleUnits.sales.rows().filter((s) => s.itemId === sku.id);
    const unpaid = goods.filter(({ order }) => order.status === 'PENDING').map(({ units }) => BigInt(units));
    const held = sum(sales.map((s) => s.total - s.sold - s.returned)) + sum(unpaid);
    const deducted = goods.filter(({ order }) => order.status !== 'PENDING' && !isUnpaid(order));
    const gone = sum(deducted.map(({ units, restocked }) => BigInt(units - restocked)));
    const there = sum(ofSku.filter((m) => m.kind === 'ADJUST').map((m) => m.stockDelta)) - gone;
    expect(
      sku.stock === ledger[0] && sku.lockStock === ledger[1] && sku.lockStock === held && sku.stock === there,
      'stock ledger',
      () => `sku ${sku.id}: ${sku.stock}/${sku.lockStock}, ledger ${ledger.join('/')}, expected ${there}/${held}`,
    );
    expect(
      0n <= sku.lockStock && sku.lockStock <= sku.stock,
      'stock ledger',
      () => `sku ${sku.id} reserves more than it has`,
    );
    for (const { order, units, restocked } of goods) {
      const lines = ofSku.filter((m) => m.orderId === order.id);
      const moved = (kind: StockMove['kind']) => Number(sum(lines.filter((m) => m.kind === kind).map((m) => m.units)));
      const isPaid = !isUnpaid(order);
      const wanted = [isPaid ? units : 0, isPaid ? 0 : units, restocked];
      expect(
        [moved('DEDUCT'), moved('RETURN'), moved('RESTOCK')].join() === wanted.join(),
        'stock ledger',
        () => `order ${order.id} ${order.status}: ${lines.map((m) => `${m.units} ${m.kind}`).join(', ')}`,
      );
      const hasHeld = [0, units].includes(moved('HOLD')) && (isPaid || moved('HOLD') === units);
      expect(hasHeld, 'stock ledger', () => `order ${order.id} ${order.status} held ${moved('HOLD')} units`);
      expect(
        soldQuantity(order) === (isPaid ? order.quantity - restockedUnits(world, order) : 0),
        'stock ledger',
        () => `order ${order.id} counts ${soldQuantity(order)} units as sold`,
      );
      const stored = items.filter((i) => i.orderId === order.id);
      expect(
        stored.length === order.items.length && stored.some((i) => i.skuId === sku.id && i.quantity === units),
        'stock ledger',
        () => `order ${order.id} has ${stored.length} lines`,
      );
      const linesFen = sum(order.items.map((i) => i.priceFen * BigInt(i.quantity) - i.promotionFen));
      expect(order.amountFen === linesFen + order.freightFen, 'stock ledger', () => `order ${order.id}: amount`);
    }
  }
}
