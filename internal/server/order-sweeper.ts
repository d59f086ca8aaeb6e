import type { Logger } from '../biz/logger.js';
import type { OrderUsecase } from '../biz/order.js';
import { Loop } from './loop.js';

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
