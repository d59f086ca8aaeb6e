import type { ConfirmChannel } from 'amqplib';
import { type OutgoingMessage, type PublishOutcome, QueuePublisher } from '../../biz/message-queue.js';
import { errorText } from '../../kratos/errors/error-text.js';
import type { Logger } from '../../kratos/log/logger.js';
import { type Count, Metrics } from '../../kratos/metrics/metrics.js';
import type { Times } from '../../kratos/metrics/times.js';
import { NoTrace, type Trace } from '../../kratos/tracing/trace.js';
import { connectionLosses, declareQueue, RabbitLink, type RabbitOptions } from './rabbitmq.js';

export interface RabbitPublisherOptions extends RabbitOptions {
  readonly confirmTimeoutMs: number;
}

interface Pending {
  returned: string | undefined;
}

const OUTCOMES: readonly PublishOutcome['kind'][] = ['published', 'returned', 'nacked', 'unconfirmed'];
/** Maximum number of unconfirmed messages. Further ones wait. */
const MAX_IN_FLIGHT = 8_192;
const CONTENT_TYPE = 'application/octet-stream';

/**
 * Publishes to the default exchange with the name of the queue as routing key, persistent and mandatory. The broker also
 * confirms an unroutable message, after it has returned it. So a returned message was not published despite its confirm.
 */
export class RabbitPublisher extends QueuePublisher {
  private readonly link: RabbitLink;
  private channel: ConfirmChannel | undefined;
  private blocked: string | undefined;
  /** Since when the broker has refused every message. */
  private refusedSinceMs: number | undefined;
  private sequence = 0;
  /** By correlation id. No other process reads it. */
  private readonly pending = new Map<string, Pending>();
  private readonly waiting: (() => void)[] = [];
  private inFlight = 0;
  private readonly outcomes: Readonly<Record<PublishOutcome['kind'], Count>>;
  private readonly confirmTimes: Times;

  constructor(
    private readonly options: RabbitPublisherOptions,
    private readonly logger: Logger,
    private readonly trace: Trace = new NoTrace(),
    metrics: Metrics = new Metrics(),
  ) {
    super();
    const { queue } = options;
    this.outcomes = metrics.counts(
      'amqp_published_total',
      'Messages by what the broker made of them: published, returned (no queue), nacked (full), unconfirmed (no answer).',
      'outcome',
      OUTCOMES,
      { queue },
    );
    this.confirmTimes = metrics.times(
      'amqp_confirm_seconds',
      'Time from publishing a batch to the answer to its last message, by queue.',
      { queue },
    );
    this.link = new RabbitLink(options, logger, connectionLosses(metrics, 'publisher', options), async (model) => {
      model.on('blocked', (reason) => {
        this.blocked = reason;
        this.logger.error('RabbitMQ has blocked publishing', { reason });
      });
      model.on('unblocked', () => {
        this.blocked = undefined;
      });
      await declareQueue(model, options, logger);
      const channel = await model.createConfirmChannel();
      channel.on('error', (err) => logger.error('RabbitMQ closed the publisher channel', { err }));
      channel.on('close', () => {
        if (this.channel !== channel) return;
        this.channel = undefined;
        // amqplib does not reopen a channel.
        this.link.drop('the publisher channel was closed');
      });
      channel.on('return', (message) => {
        const pending = this.pending.get(String(message.properties.correlationId));
        const { replyText } = message.fields as unknown as { replyText?: string };
        if (pending) pending.returned = replyText ?? 'no queue';
      });
      this.blocked = undefined;
      this.channel = channel;
    });
  }

  /** Starts to connect. Until it is connected, publishes are `unconfirmed`. */
  open(): Promise<void> {
    return this.link.open();
  }

  async close(): Promise<void> {
    this.channel = undefined;
    await this.link.close();
  }

  ping(): Promise<void> {
    return this.link.ping();
  }

  override async publish(messages: readonly OutgoingMessage[]): Promise<readonly PublishOutcome[]> {
    const outcomes: PublishOutcome[] = [];
    for (let i = 0; i < messages.length; i += MAX_IN_FLIGHT) {
      outcomes.push(...(await this.publishChunk(messages.slice(i, i + MAX_IN_FLIGHT))));
    }
    return outcomes;
  }

