import type { OrderUsecase } from '../biz/order/order.js';
import { Loop } from '../kratos/background/loop.js';
import type { Logger } from '../kratos/log/logger.js';

export interface OrderSweeperOptions {
  readonly intervalMs: number;
  /** Orders of one round. */
  readonly batch: number;
}

/** Cancels unpaid orders past their pay deadline. */
export function orderSweeper(orders: OrderUsecase, options: OrderSweeperOptions, logger: Logger): Loop {
  return new Loop({
    name: 'order_sweeper',
    idleMs: options.intervalMs,
    logger,
    round: async () => {
      const { cancelled, failures } = await orders.sweepOverdue(options.batch);
      if (cancelled > 0) logger.info('overdue orders cancelled', { count: cancelled });
      for (const { orderId, err, first } of failures) {
        // Once: it is tried again for as long as it fails.
        if (first) logger.error('an overdue order cannot be cancelled', { orderId: String(orderId), err });
      }
      return { units: cancelled, isolated: failures.length };
    },
  });
}
