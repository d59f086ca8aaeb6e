import { Counter, type Registry } from 'prom-client';
import type { OutboxBatch, OutboxUsecase } from '../biz/outbox.js';
import type { BackgroundServer } from '../kratos/background/background.js';
import type { BackgroundMeter } from '../kratos/background/background-meter.js';
import { type JobOutcome, Loop } from '../kratos/background/loop.js';
import type { Logger } from '../kratos/log/logger.js';

export interface OutboxRelayOptions {
  readonly pollIntervalMs: number;
}

/** Lets one batch be claimed while another waits for its confirms and a third is marked. */
const LANES = 3;
const UNKNOWN_TOPIC_POLL_MS = 30_000;

/**
 * Dispatches outbox rows: one loop for each topic, so that a destination that cannot be reached delays its own topic
 * only. Any number of replicas may run it.
 */
export class OutboxRelay implements BackgroundServer {
  readonly name = 'outbox_relay';
  private readonly topics: readonly Loop<OutboxBatch>[];
  private readonly unknownTopics: Loop;

  constructor(outbox: OutboxUsecase, options: OutboxRelayOptions, logger: Logger, registry: Registry) {
    const log = logger.child({ server: this.name });
    const dispatched = new Counter({
      name: 'kaimai_outbox_dispatched_total',
      help: 'Outbox rows that were published or failed, by topic.',
      labelNames: ['topic', 'outcome'] as const,
      registers: [registry],
    });
    for (const topic of outbox.topics)
      for (const outcome of ['published', 'failed']) dispatched.inc({ topic, outcome }, 0);
    this.topics = outbox.topics.map(
      (topic) =>
        new Loop({
          name: `outbox topic ${topic}`,
          lanes: LANES,
          idleMs: options.pollIntervalMs,
          logger: log,
          claim: () => outbox.claim(topic),
          suggestsMore: (batch) => batch.full,
          run: async (batch): Promise<JobOutcome> => {
            const { published, failed, isolated, reason = '' } = await outbox.dispatch(batch);
            dispatched.inc({ topic, outcome: 'published' }, published);
            dispatched.inc({ topic, outcome: 'failed' }, failed);
            // Rows that fail on their own back off, so the loop goes on with the next ones.
            if (published === 0 && isolated === 0) return { kind: 'stalled', reason };
            if (failed > 0) log.warn('outbox rows could not be published', { topic, failed, reason });
            return { kind: 'done', units: published, isolated };
          },
        }),
    );
    this.unknownTopics = new Loop({
      name: 'outbox rows of unknown topics',
      idleMs: UNKNOWN_TOPIC_POLL_MS,
      logger: log,
      round: async () => {
        const { failed, reason } = await outbox.flagUnknownTopics();
        if (failed > 0) log.error('outbox rows have a topic without a handler', { rows: failed, reason });
        return { units: 0, isolated: failed };
      },
    });
  }

  observe(meter: BackgroundMeter): void {
    for (const loop of this.loops) loop.observe(meter);
  }

  async start(): Promise<void> {
    for (const loop of this.loops) await loop.start();
  }

  /** There are new rows: look now instead of at the next poll. */
  wake(): void {
    for (const loop of this.topics) loop.wake();
  }

  async stop(deadline: AbortSignal): Promise<void> {
    await Promise.all(this.loops.map((loop) => loop.stop(deadline)));
  }

  private get loops(): readonly (Loop<OutboxBatch> | Loop)[] {
    return [...this.topics, this.unknownTopics];
  }
}
