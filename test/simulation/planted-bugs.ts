import type { Sku } from '../../internal/biz/catalog/catalog.js';
import { orderReturned, type StockMove, StockRepo } from '../../internal/biz/catalog/stock.js';
import type { InstanceEvent, InstanceRequest } from '../../internal/biz/instance/instance.js';
import type { Move, NewGoodsOrder, NewOrder, Order, OrderActor } from '../../internal/biz/order/order-state.js';
import type { Payment } from '../../internal/biz/order/payment.js';
import type { PayoutOutcome, RefundOrder } from '../../internal/biz/order/payment-provider.js';
import type { Refund } from '../../internal/biz/order/refund-state.js';
import { ReservedUnits } from '../../internal/biz/order/reserved-units.js';
import { Outbox } from '../../internal/biz/outbox.js';
import type { CouponHold, UserCoupon } from '../../internal/biz/pricing/user-coupon.js';
import {
  type SaleAfterReturn,
  SaleReservedUnits,
  type SaleUnits,
  SaleUnitsRepo,
} from '../../internal/biz/seckill/reserved-units.js';
import type { Sale } from '../../internal/biz/seckill/sale-state.js';
import type { InboxRow } from '../../internal/biz/seckill/settlement-state.js';
import type { Transaction } from '../../internal/biz/transaction.js';
import { type Providing, providers } from '../../internal/kratos/app/wiring.js';
import { MemoryCatalogRepo } from '../support/memory/catalog.js';
import { MemoryCouponRepo } from '../support/memory/coupon.js';
import { MemoryInstanceRepo } from '../support/memory/instance.js';
import { MemoryOrderRepo } from '../support/memory/order.js';
import { MemoryOutbox } from '../support/memory/outbox.js';
import { MemoryPaymentRepo } from '../support/memory/payment.js';
import { MemoryPaymentProvider } from '../support/memory/payment-provider.js';
import { MemoryRefundRepo } from '../support/memory/refund.js';
import { MemorySaleUnitsRepo } from '../support/memory/sale-units.js';
import { MemorySettlementRepo } from '../support/memory/settlement.js';
import { MemoryStockRepo } from '../support/memory/stock.js';
import { MemoryStore, type MemoryTable } from '../support/memory/store.js';
import { MemoryUserCouponRepo } from '../support/memory/user-coupon.js';
import { MemoryVipLimitRepo } from '../support/memory/vip-limit.js';
import { REDIS_BUGS } from './planted-redis-bugs.js';
import type { Bugs } from './world.js';

class LocksNothing extends MemoryOrderRepo {
  override lock(tx: Transaction, id: bigint, userId: string | undefined): Promise<Order | undefined> {
    return this.find(id, userId, tx);
  }
}

class LocksAndComparesNothing extends LocksNothing {
  override compareAndSet(tx: Transaction, order: Order, move: Move): Promise<Order | undefined> {
    return this.store.statement('order.compareAndSet', tx, () => this.move(tx, order, move, false));
  }
}

class TakesOverdueOrdersOfOthers extends MemoryOrderRepo {
  override lockOverdue(tx: Transaction, limit: number): Promise<readonly Order[]> {
    return this.store.statement('order.lockOverdue', tx, async () =>
      this.orders
        .rows(tx)
        .filter((o) => o.status === 'PENDING' && (o.payDeadline?.getTime() ?? Infinity) < this.store.now().getTime())
        .slice(0, limit),
    );
  }
}

class ForgetsRequestIds extends MemoryOrderRepo {
  override insert(tx: Transaction, orders: readonly NewOrder[], actor: OrderActor): Promise<boolean> {
    const anonymous = orders.map((o) => ({ ...o, requestId: undefined }));
    return super.insert(tx, anonymous, actor);
  }
}

class FindsNoPayment extends MemoryPaymentRepo {
  override async find(): Promise<undefined> {
    return undefined;
  }
}

class IgnoresPaymentConflict extends MemoryPaymentRepo {
  override async insert(tx: Transaction, payment: Payment): Promise<boolean> {
    await super.insert(tx, payment);
    return true;
  }
}

