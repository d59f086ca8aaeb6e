import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { RabbitDeadLetters } from '../../internal/data/rabbitmq/dead-letter.js';
import { queueTypeOf } from '../../internal/data/rabbitmq/rabbitmq.js';
import { eventually } from '../support/wait.js';
import { QueueLoad } from './queue-load.js';
import { useRabbitmqCluster } from './rabbitmq.js';

/** Of quorum queues, in declareQueue. */
const DELIVERY_LIMIT = 20;

describe('a RabbitMQ cluster', () => {
  const cluster = useRabbitmqCluster();
  let load: QueueLoad;
  let letters: RabbitDeadLetters;
  let killed = 0;

  before(async () => {
    load = new QueueLoad(cluster().url);
    letters = new RabbitDeadLetters(cluster().url, load.rabbit.queue);
    await load.start((text) => {
      if (text === 'killer') throw new Error(`killed ${++killed} times`);
      return text === 'poison' ? 'reject' : 'accept';
    });
  });
  after(async () => {
    await letters?.close();
    await load?.stop();
  });

  const leader = () => cluster().leaderOf(load.rabbit.queue);
  const dead = async () => {
    const found = await letters.list({ limit: 1_000, includeResolved: false });
    return found.map(({ content }) => Buffer.from(content as Uint8Array).toString());
  };

  it('gets quorum queues without being asked for them', () => {
    assert.equal(load.rabbit.queueType, 'quorum');
    assert.equal(queueTypeOf('auto', 'amqp://one'), 'classic');
  });

  it('puts a message that is rejected aside', async () => {
    await load.publish('poison');
    await eventually('it is a dead letter', async () => (await dead()).includes('poison'));
  });

  it('puts a message aside that ends the connection of its consumer again and again, and none with it', async () => {
    await load.publish('killer');
    await eventually('it is a dead letter', async () => (await dead()).includes('killer'));
    assert.equal(killed, DELIVERY_LIMIT + 1);
    await load.everyConfirmedArrived();
    assert.deepEqual(new Set(await dead()), new Set(['poison', 'killer']));
  });

  it('loses no confirmed message while the leader of the queue does not answer', async () => {
    const frozen = await leader();
    cluster().freeze(frozen);
    await sleep(1_000);
    cluster().thaw(frozen);
    await load.confirmsAgain();
    await load.everyConfirmedArrived();
  });

  it('publishes and consumes on the larger side of a partition, and loses no confirmed message', async () => {
    const cutOff = await leader();
    await cluster().partition(cutOff);
    await cluster().untilPaused(cutOff);
    await load.confirmsAgain();
    await load.everyConfirmedArrived();
    assert.notEqual(await leader(), cutOff);
    await cluster().heal(cutOff);
    await cluster().untilWhole();
    await load.confirmsAgain();
    await load.everyConfirmedArrived();
  });

  it('loses no confirmed message with the leader of the queue', async () => {
    cluster().kill(await leader());
    await load.confirmsAgain();
    await load.everyConfirmedArrived();
  });

  it('has put nothing else aside', async () => {
    const found = await eventually('the dead letters can be read', async () => new Set(await dead()));
    assert.deepEqual(found, new Set(['poison', 'killer']));
  });
});
