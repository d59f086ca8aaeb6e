import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import type { Channel } from 'amqplib';
import type { Delivery, OutgoingMessage, Verdict } from '../../internal/biz/message-queue.js';
import { RabbitConsumer } from '../../internal/data/rabbitmq/consumer.js';
import { RabbitPublisher } from '../../internal/data/rabbitmq/publisher.js';
import { deadLetterQueue, type RabbitOptions } from '../../internal/data/rabbitmq/rabbitmq.js';
import { SilentLogger } from '../../internal/kratos/log/logger.js';
import { FaultProxy } from '../support/fault-proxy.js';
import { queueDepth, withChannel } from '../support/queues.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const logger = new SilentLogger();
const never = new AbortController().signal;

describe('RabbitMQ', () => {
  const servers = useServers('rabbitmq');
  const closing: (() => Promise<unknown>)[] = [];
  let options: RabbitOptions;

  beforeEach(() => {
    const queue = servers.queue(`queue-${randomBytes(4).toString('hex')}`);
    servers.queue(deadLetterQueue(queue));
    options = { url: servers.rabbitmqUrl, queue, queueType: 'classic', applicationName: 'test' };
  });
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close();
  });

  async function openPublisher(changes: Partial<RabbitOptions> & { confirmTimeoutMs?: number } = {}) {
    const publisher = new RabbitPublisher({ ...options, confirmTimeoutMs: 5_000, ...changes }, logger);
    closing.push(() => publisher.close());
    await publisher.open();
    await eventually('the publisher is connected', () => publisher.ping().then(() => true));
    return publisher;
  }

  function openConsumer(handle: (deliveries: readonly Delivery[], signal: AbortSignal) => Promise<readonly Verdict[]>) {
    const consumer = new RabbitConsumer({ ...options, prefetch: 16 }, logger);
    closing.push(() => consumer.stop(AbortSignal.timeout(2_000)));
    consumer.start(handle);
    return consumer;
  }

  it('publishes persistent binary messages through the default exchange', async () => {
    const publisher = await openPublisher();
    const [outcome] = await publisher.publish([{ ...message(7), headers: { traceparent: '00-1-2-03' } }]);
    assert.deepEqual(outcome, { kind: 'published' });
    const got = await onChannel((channel) => channel.get(options.queue, { noAck: true }));
    assert.ok(got);
    assert.equal(got.fields.exchange, '');
    assert.equal(got.fields.routingKey, options.queue);
    assert.equal(got.properties.contentType, 'application/octet-stream');
    assert.equal(got.properties.deliveryMode, 2);
    assert.equal(got.properties.messageId, 'message-7');
    assert.equal(got.properties.headers?.traceparent, '00-1-2-03');
    assert.deepEqual(got.content, Buffer.from([7]));
  });

  it('distinguishes an unroutable message from a stored one', async () => {
    const publisher = await openPublisher();
    await onChannel((channel) => channel.deleteQueue(options.queue));
    const outcomes = await publisher.publish([message(1), message(2)]);
    assert.deepEqual(
      outcomes.map((o) => o.kind),
      ['returned', 'returned'],
    );
  });

  it('declares a quorum queue if configured, with the same guarantees', async () => {
    options = { ...options, queueType: 'quorum' };
    const publisher = await openPublisher();
    const outcomes = await publisher.publish([message(1), message(2)]);
    assert.deepEqual(outcomes, [{ kind: 'published' }, { kind: 'published' }]);
    openConsumer(async (deliveries) => deliveries.map((d) => (d.payload[0] === 2 ? 'reject' : 'accept')));
    const dead = deadLetterQueue(options.queue);
    await eventually(
      'one message is in the dead-letter queue',
      async () => (await queueDepth(servers.rabbitmqUrl, dead)) === 1,
    );
    await eventually('the other message is acknowledged', () => isEmpty(options.queue));
  });

  it('reports each message that a full queue rejects', async () => {
    await onChannel((channel) =>
      channel.assertQueue(options.queue, {
        durable: true,
        arguments: { 'x-max-length': 2, 'x-overflow': 'reject-publish' },
      }),
    );
    // The queue already exists with other arguments and is used as it is.
    const publisher = await openPublisher();
    const outcomes: string[] = [];
    for (let i = 0; i < 4; i++) outcomes.push((await publisher.publish([message(i)]))[0]!.kind);
    assert.deepEqual(outcomes, ['published', 'published', 'nacked', 'nacked']);
  });

  it('reports messages as unconfirmed at once while the broker is unavailable', async () => {
    const publisher = new RabbitPublisher(
      { ...options, url: 'amqp://guest:guest@127.0.0.1:1', confirmTimeoutMs: 60_000 },
      logger,
    );
    closing.push(() => publisher.close());
    await publisher.open();
    const outcomes = await publisher.publish([message(1)]);
    assert.deepEqual(outcomes, [{ kind: 'unconfirmed', reason: 'not connected' }]);
  });

  it('replaces the connection to a broker that does not confirm, and recovers', async () => {
    const proxy = await FaultProxy.open(options.url);
    closing.push(() => proxy.close());
    const publisher = await openPublisher({ url: proxy.url(options.url), confirmTimeoutMs: 300 });
    proxy.swallow = true;
    const outcomes = await publisher.publish([message(1), message(2)]);
    assert.deepEqual(
      outcomes.map((o) => o.kind),
      ['unconfirmed', 'unconfirmed'],
    );
    proxy.swallow = false;
    await eventually(
      'it publishes again',
      async () => (await publisher.publish([message(3)]))[0]?.kind === 'published',
    );
  });

  it('publishes ten thousand messages at once and gets a confirm for each', async () => {
    const publisher = await openPublisher({ confirmTimeoutMs: 60_000 });
    const batch = Array.from({ length: 10_000 }, (_, i) => message(i));
    const outcomes = await publisher.publish(batch);
    assert.equal(outcomes.filter((o) => o.kind === 'published').length, batch.length);
    assert.equal(await queueDepth(servers.rabbitmqUrl, options.queue), batch.length);
  });

  it('delivers all waiting messages in one batch of at most the prefetch count', async () => {
    const publisher = await openPublisher();
    await publisher.publish(Array.from({ length: 100 }, (_, i) => message(i)));
    const batches: number[] = [];
    const seen = new Set<number>();
    openConsumer(async (deliveries) => {
      batches.push(deliveries.length);
      for (const d of deliveries) seen.add(d.payload[0]!);
      if (batches.length === 1) {
        await eventually(
          'as many are on their way as the consumer takes at once',
          async () => (await queueDepth(servers.rabbitmqUrl, options.queue)) === 100 - 16,
        );
      }
      return deliveries.map(() => 'accept');
    });
    await eventually('all messages are delivered', () => seen.size === 100);
    assert.ok(batches.length < 100, `batches ${batches}`);
    assert.ok(Math.max(...batches) <= 16, `batches ${batches}`);
    await eventually('all are acknowledged', () => isEmpty(options.queue));
  });

  it('moves rejected messages to the dead-letter queue', async () => {
    const publisher = await openPublisher();
    await publisher.publish([message(1), message(2), message(3)]);
    openConsumer(async (deliveries) => deliveries.map((d) => (d.payload[0] === 2 ? 'reject' : 'accept')));
    await eventually(
      'one message is in the dead-letter queue',
      async () => (await queueDepth(servers.rabbitmqUrl, deadLetterQueue(options.queue))) === 1,
    );
    await eventually('the other messages are acknowledged', () => isEmpty(options.queue));
  });

  it('redelivers messages whose handler failed or whose connection was lost', async () => {
    const proxy = await FaultProxy.open(options.url);
    closing.push(() => proxy.close());
    const publisher = await openPublisher();
    await publisher.publish([message(1)]);
    options = { ...options, url: proxy.url(options.url) };
    const calls: boolean[] = [];
    openConsumer(async (deliveries, signal) => {
      calls.push(deliveries[0]!.redelivered);
      if (calls.length === 1) throw new Error('not this time');
      if (calls.length === 2) {
        proxy.reset();
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
      }
      return deliveries.map(() => 'accept');
    });
    await eventually('the third delivery succeeds', () => calls.length === 3);
    assert.deepEqual(calls, [false, true, true]);
    await eventually('the message is acknowledged', () => isEmpty(options.queue));
  });

  it('returns undelivered messages when it stops, and finishes the current batch', async () => {
    const publisher = await openPublisher();
    await publisher.publish([message(1)]);
    let release: () => void = () => {};
    let started = false;
    const consumer = openConsumer(async (deliveries) => {
      started = true;
      await new Promise<void>((resolve) => {
        release = resolve;
      });
      return deliveries.map(() => 'accept');
    });
    await eventually('the first batch is delivered', () => started);
    await publisher.publish([message(2)]);
    const stopped = consumer.stop(never);
    release();
    await stopped;
    await eventually(
      'the second waits for another',
      async () => (await queueDepth(servers.rabbitmqUrl, options.queue)) === 1,
    );
  });

  function message(i: number): OutgoingMessage {
    return { messageId: `message-${i}`, payload: Uint8Array.of(i % 256), headers: undefined };
  }

  const onChannel = <T>(work: (channel: Channel) => Promise<T>) => withChannel(servers.rabbitmqUrl, work);
  const isEmpty = async (queue: string) => (await queueDepth(servers.rabbitmqUrl, queue)) === 0;
});
