import { setTimeout as sleep } from 'node:timers/promises';
import type { DeliveryHandler } from '../../internal/biz/message-queue.js';
import { RabbitConsumer } from '../../internal/data/rabbitmq/consumer.js';
import { RabbitPublisher } from '../../internal/data/rabbitmq/publisher.js';
import { queueTypeOf, type RabbitOptions } from '../../internal/data/rabbitmq/rabbitmq.js';
import { SilentLogger } from '../../internal/kratos/log/logger.js';
import { eventually } from '../support/wait.js';

const CONFIRM_MS = 2_000;
const PREFETCH = 50;

/** A publisher and a consumer that never rest, and what they have seen. */
export class QueueLoad {
  readonly rabbit: RabbitOptions;
  readonly confirmed = new Set<string>();
  readonly arrived = new Set<string>();
  private readonly publisher: RabbitPublisher;
  private readonly consumer: RabbitConsumer;
  private publishing = false;
  private publishers: Promise<void> | undefined;
  private sent = 0;
  /** The longest time without a confirm, and what became of messages in it. */
  private longestGapMs = 0;
  private readonly unpublished = new Map<string, number>();

  constructor(url: string) {
    this.rabbit = { url, queue: 'orders', queueType: queueTypeOf('auto', url), applicationName: 'test' };
    const logger = new SilentLogger();
    this.publisher = new RabbitPublisher({ ...this.rabbit, confirmTimeoutMs: CONFIRM_MS }, logger);
    this.consumer = new RabbitConsumer({ ...this.rabbit, prefetch: PREFETCH }, logger);
  }

  /** @param verdictOf one message; what it throws ends the consumer's connection, as the death of its process does */
  async start(verdictOf: (text: string) => 'accept' | 'reject' = () => 'accept'): Promise<void> {
    await this.publisher.open();
    const handle: DeliveryHandler = async (deliveries) =>
      deliveries.map(({ payload }) => {
        const text = Buffer.from(payload).toString();
        const verdict = verdictOf(text);
        if (verdict === 'accept') this.arrived.add(text);
        return verdict;
      });
    this.consumer.start(handle);
    this.publishing = true;
    this.publishers = this.keepPublishing();
    await eventually('messages arrive', () => this.arrived.size > 50);
  }

  async stop(): Promise<void> {
    this.publishing = false;
    await this.publishers;
    await this.consumer.stop(AbortSignal.timeout(5_000));
    await this.publisher.close();
  }

  /** Publishes one message until it is confirmed. */
  async publish(text: string): Promise<void> {
    await eventually(`${text} is confirmed`, async () => {
      const [outcome] = await this.publisher.publish([messageOf(text)]);
      return outcome?.kind === 'published';
    });
  }

  /** Waits for confirms of messages that are sent from now on, and prints what happened since the last call. */
  async confirmsAgain(): Promise<void> {
    const before = this.confirmed.size;
    await eventually('messages are confirmed again', () => this.confirmed.size >= before + 100);
    const again = [...this.unpublished].map(([kind, n]) => `${n} ${kind}`).join(', ') || 'none';
    console.log(`      longest time without a confirm ${Math.round(this.longestGapMs)} ms; sent again: ${again}`);
    this.longestGapMs = 0;
    this.unpublished.clear();
  }

  async everyConfirmedArrived(): Promise<void> {
    const expected = [...this.confirmed];
    await eventually('every confirmed message has arrived', () => expected.every((text) => this.arrived.has(text)));
  }

  /** As the relay does it: what is not confirmed is published again. */
  private async keepPublishing(): Promise<void> {
    let confirmedAtMs = performance.now();
    while (this.publishing) {
      for (let left = Array.from({ length: 20 }, () => String(this.sent++)); left.length > 0 && this.publishing; ) {
        const outcomes = await this.publisher.publish(left.map(messageOf));
        const unpublished = left.filter((_, i) => outcomes[i]?.kind !== 'published');
        for (const { kind } of outcomes) {
          if (kind !== 'published') this.unpublished.set(kind, (this.unpublished.get(kind) ?? 0) + 1);
        }
        left.forEach((text, i) => {
          if (outcomes[i]?.kind === 'published') this.confirmed.add(text);
        });
        if (unpublished.length < left.length) {
          this.longestGapMs = Math.max(this.longestGapMs, performance.now() - confirmedAtMs);
          confirmedAtMs = performance.now();
        }
        left = unpublished;
        await sleep(20);
      }
    }
  }
}

const messageOf = (text: string) => ({ messageId: text, payload: Buffer.from(text), headers: undefined });
