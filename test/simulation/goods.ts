import { isInvalidArgument } from '../../gen/common/v1/errors.js';
import { isOrderStatusConflict, isRefundNotPossible, isRefundStatusConflict } from '../../gen/order/v1/errors.js';
import type { World } from './world.js';

const RECEIVER = { name: 'Ann', phone: '13800000000', region: '310115', address: 'Century Avenue 1' };

/** What happens to goods that are ordered: shipped, confirmed, refunded in part or as a whole, and sent back. */
export class Goods {
  constructor(private readonly world: World) {}

  /** Several things with one order at once. */
  async act(): Promise<void> {
    const { random, orderRepo, refundRepo, shipments, receivers, refunds, refundRequests, history } = this.world;
    const goods = orderRepo.orders.rows().filter((o) => o.orderType === 'GOODS');
    if (goods.length === 0 || random.chance(0.8)) return;
    const { id: orderId, userId, skuId } = random.pick(goods);
    const refund = refundRepo.refunds.rows().find((r) => r.orderId === orderId && random.chance(0.7));
    const ask = async () => {
      const lines = skuId !== undefined && random.chance(0.5) ? [{ skuId, quantity: 1 + random.int(2) }] : [];
      const asked = await refundRequests.request({ orderId, userId, reason: 'too late', lines, requestId: '' });
      history.refunds.add(asked.id);
    };
    const ship = async () => {
      await receivers.set(orderId, userId, RECEIVER, undefined);
      await shipments.ship({ orderId, carrier: 'sim', trackingNumbers: ['1'] });
    };
    const acts: (readonly [string, () => Promise<unknown>])[] = [
      ['refund', ask],
      ['ship', ship],
      ['confirm', () => shipments.confirm(orderId, userId)],
      ['confirm overdue', () => shipments.confirmOverdue(2)],
    ];
    if (refund) {
      acts.push(
        ['approve', () => refunds.approve(refund.id)],
        ['refuse', () => refunds.refuse(refund.id, 'used')],
        ['receive', () => refunds.receiveReturn(refund.id, random.chance(0.5))],
      );
    }
    await Promise.all(Array.from({ length: 1 + random.int(3) }, () => this.attempt(...random.pick(acts))));
  }

  /** Every request is decided, and every shipped order is confirmed. */
  async finish(): Promise<void> {
    const { refundRepo, refunds, shipments } = this.world;
    for (const { id, status } of refundRepo.refunds.rows()) {
      if (status === 'REQUESTED') await this.attempt('approve', () => refunds.approve(id));
    }
    await this.attempt('confirm overdue', () => shipments.confirmOverdue(1_000));
  }

  private attempt(name: string, work: () => Promise<unknown>): Promise<unknown> {
    return this.world.faults.attempt(name, () => work().catch(unlessRefused));
  }
}

function unlessRefused(err: unknown): undefined {
  const refused = [isRefundNotPossible, isRefundStatusConflict, isOrderStatusConflict, isInvalidArgument];
  if (!refused.some((is) => is(err))) throw err;
}
