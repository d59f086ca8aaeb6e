import type { SaleUsecase } from '../biz/seckill/sale.js';
import { Loop } from '../kratos/background/loop.js';
import type { Logger } from '../kratos/log/logger.js';

const INTERVAL_MS = 500;

/** Opens sales at their time, closes them at their end, and makes admission's state anew where Redis has lost it. */
export function saleKeeper(sales: SaleUsecase, logger: Logger): Loop {
  return new Loop({
    name: 'sale_keeper',
    idleMs: INTERVAL_MS,
    logger,
    round: async () => {
      const { opened, closed, released, reloaded, failures } = await sales.reconcile();
      if (opened + closed > 0) logger.info('sales opened and closed by themselves', { opened, closed });
      if (released > 0) logger.info('unsold units of closed sales went back to their skus', { sales: released });
      if (reloaded > 0) logger.warn('admission had lost sales; they are loaded again', { count: reloaded });
      for (const { itemId, cause } of failures) {
        logger.error('a sale could not be kept', { itemId: String(itemId), err: cause });
      }
      // What was done needs no second look at once; what failed waits for the next round.
      return 0;
    },
  });
}
