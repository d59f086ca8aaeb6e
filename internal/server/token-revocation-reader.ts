import type { TokenRevocationPolicy, TokenRevocations } from '../biz/user/token-revocation.js';
import type { Config } from '../conf/config.js';
import type { BackgroundServer } from '../kratos/background/background.js';
import { Loop } from '../kratos/background/loop.js';
import type { Logger } from '../kratos/log/logger.js';

/** The longest time that a revoked token is still accepted, while the database answers. */
const INTERVAL_MS = 1_000;

/** A revocation is known for as long as a token can be accepted after it was signed. */
export function tokenRevocationPolicy({ auth: { jwt } }: Config): TokenRevocationPolicy {
  return { lifetimeMs: jwt.lifetimeMs + jwt.clockToleranceMs };
}

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
