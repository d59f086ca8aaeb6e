import { Counter, type Registry } from 'prom-client';
import type { OutboxUsecase } from '../biz/outbox.js';
import type { Server } from '../kratos/app/server.js';
import type { BackgroundMeter } from '../kratos/background/background-meter.js';
import { RoundLoop } from '../kratos/background/round-loop.js';
import type { Logger } from '../kratos/log/logger.js';

export interface OutboxRelayOptions {
  readonly pollIntervalMs: number;
}

/** One round's claim, another's confirms and a third's marks at the same time. */
const LANES = 3;
const UNKNOWN_TOPIC_POLL_MS = 30_000;

/**
 * Takes outbox rows to where they go: one loop per topic, so that a destination that is away holds up its own topic
 * only. Any number of replicas may run it.
 */
export class OutboxRelay implements Server {
  readonly name = 'outbox_relay';
  private readonly loops: readonly RoundLoop[];
  private meter: BackgroundMeter | undefined;

  constructor(outbox: OutboxUsecase, options: OutboxRelayOptions, logger: Logger, registry: Registry) {
    const log = logger.child({ server: this.name });
    const dispatched = new Counter({
      name: 'kaimai_outbox_dispatched_total',
      help: 'Outbox rows that went through or did not, by topic.',
      labelNames: ['topic', 'outcome'] as const,
      registers: [registry],
    });
    const topics = outbox.topics.map(
      (topic) =>
        new RoundLoop(
          {
            name: `outbox topic ${topic}`,
            lanes: LANES,
            pollIntervalMs: options.pollIntervalMs,
            round: async (found) => {
              const startedAt = performance.now();
              const round = await outbox.dispatchRound(topic, found);
              this.meter?.round(round.published, performance.now() - startedAt);
              if (round.outcome === 'stalled') this.meter?.failed();
              dispatched.inc({ topic, outcome: 'published' }, round.published);
              dispatched.inc({ topic, outcome: 'failed' }, round.failed);
              if (round.outcome === 'busy' && round.failed > 0) {
                log.warn('some outbox rows did not go through', { topic, failed: round.failed, reason: round.reason });
              }
              return round;
            },
          },
          log,
        ),
    );
    const unknown = new RoundLoop(
      {
        name: 'outbox rows of unknown topics',
        lanes: 1,
        pollIntervalMs: UNKNOWN_TOPIC_POLL_MS,
        round: async () => {
          const round = await outbox.flagUnknownTopics();
          if (round.failed > 0)
            log.error('outbox rows that nobody handles', { rows: round.failed, reason: round.reason });
          return round;
        },
      },
      log,
    );
    this.loops = [...topics, unknown];
  }

  observe(meter: BackgroundMeter): void {
    this.meter = meter;
  }

  async start(): Promise<void> {
    for (const loop of this.loops) loop.start();
  }

  async stop(deadline: AbortSignal): Promise<void> {
    await Promise.all(this.loops.map((loop) => loop.stop(deadline)));
  }
}
