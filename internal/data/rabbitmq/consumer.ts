import type { Channel, ConsumeMessage } from 'amqplib';
import { type Delivery, type DeliveryHandler, QueueConsumer, type Verdict } from '../../biz/message-queue.js';
import type { Backlog } from '../../kratos/background/background-meter.js';
import type { Logger } from '../../kratos/log/logger.js';
import { Metrics } from '../../kratos/metrics/metrics.js';
import { connectionLosses, declareQueue, RabbitLink, type RabbitOptions } from './rabbitmq.js';

export interface RabbitConsumerOptions extends RabbitOptions {
  /** Maximum number of unacknowledged messages, and so of a batch. */
  readonly prefetch: number;
}

/** A channel and its subscriptions, which end with it. Its unacknowledged messages are delivered again on the next one. */
interface Session {
  readonly channel: Channel;
  readonly over: AbortController;
  readonly arrived: ConsumeMessage[];
  /** Most messages that are unacknowledged: the sum over its subscriptions. */
  prefetch: number;
  /** While a subscription is being added. */
  widening: boolean;
}

/**
 * Delivers all messages that have arrived while the last batch was handled: single ones at low load, many at high load. It
 * never waits for a batch to fill.
 *
 * A new channel takes one redelivered message, then two, then four, and so on up to `prefetch`; all of it at once when a message
 * comes that no consumer had before. A message that kills its consumer is soon the first and alone with it, and reaches the
 * delivery limit of a quorum queue alone: all that are unacknowledged with it would go to the dead-letter queue too.
 * Taking every redelivered message alone was 3 times as slow after a restart of RabbitMQ, which redelivers the whole queue.
 *
 * It takes more by one more subscription on the channel. Replacing the subscription returned messages that were on their way to
 * the one before it: they came nearer to the delivery limit without having been seen.
 */
export class RabbitConsumer extends QueueConsumer {
  private readonly link: RabbitLink;
  private handle: DeliveryHandler | undefined;
  private session: Session | undefined;
  private working: Promise<void> | undefined;
  private stopping = false;
  private workingSinceMs: number | undefined;

  constructor(
    private readonly options: RabbitConsumerOptions,
    private readonly logger: Logger,
    metrics: Metrics = new Metrics(),
  ) {
    super();
    this.link = new RabbitLink(options, logger, connectionLosses(metrics, 'consumer', options), async (model) => {
      await declareQueue(model, options, logger);
      const channel = await model.createChannel();
      const session: Session = {
        channel,
        over: new AbortController(),
        arrived: [],
        prefetch: 0,
        widening: false,
      };
      channel.on('error', (err) => logger.error('RabbitMQ closed the consumer channel', { err }));
      channel.on('close', () => this.ended(session));
      await this.subscribe(session, 1);
      this.session = session;
    });
  }

  override get queue(): string {
    return this.options.queue;
  }

  override start(handle: DeliveryHandler): void {
    this.handle = handle;
    this.link.open().catch((err: unknown) => this.logger.error('the RabbitMQ URL cannot be used', { err }));
  }

  override async stop(deadline: AbortSignal): Promise<void> {
    this.stopping = true;
    const { session } = this;
    // Closing the connection returns the messages that were not handed to the handler yet.
    if (session) session.arrived.length = 0;
    let giveUp: () => void = () => {};
    const gaveUp = new Promise<void>((resolve) => {
      giveUp = () => {
        session?.over.abort();
        resolve();
      };
    });
    if (deadline.aborted) giveUp();
    deadline.addEventListener('abort', giveUp);
    await Promise.race([this.working, gaveUp]);
    deadline.removeEventListener('abort', giveUp);
    await this.link.close(session?.channel);
  }

  ping(): Promise<void> {
    return this.link.ping();
  }

  /** Messages in the queue and in the current batch. The age is that of the batch, since a queue does not report one. */
  async backlog(): Promise<Backlog> {
    const { session } = this;
    if (!session) return { units: 0, oldestAgeMs: 0 };
    const { messageCount } = await session.channel.checkQueue(this.options.queue);
    const oldestAgeMs = this.workingSinceMs === undefined ? 0 : performance.now() - this.workingSinceMs;
    return { units: messageCount + session.arrived.length, oldestAgeMs };
  }

  /** @param more messages than the channel takes so far */
  private async subscribe(session: Session, more: number): Promise<void> {
    session.prefetch += more;
    // Of the next subscription alone: quorum queues know no limit of a whole channel.
    await session.channel.prefetch(more);
    await session.channel.consume(this.options.queue, (message) => this.take(session, message));
  }

  private async widen(session: Session, prefetch: number): Promise<void> {
    const more = prefetch - session.prefetch;
    if (session.widening || more <= 0) return;
    session.widening = true;
    try {
      await this.subscribe(session, more);
    } catch (err) {
      if (session.over.signal.aborted || this.stopping) return;
      this.logger.error('RabbitMQ took no subscription', { err });
      this.link.drop('the subscription failed');
    } finally {
      session.widening = false;
    }
  }

  private take(session: Session, message: ConsumeMessage | null): void {
    if (message === null) {
      this.logger.error('RabbitMQ ended the subscription: the queue was deleted', { queue: this.options.queue });
      this.link.drop('the subscription was ended');
      return;
    }
    if (this.stopping) return;
    if (!message.fields.redelivered) void this.widen(session, this.options.prefetch);
    session.arrived.push(message);
    this.work(session);
  }

  private work(session: Session): void {
    if (this.working) return;
    this.working = this.drain(session).finally(() => {
      this.working = undefined;
      this.workingSinceMs = undefined;
      const next = this.session;
      if (next && next.arrived.length > 0 && !this.stopping) this.work(next);
    });
  }

  private async drain(session: Session): Promise<void> {
    // Messages of the same read of the socket join the batch.
    await new Promise(setImmediate);
    while (session.arrived.length > 0 && !session.over.signal.aborted) {
      const batch = session.arrived.splice(0);
      this.workingSinceMs = performance.now();
      try {
        const verdicts = await this.handle!(batch.map(deliveryOf), session.over.signal);
        if (session.over.signal.aborted) return;
        settle(session.channel, batch, verdicts);
        void this.widen(session, Math.min(2 * session.prefetch, this.options.prefetch));
      } catch (err) {
        if (session.over.signal.aborted) return;
        this.logger.error('messages could not be handled and will be redelivered', { err, messages: batch.length });
        this.link.drop('the handler failed');
        return;
      }
    }
  }

  private ended(session: Session): void {
    session.over.abort();
    session.arrived.length = 0;
    if (this.session !== session) return;
    this.session = undefined;
    if (!this.stopping) this.link.drop('the consumer channel was closed');
  }
}

function settle(channel: Channel, batch: readonly ConsumeMessage[], verdicts: readonly Verdict[]): void {
  if (verdicts.length !== batch.length) throw new Error('the handler must return one verdict for each message');
  batch.forEach((message, i) => {
    if (verdicts[i] === 'reject') channel.reject(message, false);
  });
  // One frame acknowledges all the rest, because every earlier message of the channel is answered.
  const accepted = batch.findLast((_, i) => verdicts[i] === 'accept');
  if (accepted) channel.ack(accepted, true);
}

function deliveryOf(message: ConsumeMessage): Delivery {
  return {
    payload: message.content,
    headers: (message.properties.headers ?? {}) as Record<string, string>,
    redelivered: message.fields.redelivered,
  };
}
