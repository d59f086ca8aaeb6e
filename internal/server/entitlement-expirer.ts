import type { EntitlementUsecase } from '../biz/entitlement/entitlement.js';
import { Loop } from '../kratos/background/loop.js';
import type { Logger } from '../kratos/log/logger.js';

export interface EntitlementExpirerOptions {
  readonly intervalMs: number;
}

/**
 * Marks entitlements whose end has passed as EXPIRED, a batch in a transaction. It decides about no access: checks compare
 * the time themselves.
 */
export function entitlementExpirer(
  entitlements: EntitlementUsecase,
  { intervalMs }: EntitlementExpirerOptions,
  logger: Logger,
): Loop {
  return new Loop({
    name: 'entitlement_expirer',
    idleMs: intervalMs,
    logger,
    round: async () => {
      const { expired, full } = await entitlements.expire();
      if (expired > 0) logger.info('entitlements expired', { count: expired });
      return { units: expired, again: full };
    },
  });
}
