import type { Order } from '../../internal/biz/order/order-state.js';
import { KratosError } from '../../internal/kratos/errors/error.js';
import type { CouponShop, World } from './world.js';

const RECEIVER = { name: 'Ann', phone: '13800000000', region: '310115', address: 'Century Avenue 1' };
const ROUNDS = 3;
const REFUSALS: ReadonlySet<string> = new Set(['COUPON_UNAVAILABLE', 'STOCK_INSUFFICIENT', 'REQUEST_ID_REUSED']);

/** What buyers do with an order. */
export interface OrderActs {
  readonly pay: (order: Order) => Promise<void>;
  readonly cancel: (order: Order) => Promise<void>;
}

/**
 * Buyers who are granted coupons and order goods with them, often one coupon several times at once. Orders have two lines
 * and coupons are granted, because single lines and claims wait for a batch, which has no turn of its own.
 */
export class Coupons {
  private lastRequest = 0;

  constructor(
    private readonly world: World,
    private readonly shop: CouponShop,
    private readonly acts: OrderActs,
  ) {}

  async buyer(): Promise<void> {
    const { random, userCouponRepo } = this.world;
    for (let round = 0; round < ROUNDS; round++) {
      const userId = this.world.randomUser();
      await this.grant(userId);
      const mine = userCouponRepo.userCoupons.rows().filter((c) => c.userId === userId);
      const couponId = mine.length > 0 && random.chance(0.9) ? random.pick(mine).id : undefined;
      const placed = await Promise.all(Array.from({ length: 1 + random.int(3) }, () => this.order(userId, couponId)));
      await Promise.all(
        placed.map(async (order) => {
          if (!order) return;
          const does = [
            ...(random.chance(0.6) ? [this.acts.pay] : []),
            ...(random.chance(0.4) ? [this.acts.cancel] : []),
          ];
          await Promise.all(does.map((act) => act(order)));
        }),
      );
    }
  }

  private async grant(userId: string): Promise<void> {
    const { faults, userCoupons } = this.world;
    const requestId = `grant-${++this.lastRequest}`;
    const grant = () => userCoupons.grant(this.shop.couponId, [userId], requestId);
    const given = await Promise.all([1, 2].map(() => faults.insist('grant a coupon', grant)));
    for (const answer of given) if (answer instanceof KratosError && !REFUSALS.has(answer.reason)) throw answer;
  }

  private async order(userId: string, couponId: bigint | undefined): Promise<Order | undefined> {
    const { faults, goodsOrders, random } = this.world;
    const lines = random.pick(this.shop.baskets).map((skuId) => ({ skuId, quantity: 1 }));
    const requestId = `goods-${++this.lastRequest}`;
    const wanted = { userId, lines, receiver: RECEIVER, remark: '', requestId, expectedAmountFen: undefined, couponId };
    const answer = await faults.insist('order goods', () => goodsOrders.create(wanted));
    if (!(answer instanceof KratosError)) return answer;
    if (!REFUSALS.has(answer.reason)) throw answer;
    return undefined;
  }
}

/** Of a world at rest, in which no order is unpaid. */
export function couponViolations(
  world: World,
  orders: readonly Order[],
  expect: (holds: boolean, invariant: string, what: () => string) => void,
): void {
  const userCoupons = world.userCouponRepo.userCoupons.rows();
  const discounts = world.priceRuleRepo.discounts.rows();
  const byId = new Map(orders.map((o) => [o.id, o]));
  for (const { id, claimed, total } of world.couponRepo.coupons.rows()) {
    const given = userCoupons.filter((u) => u.couponId === id).length;
    expect(
      claimed === BigInt(given) && claimed <= total,
      'coupons given out',
      () => `coupon ${id} counts ${claimed} of ${total}, users have ${given}`,
    );
  }
  for (const { id, status, orderId, userId } of userCoupons) {
    const order = orderId === undefined ? undefined : byId.get(orderId);
    const isUsed = order?.paidAt !== undefined && order.status !== 'CANCELLED' && order.userId === userId;
    expect(
      status === 'UNUSED' ? orderId === undefined : status === 'USED' && isUsed,
      'coupons of orders',
      () => `coupon ${id} is ${status} by order ${orderId}, which is ${order?.status}`,
    );
  }
  for (const order of orders.filter((o) => o.orderType === 'GOODS' && o.source === 'NORMAL')) {
    const own = discounts.filter((d) => d.orderId === order.id);
    expect(
      own.reduce((sum, d) => sum + d.amountFen, 0n) === order.promotionFen,
      'discounts',
      () => `order ${order.id}: the discounts do not add up to ${order.promotionFen}`,
    );
    const couponId = own.find((d) => d.rule === 'COUPON')?.ruleId;
    const user = userCoupons.find((u) => u.id === couponId);
    expect(
      couponId === undefined || order.status === 'CANCELLED' || user?.orderId === order.id,
      'coupons of orders',
      () =>
        `order ${order.id} ${order.status} has the discount of coupon ${couponId}, which order ${user?.orderId} has`,
    );
  }
}