class ForgetsRefunds extends MemoryRefundRepo {
  override async insert(): Promise<void> {}
}

class ForgetsEarlierRefunds extends MemoryRefundRepo {
  override async listOfOrder(): Promise<readonly Refund[]> {
    return [];
  }
}

/** Takes an order whose refund is under way for one that is not refunded. */
class IgnoresRefundsUnderWay extends MemoryOrderRepo {
  constructor(
    store: MemoryStore,
    private readonly as: 'PAID' | 'SHIPPED',
  ) {
    super(store);
  }

  override async lock(tx: Transaction, id: bigint, userId: string | undefined): Promise<Order | undefined> {
    const order = await super.lock(tx, id, userId);
    return order?.status === 'REFUNDING' && order.orderType === 'GOODS' ? { ...order, status: this.as } : order;
  }

  override compareAndSet(tx: Transaction, order: Order, move: Move): Promise<Order | undefined> {
    return this.store.statement('order.compareAndSet', tx, () => this.move(tx, order, move, false));
  }
}

class IgnoresRequestConflict extends MemoryInstanceRepo {
  override async insertRequests(
    tx: Transaction,
    events: readonly InstanceEvent[],
  ): Promise<readonly InstanceRequest[]> {
    const stored = await super.insertRequests(tx, events);
    for (const [i, event] of events.entries()) {
      if (stored[i]?.instanceId !== event.instanceId) await this.appendEvent(tx, event);
    }
    return stored.map((s, i) => ({ ...s, instanceId: events[i]?.instanceId ?? s.instanceId }));
  }
}

class AppendsNoEvents extends MemoryInstanceRepo {
  protected override async appendEvent(): Promise<void> {}
}

class NeverMarks extends MemoryOutbox {
  override async markPublished(): Promise<void> {}
}

class KeepsUnits extends SaleReservedUnits {
  override async release(): Promise<void> {}
}

class KeepsPaidUnits extends SaleReservedUnits {
  override async consume(): Promise<void> {}
}

class ReturnsToSkuOnly extends SaleReservedUnits {
  constructor(
    sales: SaleUnitsRepo,
    private readonly ledger: StockRepo,
    outbox: Outbox,
  ) {
    super(sales, ledger, outbox);
  }

  override async release(tx: Transaction, orders: readonly Order[]): Promise<void> {
    await super.release(
      tx,
      orders.filter((o) => o.orderType !== 'GOODS'),
    );
    const goods = orders.filter((o) => o.orderType === 'GOODS');
    await this.ledger.move(
      tx,
      goods.map((o) => orderReturned(o, true)),
    );
  }
}

class ForgetsWhereUnitsWent extends MemorySaleUnitsRepo {
  override async returnUnits(tx: Transaction, units: readonly SaleUnits[]): Promise<readonly SaleAfterReturn[]> {
    for (const { saleId } of units) await this.sales.update(tx, String(saleId), (s) => ({ ...s, released: false }));
    return super.returnUnits(tx, units);
  }
}

class SellsWhatWentBack extends MemorySettlementRepo {
  override async lock(tx: Transaction, itemId: bigint, epoch: bigint | undefined): Promise<readonly Sale[]> {
    return (await super.lock(tx, itemId, epoch)).map((sale) => ({ ...sale, returned: 0n }));
  }
}

class WritesNoLedger extends MemoryStockRepo {
  override move(tx: Transaction, moves: readonly StockMove[]): Promise<void> {
    return this.store.statement('stock.move', tx, async () => {
      for (const move of moves) await this.change(tx, move);
    });
  }
}

class SkipsInbox extends MemorySettlementRepo {
  override async findRows(): Promise<readonly InboxRow[]> {
    return [];
  }
}

class CountsNoHoldings extends MemorySettlementRepo {
  override async findHoldings(): Promise<readonly []> {
    return [];
  }
}

class ForgetsSold extends MemorySettlementRepo {
  override async addSold(): Promise<void> {}
}

class ReturnsUnitsTwice extends SaleReservedUnits {
  override async release(tx: Transaction, orders: readonly Order[]): Promise<void> {
    await super.release(tx, orders);
    await super.release(tx, orders);
  }
}

