import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { Registry } from 'prom-client';
import { unavailable } from '../../gen/common/v1/errors.js';
import {
  type Delivery,
  PurchaseConsumer,
  type ReadRequest,
  type ReadResult,
  type SettledEntry,
} from '../biz/seckill/purchase-stream.js';
import { segmentOf } from '../biz/seckill/segment.js';
import type { PreparedEntries } from '../biz/seckill/settlement.js';
import type { Settlement } from '../biz/seckill/settlement-state.js';
import { Logger, SilentLogger } from '../kratos/log/logger.js';
import { SeckillOrderService } from '../service/seckill.js';
import { SeckillConsumer } from './seckill-consumer.js';

const ITEM = 1001n;
const OTHER = 1002n;
const WRONG_TYPE = new Error('WRONGTYPE Operation against a key holding the wrong kind of value');

/** Streams in memory. */
class Streams extends PurchaseConsumer {
  /** Entries that a read returns of a stream. */
  perRead = 1;
  readonly reads: string[] = [];
  readonly finished: string[] = [];
  readonly reports: (number | undefined)[] = [];
  /** Delivered and not finished. A flush of Redis empties it. */
  readonly pending = new Map<string, Delivery>();
  readonly unreadable = new Set<bigint>();
  /** Segments of ITEM whose server is away. */
  readonly away = new Set<number>();
  back: bigint[] = [];
  /** Decides which entries have to be finished later. */
  onFinish: (itemId: bigint, streamIds: readonly string[]) => readonly string[] = () => [];

  constructor(private readonly entries: ReadonlyMap<bigint, string[]>) {
    super();
  }

  override async discover() {
    return [...this.entries.keys()];
  }
  override async join(itemIds: readonly bigint[]) {
    return new Map(itemIds.filter((id) => this.unreadable.has(id)).map((id) => [id, WRONG_TYPE]));
  }
  override async read(requests: readonly ReadRequest[]): Promise<ReadResult> {
    await new Promise((resolve) => setImmediate(resolve));
    const deliveries = new Map<bigint, readonly Delivery[]>();
    const unreadable = new Map<bigint, unknown>();
    for (const { itemId, from } of requests) {
      this.reads.push(`${from} ${itemId}`);
      if (this.unreadable.has(itemId)) unreadable.set(itemId, WRONG_TYPE);
      else if (from === 'pending') deliveries.set(itemId, this.readPending(itemId));
      else deliveries.set(itemId, this.readNew(itemId));
    }
    const away = new Map(this.away.size > 0 ? [[ITEM, unavailable('planted')]] : []);
    return { deliveries, groupless: [], unreadable, away, back: this.back.splice(0) };
  }
  override reaches(_: bigint, streamId: string) {
    return !this.away.has(segmentOf(streamId));
  }
  override async claim() {
    return [];
  }
  override async finish(itemId: bigint, entries: readonly SettledEntry[]) {
    const streamIds = entries.map((e) => e.streamId);
    const later = new Set(this.onFinish(itemId, streamIds));
    for (const streamId of streamIds.filter((id) => !later.has(id))) {
      this.finished.push(streamId);
      this.pending.delete(`${itemId} ${streamId}`);
    }
    return later;
  }
  override async report(oldestReadMs: number | undefined) {
    this.reports.push(oldestReadMs);
  }
  override interrupt() {}

  private readPending(itemId: bigint): Delivery[] {
    const found = [...this.pending].filter(
      ([key, { streamId }]) => key.startsWith(`${itemId} `) && this.reaches(itemId, streamId),
    );
    return found.map(([key, entry]) => {
      const again = { ...entry, deliveries: entry.deliveries + 1 };
      this.pending.set(key, again);
      return again;
    });
  }

  private readNew(itemId: bigint): Delivery[] {
    const waiting = this.entries.get(itemId) ?? [];
    const read = waiting.filter((id) => this.reaches(itemId, id)).slice(0, this.perRead);
    return read.map((streamId) => {
      waiting.splice(waiting.indexOf(streamId), 1);
      const entry = { streamId, fields: new Map(), deliveries: 1 };
      this.pending.set(`${itemId} ${streamId}`, entry);
      return entry;
    });
  }
}

