import { type NewShipment, type Shipment, ShipmentRepo } from '../../biz/order/shipment.js';
import type { Transaction } from '../../biz/transaction.js';
import type { Postgres, Statement } from './postgres.js';

const INSERT: Statement = {
  name: 'shipment_insert',
  text: 'INSERT INTO shipments (order_id, carrier, tracking_numbers) VALUES ($1, $2, $3::text[])',
};

const FIND: Statement = {
  name: 'shipment_find',
  text: `SELECT order_id AS "orderId", carrier, tracking_numbers AS "trackingNumbers", shipped_at AS "shippedAt"
    FROM shipments WHERE order_id = $1`,
};

export class PgShipmentRepo extends ShipmentRepo {
  constructor(private readonly db: Postgres) {
    super();
  }

  override async insert(tx: Transaction, { orderId, carrier, trackingNumbers }: NewShipment): Promise<void> {
    await this.db.query(INSERT, [orderId, carrier, trackingNumbers], tx);
  }

  override async find(orderId: bigint, tx?: Transaction): Promise<Shipment | undefined> {
    return (await this.db.query<Shipment>(FIND, [orderId], tx)).rows[0];
  }
}
