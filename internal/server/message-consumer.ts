import { setTimeout as sleep } from 'node:timers/promises';
import { Counter, type Registry } from 'prom-client';
import { UNAVAILABLE } from '../../gen/common/v1/errors.js';
import type { Delivery, QueueConsumer, Verdict } from '../biz/message-queue.js';
import type { Server } from '../kratos/app/server.js';
import type { BackgroundMeter } from '../kratos/background/background-meter.js';
import { hasReason } from '../kratos/errors/error.js';
import type { Logger } from '../kratos/log/logger.js';

const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 5_000;
const VERDICTS: readonly Verdict[] = ['accept', 'reject'];
/** Tries at a message that fails by itself while the database is there: then it is a fault of ours, and is put aside. */
const ATTEMPTS = 5;

/** What one consumer handles, and how it is called. */
export interface MessageConsumerOptions {
  readonly name: string;
  /** Of the counter of messages, by verdict. */
  readonly counter: string;
  /** @throws UNAVAILABLE while the database is away */
  readonly handle: (deliveries: readonly Delivery[]) => Promise<readonly Verdict[]>;
}

/**
 * Takes the messages of a queue; a message is acknowledged once it is handled. While the database is away the messages stay
 * with the broker: this waits with what it holds, at most the prefetch, instead of sending it back to be delivered again and
 * again.
 */
export class MessageConsumer implements Server {
  readonly name: string;
  private readonly logger: Logger;
  private readonly messages: Counter<'verdict'>;
  private meter: BackgroundMeter | undefined;

  constructor(
    private readonly queue: QueueConsumer,
    private readonly options: MessageConsumerOptions,
    logger: Logger,
    registry: Registry,
  ) {
    this.name = options.name;
    this.logger = logger.child({ server: this.name });
    this.messages = new Counter({
      name: options.counter,
      help: 'Messages of the queue that were dealt with, by verdict.',
      labelNames: ['verdict'] as const,
      registers: [registry],
    });
    for (const verdict of VERDICTS) this.messages.inc({ verdict }, 0);
  }

  observe(meter: BackgroundMeter): void {
    this.meter = meter;
  }

  async start(): Promise<void> {
    this.queue.start(async (deliveries, signal) => {
      const startedAt = performance.now();
      const verdicts = await this.handle(deliveries, signal);
      this.meter?.round(verdicts.length, performance.now() - startedAt);
      for (const verdict of verdicts) this.messages.inc({ verdict });
      return verdicts;
    });
  }

  stop(deadline: AbortSignal): Promise<void> {
    return this.queue.stop(deadline);
  }

  private async handle(deliveries: readonly Delivery[], signal: AbortSignal): Promise<readonly Verdict[]> {
    let failures = 0;
    for (let tries = 0; ; tries++) {
      try {
        const verdicts = await this.options.handle(deliveries);
        if (tries > 0) this.logger.info('queue messages are stored again', { tries });
        return verdicts;
      } catch (err) {
        this.meter?.failed();
        if (tries === 0) this.logger.error('queue messages cannot be stored for now', { err });
        if (!hasReason(err, UNAVAILABLE)) failures++;
        if (failures > 0 && deliveries.length > 1) return this.handleEach(deliveries, signal);
        if (failures === ATTEMPTS) {
          this.logger.error('a queue message is put aside in the dead-letter queue', { err });
          return ['reject'];
        }
        await sleep(Math.min(FIRST_RETRY_MS * 2 ** Math.min(tries, 20), LAST_RETRY_MS), undefined, { signal });
      }
    }
  }

  private async handleEach(deliveries: readonly Delivery[], signal: AbortSignal): Promise<readonly Verdict[]> {
    const verdicts: Verdict[] = [];
    for (const delivery of deliveries) verdicts.push(...(await this.handle([delivery], signal)));
    return verdicts;
  }
}