  private async publishChunk(messages: readonly OutgoingMessage[]): Promise<readonly PublishOutcome[]> {
    while (this.inFlight > 0 && this.inFlight + messages.length > MAX_IN_FLIGHT) {
      await new Promise<void>((resolve) => this.waiting.push(resolve));
    }
    this.inFlight += messages.length;
    const startedAt = performance.now();
    try {
      const outcomes = await this.send(messages);
      this.confirmTimes.add((performance.now() - startedAt) / 1000);
      for (const { kind } of outcomes) this.outcomes[kind].add();
      this.leaveIfRefused(outcomes);
      return outcomes;
    } finally {
      this.inFlight -= messages.length;
      for (const resolve of this.waiting.splice(0)) resolve();
    }
  }

  /**
   * Leaves a broker that has nacked or returned everything for a confirm timeout. After the death of a queue's leader a
   * new channel was seen to take nothing for 25 s (RabbitMQ 3.10), and the next one took everything at once. A queue that
   * is full costs one more connection in each confirm timeout.
   */
  private leaveIfRefused(outcomes: readonly PublishOutcome[]): void {
    const nowMs = performance.now();
    if (outcomes.some((o) => o.kind === 'published' || o.kind === 'unconfirmed')) this.refusedSinceMs = undefined;
    else this.refusedSinceMs ??= nowMs;
    if (this.refusedSinceMs === undefined || nowMs - this.refusedSinceMs < this.options.confirmTimeoutMs) return;
    this.refusedSinceMs = undefined;
    this.link.drop('the broker refuses every message');
  }

  private send(messages: readonly OutgoingMessage[]): Promise<readonly PublishOutcome[]> {
    const { channel } = this;
    if (!channel || this.blocked !== undefined) {
      const reason = channel ? `the broker takes no messages: ${this.blocked}` : 'not connected';
      return Promise.resolve(messages.map(() => ({ kind: 'unconfirmed', reason })));
    }
    const outcomes = new Array<PublishOutcome | undefined>(messages.length).fill(undefined);
    let open = messages.length;
    return new Promise((resolve) => {
      const settle = (i: number, outcome: PublishOutcome) => {
        if (outcomes[i]) return;
        outcomes[i] = outcome;
        if (--open === 0) {
          clearTimeout(timer);
          resolve(outcomes as PublishOutcome[]);
        }
      };
      const timer = setTimeout(() => {
        // Late confirms would pile up in this channel, so a new connection is opened.
        this.link.drop('confirms took too long');
        const reason = `no confirm within ${this.options.confirmTimeoutMs} ms`;
        for (let i = 0; i < messages.length; i++) settle(i, { kind: 'unconfirmed', reason });
      }, this.options.confirmTimeoutMs);
      messages.forEach((message, i) => {
        this.sendOne(channel, message, (outcome) => settle(i, outcome));
      });
    });
  }

  private sendOne(channel: ConfirmChannel, message: OutgoingMessage, settle: (outcome: PublishOutcome) => void): void {
    const id = String(this.sequence++);
    const pending: Pending = { returned: undefined };
    this.pending.set(id, pending);
    const options = {
      persistent: true,
      mandatory: true,
      contentType: CONTENT_TYPE,
      messageId: message.messageId,
      correlationId: id,
      ...(message.headers && { headers: message.headers }),
    };
    try {
      const answered = (err: Error | null) => {
        this.pending.delete(id);
        if (pending.returned !== undefined) settle({ kind: 'returned', reason: pending.returned });
        else if (!err) settle({ kind: 'published' });
        // With amqplib only this message distinguishes a nack from a lost channel.
        else if (err.message === 'message nacked') settle({ kind: 'nacked' });
        else settle({ kind: 'unconfirmed', reason: err.message });
      };
      this.trace.within(message.headers?.traceparent, () =>
        channel.publish('', this.options.queue, bufferOf(message.payload), options, answered),
      );
    } catch (err) {
      // The channel was closed at this moment.
      this.pending.delete(id);
      this.link.drop('the publisher channel was closed');
      settle({ kind: 'unconfirmed', reason: errorText(err) });
    }
  }
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
