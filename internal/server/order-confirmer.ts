import type { ShipmentUsecase } from '../biz/order/shipment.js';
import { Loop } from '../kratos/background/loop.js';
import type { Logger } from '../kratos/log/logger.js';

export interface OrderConfirmerOptions {
  readonly intervalMs: number;
  /** Orders of one round. */
  readonly batch: number;
}

/** Confirms the receipt of shipped orders past their confirm deadline. */
export function orderConfirmer(shipments: ShipmentUsecase, options: OrderConfirmerOptions, logger: Logger): Loop {
  return new Loop({
    name: 'order_confirmer',
    idleMs: options.intervalMs,
    logger,
    round: async () => {
      const { moved, failures } = await shipments.confirmOverdue(options.batch);
      if (moved > 0) logger.info('receipts confirmed automatically', { count: moved });
      for (const { orderId, err, first } of failures) {
        // Once: it is tried again for as long as it fails.
        if (first) logger.error('an order cannot be confirmed automatically', { orderId: String(orderId), err });
      }
      return { units: moved, isolated: failures.length };
    },
  });
}
