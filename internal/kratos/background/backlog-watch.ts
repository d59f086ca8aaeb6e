import type { Logger } from '../log/logger.js';
import type { BacklogProbe } from './background-meter.js';
import type { BackgroundMetrics } from './background-metrics.js';
import { Loop } from './loop.js';

const NAME = 'backlog_watch';
const INTERVAL_MS = 5_000;

/** Measures the backlogs of the background servers at intervals. */
export function backlogWatch(probes: readonly BacklogProbe[], metrics: BackgroundMetrics, logger: Logger): Loop {
  const watched = probes.map((probe) => ({ probe, meter: metrics.of(probe.server) }));
  const loop = new Loop({
    name: NAME,
    idleMs: INTERVAL_MS,
    logger,
    round: async () => {
      const failures: unknown[] = [];
      for (const { probe, meter } of watched) {
        try {
          const { units, oldestAgeMs } = await probe.read();
          meter.backlog(units, oldestAgeMs);
        } catch (err) {
          failures.push(err);
        }
      }
      // After the others were measured. The loop counts and logs it.
      if (failures.length > 0) throw failures[0];
      return 0;
    },
  });
  loop.observe(metrics.of(NAME));
  return loop;
}
