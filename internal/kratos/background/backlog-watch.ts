import type { Logger } from '../log/logger.js';
import type { BacklogProbe } from './background-meter.js';
import type { BackgroundMetrics } from './background-metrics.js';
import { Loop } from './loop.js';

const INTERVAL_MS = 5_000;

/** Measures the backlogs of the background servers at intervals. */
export function backlogWatch(probes: readonly BacklogProbe[], metrics: BackgroundMetrics, logger: Logger): Loop {
  const watched = probes.map((probe) => ({ probe, meter: metrics.of(probe.server) }));
  return new Loop({
    name: 'backlog_watch',
    idleMs: INTERVAL_MS,
    logger,
    round: async () => {
      for (const { probe, meter } of watched) {
        const { units, oldestAgeMs } = await probe.read();
        meter.backlog(units, oldestAgeMs);
      }
      return 0;
    },
  });
}
