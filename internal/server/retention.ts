import { setTimeout as sleep } from 'node:timers/promises';
import { Counter, type Registry } from 'prom-client';
import type { RetentionFailure, RetentionKind, RetentionPolicy, RetentionUsecase } from '../biz/retention/retention.js';
import type { Config } from '../conf/config.js';
import { Loop } from '../kratos/background/loop.js';
import type { Logger } from '../kratos/log/logger.js';

const IDLE_MS = 1_000;
/** Longest wait between two batches. */
const MAX_PAUSE_MS = 1_000;
/** Failures that are remembered as logged; a repair is followed by a restart or by none. */
const LOGGED_MAX = 1_000;

/** Each kind is exported as 0 before a row of it is deleted. */
const NONE: Readonly<Record<RetentionKind, 0>> = {
  ...{ outbox: 0, inbox: 0, order_events: 0, dead_letters: 0, guest_carts: 0, orders: 0 },
};

export function retentionPolicy({ retention: r, order }: Config): RetentionPolicy {
  const keepMs = {
    ...{ outbox: r.outboxMs, inbox: r.inboxMs, order_events: r.orderEventsMs, dead_letters: r.deadLettersMs },
    ...{ guest_carts: r.guestCartsMs, orders: order.archiveAfterMs },
  };
  return { intervalMs: r.intervalMs, batchSize: r.batchSize, keepMs };
}

/** Deletes old rows, in batches with a pause after each that is as long as the batch took. */
export function retention(usecase: RetentionUsecase, logger: Logger, registry: Registry): Loop {
  const log = logger.child({ server: 'retention' });
  const deletions = new Counter({
    name: 'kaimai_retention_deleted_total',
    help: 'Old rows deleted, by kind; of the kind orders: moved to the archive.',
    labelNames: ['kind'] as const,
    registers: [registry],
  });
  for (const [kind, none] of Object.entries(NONE)) deletions.inc({ kind }, none);
  const logged = new Set<string>();
  const report = ({ kind, row, cause }: RetentionFailure) => {
    const name = `${kind} ${row}`;
    if (logged.has(name) || logged.size >= LOGGED_MAX) return;
    logged.add(name);
    log.error('an old row cannot be deleted', { kind, row, err: cause });
  };
  return new Loop({
    name: 'retention',
    idleMs: IDLE_MS,
    logger: log,
    round: async (signal) => {
      const startedMs = performance.now();
      const { kind, deleted, failures } = await usecase.step();
      for (const failure of failures) report(failure);
      if (kind !== undefined) deletions.inc({ kind }, deleted);
      const pauseMs = Math.min(performance.now() - startedMs, MAX_PAUSE_MS);
      if (deleted > 0) await sleep(pauseMs, undefined, { signal }).catch(() => {});
      return { units: deleted, isolated: failures.length };
    },
  });
}
