import assert from 'node:assert/strict';
import { Registry } from 'prom-client';
import { type Delivery, PurchaseConsumer, type ReadRequest } from '../biz/seckill/purchase-stream.js';
import type { PreparedEntries } from '../biz/seckill/settlement.js';
import type { Settlement } from '../biz/seckill/settlement-state.js';
import type { Logger } from '../kratos/log/logger.js';
import { SeckillOrderService } from '../service/seckill.js';
import { SeckillConsumer } from './seckill-consumer.js';

const ITEM = 1001n;
const silent = { debugs: false, debug() {}, info() {}, warn() {}, error() {}, child: () => silent } as Logger;

function delivery(streamId: string): Delivery {
  return { streamId, fields: new Map(), deliveries: 1 };
}

/** Gives one entry with each read, until there is none left. */
class Stream extends PurchaseConsumer {
  readonly asked: ReadRequest['from'][] = [];
  readonly finished: string[] = [];

  constructor(private readonly entries: string[]) {
    super();
  }

  override async discover() {
    return [ITEM];
  }
  override async join() {}
  override async read([request]: readonly ReadRequest[]): Promise<ReadonlyMap<bigint, readonly Delivery[]>> {
    await new Promise((resolve) => setImmediate(resolve));
    if (!request) return new Map();
    this.asked.push(request.from);
    const next = request.from === 'new' ? this.entries.shift() : undefined;
    return new Map([[ITEM, next === undefined ? [] : [delivery(next)]]]);
  }
  override async claim() {
    return [];
  }
  override async finish(_itemId: bigint, entries: readonly { readonly streamId: string }[]) {
    for (const { streamId } of entries) this.finished.push(streamId);
    return new Set<string>();
  }
  override interrupt() {}
}

class Service extends SeckillOrderService {
  readonly begun: string[] = [];
  readonly decided: string[] = [];

  constructor(private readonly commit: (streamId: string) => Promise<void>) {
    super(undefined as never);
  }

  override async findItemIds() {
    return [ITEM];
  }

  override async prepareSeckillOrder(itemId: bigint, [entry]: readonly Delivery[]): Promise<PreparedEntries> {
    const { streamId } = entry!;
    this.begun.push(streamId);
    const parsed = { kind: 'malformed', streamId, reason: '' } as const;
    const entries = [{ entry: entry!, parsed, fault: undefined }];
    return { stream: { itemId, item: undefined }, entries, suspects: [] };
  }

  override async handleSeckillOrder({ entries: [entry] }: PreparedEntries): Promise<Settlement> {
    const { streamId } = entry!.entry;
    this.decided.push(streamId);
    await this.commit(streamId);
    return { settled: [{ streamId, correction: undefined }], counts: { ORDER: 1, REJECTED: 0, DEAD: 0 }, failed: [] };
  }
}

async function until(what: string, condition: () => boolean): Promise<void> {
  for (let i = 0; i < 2_000; i++) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  assert.fail(`${what} did not come about`);
}

describe('the consumer of purchases', () => {
  let consumer: SeckillConsumer | undefined;
  afterEach(() => consumer?.stop(AbortSignal.timeout(1_000)));

  const start = async (stream: Stream, service: Service) => {
    const options = { batchSize: 10, blockMs: 10, claimIdleMs: 60_000 };
    consumer = new SeckillConsumer(stream, service, options, silent, new Registry());
    await consumer.start();
  };

  it('reads the next batch while one is settled, and no further one; decides them in order', async () => {
    let commit = () => {};
    const committed = new Promise<void>((resolve) => {
      commit = resolve;
    });
    const stream = new Stream(['1-0', '2-0', '3-0']);
    const service = new Service((id) => (id === '1-0' ? committed : Promise.resolve()));
    await start(stream, service);
    await until('the second batch', () => service.begun.length === 2);
    assert.deepEqual([service.begun, service.decided], [['1-0', '2-0'], ['1-0']]);
    assert.deepEqual(stream.asked, ['pending', 'new', 'new']);
    commit();
    await until('the end', () => stream.finished.length === 3);
    assert.deepEqual(service.decided, ['1-0', '2-0', '3-0']);
    assert.deepEqual(stream.finished, ['1-0', '2-0', '3-0']);
  });

  it('decides nothing behind a batch that failed, and reads again what it has', async () => {
    let fail = () => {};
    const failed = new Promise<void>((_, reject) => {
      fail = () => reject(new Error('planted'));
    });
    const stream = new Stream(['1-0', '2-0']);
    const service = new Service((id) => (id === '1-0' ? failed : Promise.resolve()));
    await start(stream, service);
    await until('the second batch', () => service.begun.length === 2);
    fail();
    await until(
      'another look at what is unfinished',
      () => stream.asked.filter((from) => from === 'pending').length === 2,
    );
    assert.deepEqual([service.decided, stream.finished], [['1-0'], []]);
  });

  it('stops when what is under way is finished', async () => {
    let commit = () => {};
    const committed = new Promise<void>((resolve) => {
      commit = resolve;
    });
    const stream = new Stream(['1-0']);
    const service = new Service(() => committed);
    await start(stream, service);
    await until('the batch', () => service.decided.length === 1);
    const stopped = consumer!.stop(AbortSignal.timeout(5_000));
    commit();
    await stopped;
    assert.deepEqual(stream.finished, ['1-0']);
  });
});