class NeverRestocks extends SaleReservedUnits {
  override async restock(): Promise<void> {}
}

class LosesUnpaidGoods extends MemoryOrderRepo {
  override insertGoods(tx: Transaction, orders: readonly NewGoodsOrder[], actor: OrderActor): Promise<boolean> {
    return super.insertGoods(
      tx,
      orders.filter((o) => o.status !== 'PENDING'),
      actor,
    );
  }
}

class HoldsNothing extends MemoryStockRepo {
  override move(tx: Transaction, moves: readonly StockMove[]): Promise<void> {
    return super.move(
      tx,
      moves.filter((m) => m.kind !== 'HOLD'),
    );
  }
}

class PaysEachAttempt extends MemoryPaymentProvider {
  override refund(order: RefundOrder): Promise<PayoutOutcome> {
    return super.refund({ ...order, refundId: order.refundId * 1_000n + BigInt(this.calls) });
  }
}

class KeepsCouponsHeld extends MemoryUserCouponRepo {
  override async release(): Promise<void> {}
}

class NeverUsesCoupons extends MemoryUserCouponRepo {
  override async use(): Promise<void> {}
}

class NeverRestoresCoupons extends MemoryUserCouponRepo {
  override async restore(): Promise<void> {}
}

class HoldsCouponsUnlocked extends MemoryUserCouponRepo {
  override lockAll(_tx: Transaction, ids: readonly bigint[]): Promise<readonly UserCoupon[]> {
    return this.findAll(ids);
  }

  override hold(tx: Transaction, holds: readonly CouponHold[]): Promise<void> {
    return this.store.statement('user_coupon.hold', tx, async () => {
      for (const { id, orderId } of holds) {
        await this.userCoupons.update(tx, String(id), (u) => ({ ...u, status: 'HELD', orderId }));
      }
    });
  }
}

class CountsNoClaims extends MemoryCouponRepo {
  override async addClaimed(): Promise<void> {}
}

const instead = (declare: (providing: Providing) => void): Bugs => ({ replacements: providers(declare) });
const inOrders = (bug: new (store: MemoryStore) => MemoryOrderRepo) =>
  instead(({ implement }) => implement(MemoryOrderRepo, bug, [MemoryStore]));
const inPayments = (bug: new (store: MemoryStore) => MemoryPaymentRepo) =>
  instead(({ implement }) => implement(MemoryPaymentRepo, bug, [MemoryStore]));
const inInstances = (bug: new (store: MemoryStore, outbox: MemoryOutbox) => MemoryInstanceRepo) =>
  instead(({ implement }) => implement(MemoryInstanceRepo, bug, [MemoryStore, MemoryOutbox]));
const inOutbox = (bug: new (store: MemoryStore) => MemoryOutbox) =>
  instead(({ implement }) => implement(MemoryOutbox, bug, [MemoryStore]));
const inReservedUnits = (bug: new (sales: SaleUnitsRepo, stock: StockRepo, outbox: Outbox) => ReservedUnits) =>
  instead(({ implement }) => implement(ReservedUnits, bug, [SaleUnitsRepo, StockRepo, Outbox]));
const inUserCoupons = (bug: new (store: MemoryStore, coupons: MemoryCouponRepo) => MemoryUserCouponRepo) =>
  instead(({ implement }) => implement(MemoryUserCouponRepo, bug, [MemoryStore, MemoryCouponRepo]));
const inSaleUnits = (bug: new (store: MemoryStore) => MemorySaleUnitsRepo) =>
  instead(({ implement }) => implement(MemorySaleUnitsRepo, bug, [MemoryStore]));
const inStock = (bug: new (store: MemoryStore, skus: MemoryTable<Sku>) => MemoryStockRepo) =>
  instead(({ create }) =>
    create(MemoryStockRepo, [MemoryStore, MemoryCatalogRepo], (store, catalog) => new bug(store, catalog.skus)),
  );
