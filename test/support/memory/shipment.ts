import { type NewShipment, type Shipment, ShipmentRepo } from '../../../internal/biz/order/shipment.js';
import type { Transaction } from '../../../internal/biz/transaction.js';
import { type MemoryStore, MemoryTable } from './store.js';

export class MemoryShipmentRepo extends ShipmentRepo {
  private readonly shipments: MemoryTable<Shipment>;

  constructor(private readonly store: MemoryStore) {
    super();
    this.shipments = new MemoryTable(store, 'shipments', (s) => String(s.orderId));
  }

  override insert(tx: Transaction, shipment: NewShipment): Promise<void> {
    return this.store.statement('shipment.insert', tx, async () => {
      await this.shipments.insert(tx, { ...shipment, shippedAt: this.store.now() });
    });
  }

  override find(orderId: bigint, tx?: Transaction): Promise<Shipment | undefined> {
    return this.store.statement('shipment.find', tx, async () => this.shipments.find(String(orderId), tx));
  }
}