type Commit = (itemId: bigint, entries: readonly Delivery[]) => Promise<unknown>;

/** Makes every entry an order, unless `commit` says otherwise. */
class Service extends SeckillOrderService {
  readonly prepared: string[] = [];
  readonly handedOver: string[] = [];
  readonly decided: string[] = [];
  /** Awaited before a batch is prepared. */
  preparing: () => Promise<unknown> = async () => {};

  constructor(private readonly commit: Commit = async () => {}) {
    super(undefined as never);
  }

  override async findItems() {
    return [];
  }

  override async prepareSeckillOrder(itemId: bigint, deliveries: readonly Delivery[]): Promise<PreparedEntries> {
    await this.preparing();
    const entries = deliveries.map((entry) => {
      this.prepared.push(entry.streamId);
      return { entry, parsed: { kind: 'malformed', streamId: entry.streamId, reason: '' }, fault: undefined } as const;
    });
    return { stream: { itemId, item: undefined }, entries, suspects: [] };
  }

  override async handleSeckillOrder(
    { stream, entries }: PreparedEntries,
    before: Promise<unknown>,
  ): Promise<Settlement> {
    this.handedOver.push(...entries.map((e) => e.entry.streamId));
    await before;
    this.decided.push(...entries.map((e) => e.entry.streamId));
    await this.commit(
      stream.itemId,
      entries.map((e) => e.entry),
    );
    const settled = entries.map((e) => ({ streamId: e.entry.streamId, uid: '', correction: undefined }));
    return { settled, counts: { ORDER: entries.length, REJECTED: 0, DEAD: 0 }, failed: [] };
  }
}

class RecordingLogger extends Logger {
  readonly errors: string[] = [];
  readonly infos: string[] = [];
  override get debugs() {
    return false;
  }
  override debug() {}
  override info(message: string) {
    this.infos.push(message);
  }
  override warn() {}
  override error(message: string) {
    this.errors.push(message);
  }
  override child() {
    return this;
  }
}

async function until(what: string, condition: () => boolean): Promise<void> {
  for (let i = 0; i < 5_000; i++) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  assert.fail(`${what} never happened`);
}

/** A promise that the test settles. */
function gate() {
  let open = () => {};
  let fail = (_err: Error) => {};
  const promise = new Promise<void>((resolve, reject) => {
    open = resolve;
    fail = reject;
  });
  return { promise, open: () => open(), fail: (err: Error) => fail(err) };
}

