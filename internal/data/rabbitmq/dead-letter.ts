import { createHash } from 'node:crypto';
import { type Channel, type ChannelModel, connect, type GetMessage } from 'amqplib';
import { type DeadLetter, type DeadLetterFilter, DeadLetterStore } from '../../biz/dead-letter/dead-letter.js';
import { Brokers } from './brokers.js';
import { closeConnection, deadLetterQueue } from './rabbitmq.js';

const CONNECT_TIMEOUT_MS = 5_000;
/** Messages that one call reads; a longer queue is a case for the broker's own tools. */
const MAX_READ = 10_000;
const KEY_LENGTH = 12;
const NOT_FOUND = 404;

/**
 * Messages that the broker put aside: too large to be stored, or rejected again and again. AMQP has no way to look at a
 * message, so they are taken, and go back to their places when the channel closes. Two messages with the same content
 * have the same key; a call resolves the first of them.
 */
export class RabbitDeadLetters extends DeadLetterStore {
  override readonly name = 'queue';
  private model: Promise<ChannelModel> | undefined;

  constructor(
    private readonly url: string,
    private readonly queue: string,
  ) {
    super();
  }

  override async list({ limit }: DeadLetterFilter): Promise<readonly DeadLetter[]> {
    return this.onChannel(async (channel) => {
      const letters: DeadLetter[] = [];
      for await (const message of messages(channel, deadLetterQueue(this.queue))) {
        letters.push(this.letterOf(message));
        if (letters.length === limit) break;
      }
      return letters;
    });
  }

  override async find(key: string): Promise<DeadLetter | undefined> {
    return this.onChannel(async (channel) => {
      for await (const message of messages(channel, deadLetterQueue(this.queue))) {
        if (keyOf(message) === key) return this.letterOf(message);
      }
      return undefined;
    });
  }

  override replay(key: string): Promise<string | undefined> {
    return this.resolve(key, `replayed to ${this.queue}`, (message) => this.publish(this.queue, message.content));
  }

  override drop(key: string, reason: string): Promise<string | undefined> {
    return this.resolve(key, `dropped: ${reason}`, async () => {});
  }

  /** Publishes a message to a queue that exists. Resolves when the broker has it. */
  async publish(queue: string, payload: Uint8Array): Promise<void> {
    const channel = await (await this.connection()).createConfirmChannel();
    channel.on('error', () => {});
    try {
      await channel.checkQueue(queue);
      const options = { persistent: true, contentType: 'application/octet-stream' };
      await new Promise<void>((resolve, reject) => {
        channel.publish('', queue, Buffer.from(payload), options, (err) => (err ? reject(err) : resolve()));
      });
    } finally {
      await channel.close().catch(() => {});
    }
  }

  async close(): Promise<void> {
    const model = await this.model;
    if (model) await closeConnection(model);
  }

  private resolve(
    key: string,
    resolution: string,
    work: (message: GetMessage) => Promise<void>,
  ): Promise<string | undefined> {
    return this.onChannel(async (channel) => {
      for await (const message of messages(channel, deadLetterQueue(this.queue))) {
        if (keyOf(message) !== key) continue;
        await work(message);
        channel.ack(message);
        return resolution;
      }
      return undefined;
    });
  }

  private async onChannel<T>(work: (channel: Channel) => Promise<T>): Promise<T> {
    const channel = await (await this.connection()).createChannel();
    channel.on('error', () => {});
    try {
      return await work(channel);
    } finally {
      await channel.close().catch(() => {});
    }
  }

  private connection(): Promise<ChannelModel> {
    this.model ??= this.connectToAny().catch((err: unknown) => {
      this.model = undefined;
      throw err;
    });
    return this.model;
  }

  /** The first node that answers. The next call connects again where the connection is lost. */
  private async connectToAny(): Promise<ChannelModel> {
    const brokers = new Brokers(this.url);
    for (let left = brokers.count; ; left--) {
      try {
        const model = await connect(brokers.target, {
          timeout: CONNECT_TIMEOUT_MS,
          clientProperties: { connection_name: 'kaimai-dead-letters' },
        });
        // Without a listener the error would end the process. It ends the calls under way, too.
        model.on('error', () => {});
        model.on('close', () => {
          this.model = undefined;
        });
        return model;
      } catch (err) {
        if (left <= 1) throw err;
        brokers.next();
      }
    }
  }

  private letterOf(message: GetMessage): DeadLetter {
    const death = (
      message.properties.headers?.['x-death'] as readonly { reason?: string; time?: { value: number } }[]
    )?.[0];
    return {
      id: `${this.name}-${keyOf(message)}`,
      origin: deadLetterQueue(this.queue),
      messageId: digest(message),
      content: message.content,
      reason: `the broker put it aside: ${death?.reason ?? 'unknown'}`,
      createdAt: typeof death?.time?.value === 'number' ? new Date(death.time.value * 1_000) : undefined,
      resolvedAt: undefined,
      resolution: '',
    };
  }
}

async function* messages(channel: Channel, queue: string): AsyncGenerator<GetMessage> {
  try {
    await channel.checkQueue(queue);
  } catch (err) {
    if ((err as { code?: unknown }).code === NOT_FOUND) return;
    throw err;
  }
  for (let i = 0; i < MAX_READ; i++) {
    const message = await channel.get(queue);
    if (!message) return;
    yield message;
  }
}

function digest(message: GetMessage): string {
  return createHash('sha256').update(message.content).digest('hex');
}

function keyOf(message: GetMessage): string {
  return digest(message).slice(0, KEY_LENGTH);
}
