import type { OrderUsecase } from '../biz/order/order.js';
import { Loop } from '../kratos/background/loop.js';
import type { Logger } from '../kratos/log/logger.js';

export interface OrderSweeperOptions {
  readonly intervalMs: number;
  /** Orders of one transaction. */
  readonly batch: number;
}

/** Cancels orders whose pay deadline is over. */
export function orderSweeper(orders: OrderUsecase, options: OrderSweeperOptions, logger: Logger): Loop {
  return new Loop({
    name: 'order_sweeper',
    idleMs: options.intervalMs,
    logger,
    round: async () => {
      const cancelled = await orders.sweepOverdue(options.batch);
      if (cancelled > 0) logger.info('overdue orders cancelled', { count: cancelled });
      return cancelled;
    },
  });
}