const inSettlements = (
  bug: new (
    store: MemoryStore,
    orders: MemoryOrderRepo,
    saleUnits: MemorySaleUnitsRepo,
    vipLimits: MemoryVipLimitRepo,
  ) => MemorySettlementRepo,
) =>
  instead(({ implement }) =>
    implement(MemorySettlementRepo, bug, [MemoryStore, MemoryOrderRepo, MemorySaleUnitsRepo, MemoryVipLimitRepo]),
  );

/** Mistakes that a change could make, each as small as it would be, by the name of its test. */
export const PLANTED_BUGS: Readonly<Record<string, Bugs>> = {
  'the lock of an order does not lock': inOrders(LocksNothing),
  'an order changes its status without lock and compare-and-set': inOrders(LocksAndComparesNothing),
  'the sweeper takes orders that another transaction has locked': inOrders(TakesOverdueOrdersOfOthers),
  'request ids are not stored': inOrders(ForgetsRequestIds),
  'a payment is applied without looking for an earlier one': inPayments(FindsNoPayment),
  'the unique-key conflict of a payment is ignored': inPayments(IgnoresPaymentConflict),
  'a refund is not stored': instead(({ implement }) =>
    implement(MemoryRefundRepo, ForgetsRefunds, [MemoryStore, MemoryPaymentRepo, MemoryOrderRepo]),
  ),
  'the unique-key conflict of an instance request is ignored': inInstances(IgnoresRequestConflict),
  'an instance request is stored without its event': inInstances(AppendsNoEvents),
  'published outbox rows are not marked': inOutbox(NeverMarks),
  'outbox rows are marked before they are published': { relayMarksFirst: true },
  'a message is acknowledged before it is stored': { consumerAcksFirst: true },
  'an entry is deleted before its order is committed': { entriesLeaveFirst: true },
  'a cancelled order does not release its units': inReservedUnits(KeepsUnits),
  'paid goods are not consumed from the stock': inReservedUnits(KeepsPaidUnits),
  'unpaid goods return to the SKU although their sale is open': inReservedUnits(ReturnsToSkuOnly),
  'unpaid goods return to a sale that is closed': inSaleUnits(ForgetsWhereUnitsWent),
  'units that a sale returned are sold again': inSettlements(SellsWhatWentBack),
  'stock changes without a ledger row': inStock(WritesNoLedger),
  'the inbox is not read': inSettlements(SkipsInbox),
  'a user’s earlier purchases do not count against the limit': inSettlements(CountsNoHoldings),
  'sold units are not counted': inSettlements(ForgetsSold),
  'the units of a cancelled order return twice': inReservedUnits(ReturnsUnitsTwice),
  'a refunded order does not restock its units': inReservedUnits(NeverRestocks),
  'units are held for an order that is not stored': inOrders(LosesUnpaidGoods),
  'an order of goods holds no units': inStock(HoldsNothing),
  'an order is shipped although its refund is under way': instead(({ create }) =>
    create(MemoryOrderRepo, [MemoryStore], (store) => new IgnoresRefundsUnderWay(store, 'PAID')),
  ),
  'an order is confirmed although its refund is under way': instead(({ create }) =>
    create(MemoryOrderRepo, [MemoryStore], (store) => new IgnoresRefundsUnderWay(store, 'SHIPPED')),
  ),
  'the units of a line are refunded twice': instead(({ implement }) =>
    implement(MemoryRefundRepo, ForgetsEarlierRefunds, [MemoryStore, MemoryPaymentRepo, MemoryOrderRepo]),
  ),
  'each attempt of a payout has a key of its own': { provider: PaysEachAttempt },
  'a cancelled order does not release its coupon': inUserCoupons(KeepsCouponsHeld),
  'a paid order does not use its coupon': inUserCoupons(NeverUsesCoupons),
  'a refunded order does not restore its coupon': inUserCoupons(NeverRestoresCoupons),
  'an order takes a coupon without lock and compare-and-set': inUserCoupons(HoldsCouponsUnlocked),
  'coupons that are given out are not counted': instead(({ implement }) =>
    implement(MemoryCouponRepo, CountsNoClaims, [MemoryStore]),
  ),
  ...REDIS_BUGS,
};
