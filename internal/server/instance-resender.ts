import type { InstanceResendUsecase } from '../biz/instance/instance-resend.js';
import { Loop } from '../kratos/background/loop.js';
import type { Logger } from '../kratos/log/logger.js';

const INTERVAL_MS = 30_000;

/** Sends instance requests again whose message was lost between the outbox and the resource domain. */
export function instanceResender(requests: InstanceResendUsecase, logger: Logger): Loop {
  return new Loop({
    name: 'instance_resender',
    idleMs: INTERVAL_MS,
    logger,
    round: async () => {
      const count = await requests.resendLost();
      if (count > 0) logger.warn('instance requests without a result are sent again', { count });
      return count;
    },
  });
}
