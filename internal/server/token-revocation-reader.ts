import type { TokenRevocations } from '../biz/user/token-revocation.js';
import type { BackgroundServer } from '../kratos/background/background.js';
import { Loop } from '../kratos/background/loop.js';
import type { Logger } from '../kratos/log/logger.js';

/** The longest time that a revoked token is still accepted, while the database answers. */
const INTERVAL_MS = 1_000;

/** @param enabled whether calls are authenticated by tokens */
export function tokenRevocationReader(
  revocations: TokenRevocations,
  enabled: boolean,
  logger: Logger,
): BackgroundServer {
  const loop = new Loop({
    name: 'token_revocation_reader',
    idleMs: INTERVAL_MS,
    logger,
    round: async () => {
      if (enabled) await revocations.refresh();
      return 0;
    },
  });
  return {
    name: loop.name,
    observe: (meter) => loop.observe(meter),
    start: async () => {
      // So that the first calls find them. If the database is away, the loop tries again.
      if (enabled) await revocations.refresh().catch(() => undefined);
      await loop.start();
    },
    stop: (deadline) => loop.stop(deadline),
  };
}
