import assert from 'node:assert/strict';
import { Registry } from 'prom-client';
import { unavailable } from '../../gen/common/v1/errors.js';
import { type Delivery, type DeliveryHandler, QueueConsumer, type Verdict } from '../biz/message-queue.js';
import { SilentLogger } from '../kratos/log/logger.js';
import type { InstanceEventService } from '../service/instance-event.js';
import { InstanceConsumer } from './instance-consumer.js';

class FakeQueue extends QueueConsumer {
  override readonly queue = 'q';
  handle: DeliveryHandler | undefined;
  override start(handle: DeliveryHandler): void {
    this.handle = handle;
  }
  override async stop(): Promise<void> {}
}

describe('InstanceConsumer', () => {
  const never = new AbortController().signal;
  let stored: number;

  /** A consumer of a service that does as told. */
  async function open(handle: (payloads: readonly string[]) => Promise<void>) {
    stored = 0;
    const queue = new FakeQueue();
    const service = {
      handle: async (_queue: string, deliveries: readonly Delivery[]): Promise<readonly Verdict[]> => {
        await handle(deliveries.map((d) => Buffer.from(d.payload).toString()));
        return deliveries.map(() => 'accept');
      },
    } as unknown as InstanceEventService;
    const consumer = new InstanceConsumer(queue, service, new SilentLogger(), new Registry(), () => stored++);
    await consumer.start();
    return queue.handle!;
  }
  const deliveries = (...texts: string[]): Delivery[] =>
    texts.map((text) => ({ payload: Buffer.from(text), headers: {}, redelivered: false }));

  it('wakes the worker once the messages are stored', async () => {
    const handle = await open(async () => {});
    assert.deepEqual(await handle(deliveries('a', 'b'), never), ['accept', 'accept']);
    assert.equal(stored, 1);
  });

  it('keeps the messages and tries again while the database is away', async () => {
    let calls = 0;
    const handle = await open(async () => {
      if (++calls < 4) throw unavailable('away');
    });
    assert.deepEqual(await handle(deliveries('a', 'b'), never), ['accept', 'accept']);
    assert.equal(calls, 4);
  });

  it('gives up waiting when the connection to the broker is gone', async () => {
    const gone = new AbortController();
    const handle = await open(async () => {
      gone.abort();
      throw unavailable('away');
    });
    await assert.rejects(handle(deliveries('a'), gone.signal), { name: 'AbortError' });
    assert.equal(stored, 0);
  });

  it('puts the one message aside that fails by itself, and stores the others', async () => {
    let tries = 0;
    const good = new Set<string>();
    const handle = await open(async (payloads) => {
      if (payloads.includes('bad')) {
        if (payloads.length === 1) tries++;
        throw new TypeError('a fault of ours');
      }
      for (const p of payloads) good.add(p);
    });
    assert.deepEqual(await handle(deliveries('a', 'bad', 'b'), never), ['accept', 'reject', 'accept']);
    assert.deepEqual([...good], ['a', 'b']);
    assert.equal(tries, 5);
  });
});