describe('SeckillConsumer', () => {
  let consumer: SeckillConsumer | undefined;
  let registry: Registry;
  let commits: number;
  afterEach(() => consumer?.stop(AbortSignal.timeout(1_000)));

  const start = async (streams: Streams, service: Service, logger: Logger = new SilentLogger(), batchSize = 10) => {
    const options = { batchSize, blockMs: 10, claimIdleMs: 60_000 };
    registry = new Registry();
    commits = 0;
    consumer = new SeckillConsumer(streams, service, options, logger, registry, () => commits++);
    await consumer.start();
  };
  const faultyItems = async () => {
    const metrics = await registry.getMetricsAsJSON();
    const { values = [] } = metrics.find((m) => m.name === 'kaimai_seckill_faulty_stream') ?? {};
    return values.map((v) => v.labels.item_id);
  };

  it('reads the next batch while one is settled, and no further one, and decides them in stream order', async () => {
    const first = gate();
    const streams = new Streams(new Map([[ITEM, ['1-0', '2-0', '3-0']]]));
    const service = new Service((_, [entry]) => (entry?.streamId === '1-0' ? first.promise : Promise.resolve()));
    await start(streams, service);
    await until('the second batch', () => service.prepared.length === 2);
    assert.deepEqual([service.prepared, service.decided], [['1-0', '2-0'], ['1-0']]);
    assert.deepEqual(streams.reads, [`pending ${ITEM}`, `new ${ITEM}`, `new ${ITEM}`]);
    first.open();
    await until('the end', () => streams.finished.length === 3);
    assert.deepEqual(service.decided, ['1-0', '2-0', '3-0']);
    assert.deepEqual(streams.finished, ['1-0', '2-0', '3-0']);
  });

  it('decides the batches of segments in their order, also where a read makes more of them than are settled side by side', async () => {
    const entries = Array.from({ length: 20 }, (_, i) => `${i + 1}-0`);
    const streams = new Streams(new Map([[ITEM, [...entries]]]));
    streams.perRead = 8;
    let slower = 20;
    const service = new Service(() => sleep(Math.max(0, slower--)));
    await start(streams, service, new SilentLogger(), 1);
    await until('the end', () => streams.finished.length === entries.length);
    assert.deepEqual(service.decided, entries);
  });

  it('settles the batches of items in turns: one with many segments does not keep the others waiting', async () => {
    const many = Array.from({ length: 8 }, (_, i) => `${i + 1}-0`);
    const streams = new Streams(
      new Map([
        [ITEM, [...many]],
        [OTHER, ['101-0', '102-0']],
      ]),
    );
    streams.perRead = 8;
    const service = new Service(() => sleep(5));
    await start(streams, service, new SilentLogger(), 1);
    await until('the end', () => streams.finished.length === 10);
    assert.deepEqual(service.handedOver.slice(0, 4), ['1-0', '101-0', '2-0', '102-0']);
  });

  it('hands batches over in the order of their stream, although a later one is prepared sooner', async () => {
    const entries = Array.from({ length: 4 }, (_, i) => `${i + 1}-0`);
    const streams = new Streams(new Map([[ITEM, [...entries]]]));
    streams.perRead = 4;
    const service = new Service();
    const waits = [40, 30, 20, 10];
    service.preparing = () => sleep(waits.shift());
    await start(streams, service, new SilentLogger(), 1);
    await until('the end', () => streams.finished.length === entries.length);
    assert.deepEqual(service.prepared, entries.toReversed());
    assert.deepEqual(service.handedOver, entries);
  });

  it('decides nothing behind a batch that failed, and settles its entries again in stream order', async () => {
    const first = gate();
    const streams = new Streams(new Map([[ITEM, ['1-0', '2-0']]]));
    let attempts = 0;
    const service = new Service(() => (attempts++ === 0 ? first.promise : Promise.resolve()));
    await start(streams, service);
    await until('the second batch', () => service.prepared.length === 2);
    first.fail(new Error('planted'));
    await until('the end', () => streams.finished.length === 2);
    assert.deepEqual(service.decided, ['1-0', '1-0', '2-0']);
    assert.ok(streams.reads.filter((read) => read.startsWith('pending')).length >= 2);
  });

  it('tells of each batch that is committed, and of none that failed', async () => {
    const streams = new Streams(new Map([[ITEM, ['1-0', '2-0']]]));
    let attempts = 0;
    // Once the first has failed, both entries go together, or one after the other.
    const service = new Service(() => (attempts++ === 0 ? Promise.reject(new Error('planted')) : Promise.resolve()));
    await start(streams, service);
    await until('the end', () => streams.finished.length === 2);
    assert.ok(attempts > 1);
    assert.equal(commits, attempts - 1);
  });

  it('finishes the batch under way before it stops', async () => {
    const first = gate();
    const streams = new Streams(new Map([[ITEM, ['1-0']]]));
    const service = new Service(() => first.promise);
    await start(streams, service);
    await until('the batch', () => service.decided.length === 1);
    const stopped = consumer!.stop(AbortSignal.timeout(5_000));
    first.open();
    await stopped;
    assert.deepEqual(streams.finished, ['1-0']);
  });

  it('waits for a database that is away without another read of the batch', async () => {
    const streams = new Streams(new Map([[ITEM, ['1-0']]]));
    let failures = 3;
    const service = new Service(() => (failures-- > 0 ? Promise.reject(unavailable('planted')) : Promise.resolve()));
    await start(streams, service);
    await until('the end', () => streams.finished.length === 1);
    assert.deepEqual(service.decided, ['1-0', '1-0', '1-0', '1-0']);
    assert.equal(streams.reads.filter((read) => read.startsWith('pending')).length, 1);
  });

  it('keeps a settled entry until its sale is loaded, although a flush of Redis deleted the pending list', async () => {
    const streams = new Streams(new Map([[ITEM, ['1-0']]]));
    const service = new Service();
    let loaded = false;
    let refusals = 0;
    streams.onFinish = (_, streamIds) => {
      if (loaded) return [];
      refusals += 1;
      streams.pending.clear();
      return streamIds;
    };
    await start(streams, service);
    await until('a second try', () => refusals === 2);
    loaded = true;
    await until('the end', () => streams.finished.length === 1);
    assert.deepEqual(streams.finished, ['1-0']);
  });

  it('keeps committed entries that could not be removed while Redis was away, although Redis came back empty', async () => {
    const streams = new Streams(new Map([[ITEM, ['1-0']]]));
    let away = true;
    streams.onFinish = () => {
      if (!away) return [];
      away = false;
      streams.pending.clear();
      throw unavailable('planted');
    };
    await start(streams, new Service());
    await until('the end', () => streams.finished.length === 1);
  });

  it('keeps the entries of every stream that was read when Redis goes away while the first ones are settled', async () => {
    const items = Array.from({ length: 6 }, (_, i) => ITEM + BigInt(i));
    const streams = new Streams(new Map(items.map((itemId) => [itemId, ['1-0']])));
    let away = true;
    streams.onFinish = () => {
      if (!away) return [];
      streams.pending.clear();
      throw unavailable('planted');
    };
    await start(streams, new Service());
    await until('the loss', () => streams.reads.filter((read) => read.startsWith('new')).length >= 6);
    away = false;
    await until('the end', () => streams.finished.length === 6);
  });

  it('reads no new entries of a stream while a full batch of its entries has to wait', async () => {
    const streams = new Streams(new Map([[ITEM, ['1-0', '2-0', '3-0', '4-0', '5-0', '6-0']]]));
    let loaded = false;
    streams.onFinish = (_, streamIds) => (loaded ? [] : streamIds);
    const service = new Service();
    await start(streams, service, new SilentLogger(), 2);
    await until('several tries', () => service.decided.filter((id) => id === '1-0').length >= 5);
    assert.ok(new Set(service.prepared).size < 6, `${new Set(service.prepared).size} entries are in memory`);
    loaded = true;
    await until('the end', () => new Set(streams.finished).size === 6);
  });

  it('sets aside a stream whose key is no stream, names it once in log and metric, and reads the others', async () => {
    const streams = new Streams(new Map([ITEM, OTHER].map((itemId) => [itemId, ['1-0', '2-0']])));
    streams.unreadable.add(ITEM);
    const logger = new RecordingLogger();
    await start(streams, new Service(), logger);
    await until('the other stream', () => streams.finished.length === 2);
    const triesAt = () => streams.reads.filter((read) => read.endsWith(` ${ITEM}`)).length;
    assert.equal(triesAt(), 0, 'a key that cannot be joined is not read');
    assert.deepEqual(await faultyItems(), [String(ITEM)]);
    streams.unreadable.clear();
    await until('the repaired stream', () => streams.finished.length === 4);
    assert.deepEqual(logger.errors, ['a purchase stream fails and is set aside']);
    await until('the end of the fault', () => logger.infos.length === 1);
    assert.deepEqual(await faultyItems(), []);
  });

  it('sets aside a stream whose key becomes another type while it is read, and backs off', async () => {
    const streams = new Streams(new Map([ITEM, OTHER].map((itemId) => [itemId, ['1-0']])));
    await start(streams, new Service());
    await until('both streams', () => streams.finished.length === 2);
    streams.unreadable.add(ITEM);
    const readsOf = (itemId: bigint) => streams.reads.filter((read) => read.endsWith(` ${itemId}`)).length;
    const [before, others] = [readsOf(ITEM), readsOf(OTHER)];
    await until('many reads of the other stream', () => readsOf(OTHER) > others + 100);
    assert.ok(readsOf(ITEM) - before < 10, `${readsOf(ITEM) - before} reads of the faulty stream`);
    assert.deepEqual(await faultyItems(), [String(ITEM)]);
  });

  it('settles the other streams while one fails', async () => {
    const streams = new Streams(new Map([ITEM, OTHER].map((itemId) => [itemId, ['1-0', '2-0', '3-0']])));
    let broken = true;
    streams.onFinish = (itemId) => {
      if (broken && itemId === ITEM) throw WRONG_TYPE;
      return [];
    };
    const logger = new RecordingLogger();
    await start(streams, new Service(), logger);
    await until('the other stream', () => streams.finished.length === 3);
    assert.deepEqual(await faultyItems(), [String(ITEM)]);
    broken = false;
    await until('the repaired stream', () => new Set(streams.pending.keys()).size === 0);
    assert.deepEqual(logger.errors, ['a purchase stream fails and is set aside']);
  });

  it('settles the other segments while the server of one is away, keeps its entries, and logs the outage once', async () => {
    const streams = new Streams(new Map([[ITEM, ['1-0-1', '2-0-1', '3-0', '4-0', '5-0', '6-0', '7-0-1']]]));
    streams.onFinish = (itemId, streamIds) => streamIds.filter((id) => !streams.reaches(itemId, id));
    // The server goes away with entries in hand, as many as are kept at most.
    const service = new Service(async (_, [entry]) => {
      if (entry?.streamId === '1-0-1' && entry.deliveries === 1) streams.away.add(1);
    });
    const logger = new RecordingLogger();
    await start(streams, service, logger, 1);
    await until('the other segment', () => ['3-0', '4-0', '5-0', '6-0'].every((id) => streams.finished.includes(id)));
    const reads = streams.reads.length;
    await until('more reads', () => streams.reads.length > reads + 50);
    assert.equal(service.decided.filter((id) => id === '1-0-1').length, 1, 'what is kept is not settled again');
    assert.ok(!streams.finished.includes('1-0-1'));
    assert.deepEqual(logger.errors, ['seckill_consumer: purchase streams cannot be reached, and the others go on']);
    // Redis lost the pending list with the server.
    streams.pending.clear();
    const pendingReads = () => streams.reads.filter((read) => read.startsWith('pending')).length;
    const before = pendingReads();
    streams.away.clear();
    streams.back.push(ITEM);
    await until('all entries', () => new Set(streams.finished).size === 7);
    assert.ok(pendingReads() > before, 'entries of a reply that was lost are pending');
    await until('the end of the outage', () => logger.infos.length === 1);
    assert.deepEqual(logger.infos, ['seckill_consumer: all purchase streams can be reached again']);
  });

  it('reports how old its oldest unsettled entry is, and leaves when it stops', async () => {
    const first = gate();
    const streams = new Streams(new Map([[ITEM, ['1-0']]]));
    const service = new Service(() => first.promise);
    await start(streams, service);
    await until('the batch', () => service.decided.length === 1);
    const before = streams.reports.length;
    await until('two reports', () => streams.reports.length >= before + 2);
    const [earlier, later] = streams.reports.slice(-2);
    assert.ok(earlier !== undefined && later !== undefined && later > earlier, 'the entry gets older');
    first.open();
    await until('the end', () => streams.finished.length === 1);
    await until('a report after it', () => (streams.reports.at(-1) ?? 0) < later);
    await consumer!.stop(AbortSignal.timeout(1_000));
    assert.equal(streams.reports.at(-1), undefined);
  });
});
