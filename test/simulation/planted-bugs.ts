import { orderReturned, type StockMove, type StockRepo } from '../../internal/biz/catalog/stock.js';
import type { InstanceEvent, InstanceRequest } from '../../internal/biz/instance/instance.js';
import type { Move, NewOrder, Order, OrderActor } from '../../internal/biz/order/order-state.js';
import type { Payment } from '../../internal/biz/order/payment.js';
import type { Outbox } from '../../internal/biz/outbox.js';
import {
  type SaleAfterReturn,
  SaleReservedUnits,
  type SaleUnits,
  type SaleUnitsRepo,
} from '../../internal/biz/seckill/reserved-units.js';
import type { Sale } from '../../internal/biz/seckill/sale-state.js';
import type { InboxRow } from '../../internal/biz/seckill/settlement-state.js';
import type { Transaction } from '../../internal/biz/transaction.js';
import { MemoryInstanceRepo } from '../support/memory/instance.js';
import { MemoryOrderRepo } from '../support/memory/order.js';
import { MemoryOutbox } from '../support/memory/outbox.js';
import { MemoryPaymentRepo } from '../support/memory/payment.js';
import { MemorySaleUnitsRepo } from '../support/memory/sale-units.js';
import { MemorySettlementRepo } from '../support/memory/settlement.js';
import { MemoryStockRepo } from '../support/memory/stock.js';
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

class ForgetsRefunds extends MemoryPaymentRepo {
  override async insertRefund(): Promise<void> {}
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

/** What somebody might get wrong, each as small as it would happen. */
export const PLANTED_BUGS: Readonly<Record<string, Bugs>> = {
  'the lock on an order locks nothing': { orders: LocksNothing },
  'an order moves without lock and compare-and-set': { orders: LocksAndComparesNothing },
  'the sweeper takes orders that others hold': { orders: TakesOverdueOrdersOfOthers },
  'request ids are not stored': { orders: ForgetsRequestIds },
  'a payment is not looked up before it is taken': { payments: FindsNoPayment },
  'the conflict of a payment is ignored': { payments: IgnoresPaymentConflict },
  'a refund is not written': { payments: ForgetsRefunds },
  'the conflict of an instance request is ignored': { instances: IgnoresRequestConflict },
  'an instance is asked for without its event': { instances: AppendsNoEvents },
  'published rows are not marked': { outbox: NeverMarks },
  'rows are marked before they are published': { relayMarksFirst: true },
  'a message is acknowledged before it is recorded': { consumerAcksFirst: true },
  'an entry leaves the stream before its order is committed': { entriesLeaveFirst: true },
  'a cancelled order keeps its units': { reserved: KeepsUnits },
  'paid goods stay in the stock': { reserved: KeepsPaidUnits },
  'unpaid goods go back past their sale': { reserved: ReturnsToSkuOnly },
  'goods that nobody paid for go back to a sale that is over': { saleUnits: ForgetsWhereUnitsWent },
  'what a sale gave back is sold all the same': { settlements: SellsWhatWentBack },
  'stock moves without its ledger': { stock: WritesNoLedger },
  'the inbox is not asked': { settlements: SkipsInbox },
  'a user’s earlier units are not counted': { settlements: CountsNoHoldings },
  'sold units are not counted': { settlements: ForgetsSold },
};
