import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { RabbitConsumer } from '../../internal/data/rabbitmq/consumer.js';
import { RabbitDeadLetters } from '../../internal/data/rabbitmq/dead-letter.js';
import { RabbitPublisher } from '../../internal/data/rabbitmq/publisher.js';
import { queueTypeOf, type RabbitOptions } from '../../internal/data/rabbitmq/rabbitmq.js';
import { SilentLogger } from '../../internal/kratos/log/logger.js';
import { RabbitmqClusterProcesses } from '../../internal/local/clusters/rabbitmq-cluster.js';
import { freePort } from '../../internal/local/servers/ports.js';
import { rabbitmq } from '../../internal/local/servers/rabbitmq.js';
import { eventually } from '../support/wait.js';
import { missingProgram } from './missing.js';
import { clusterRoot } from './redis.js';

const logger = new SilentLogger();
const CONFIRM_MS = 2_000;

describe('a RabbitMQ cluster', () => {
  let root: string;
  let cluster: RabbitmqClusterProcesses;
  let rabbit: RabbitOptions;
  let publisher: RabbitPublisher;
  let consumer: RabbitConsumer;
  const confirmed = new Set<string>();
  const arrived = new Set<string>();
  let sent = 0;
  let publishing = false;
  let publishers: Promise<void>;

  before(async function () {
    if (rabbitmq.find() === undefined) missingProgram(this, 'rabbitmq-server');
    root = clusterRoot('rabbitmq');
    cluster = await RabbitmqClusterProcesses.start({ root, port: freePort });
    const { url } = cluster;
    rabbit = { url, queue: 'orders', queueType: queueTypeOf('auto', url), applicationName: 'test' };
    publisher = new RabbitPublisher({ ...rabbit, confirmTimeoutMs: CONFIRM_MS }, logger);
    await publisher.open();
    consumer = new RabbitConsumer({ ...rabbit, prefetch: 50 }, logger);
    consumer.start(async (deliveries) => {
      return deliveries.map(({ payload }) => {
        const text = Buffer.from(payload).toString();
        if (text === 'poison') return 'reject';
        arrived.add(text);
        return 'accept';
      });
    });
    publishing = true;
    publishers = keepPublishing();
    await eventually('messages arrive', () => arrived.size > 50);
  });
  after(async () => {
    publishing = false;
    await publishers;
    await consumer?.stop(AbortSignal.timeout(5_000));
    await publisher?.close();
    await cluster?.stop();
    if (root) rmSync(root, { recursive: true, force: true });
  });

  /** As the relay does it: what is not confirmed is published again. */
  async function keepPublishing(): Promise<void> {
    while (publishing) {
      const batch = Array.from({ length: 20 }, () => String(sent++));
      for (let left = batch; left.length > 0 && publishing; ) {
        const outcomes = await publisher.publish(left.map(messageOf));
        left.forEach((text, i) => {
          if (outcomes[i]?.kind === 'published') confirmed.add(text);
        });
        left = left.filter((text) => !confirmed.has(text));
        await sleep(20);
      }
    }
  }

  const messageOf = (text: string) => ({ messageId: text, payload: Buffer.from(text), headers: undefined });

  async function confirmsAgain(): Promise<void> {
    const before = confirmed.size;
    await eventually('messages are confirmed again', () => confirmed.size >= before + 100);
  }

  async function everyConfirmedArrived(): Promise<void> {
    const expected = [...confirmed];
    await eventually('every confirmed message has arrived', () => expected.every((text) => arrived.has(text)));
  }

  it('gets quorum queues without being asked for them', () => {
    assert.equal(rabbit.queueType, 'quorum');
    assert.equal(queueTypeOf('auto', 'amqp://one'), 'classic');
  });

  it('puts a message that is rejected aside', async () => {
    assert.deepEqual(await publisher.publish([messageOf('poison')]), [{ kind: 'published' }]);
    const letters = new RabbitDeadLetters(cluster.url, rabbit.queue);
    try {
      await eventually(
        'it is a dead letter',
        async () => (await letters.list({ limit: 10, includeResolved: false })).length === 1,
      );
    } finally {
      await letters.close();
    }
  });

  it('loses no confirmed message while the leader of the queue does not answer', async () => {
    const leader = await cluster.leaderOf(rabbit.queue);
    cluster.freeze(leader);
    await sleep(1_000);
    cluster.thaw(leader);
    await confirmsAgain();
    await everyConfirmedArrived();
  });

  it('loses no confirmed message with the leader of the queue', async () => {
    const leader = await cluster.leaderOf(rabbit.queue);
    cluster.kill(leader);
    await confirmsAgain();
    await everyConfirmedArrived();
  });
});
