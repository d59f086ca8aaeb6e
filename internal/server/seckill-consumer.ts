import { setTimeout as sleep } from 'node:timers/promises';
import type { Registry } from 'prom-client';
import { isUnavailable } from '../../gen/common/v1/errors.js';
import type { PurchaseConsumer } from '../biz/seckill/purchase-stream.js';
import type { Settlement } from '../biz/seckill/settlement-state.js';
import type { Server } from '../kratos/app/server.js';
import { aborted } from '../kratos/background/aborted.js';
import type { BackgroundMeter } from '../kratos/background/background-meter.js';
import { Loop, type WorkDone } from '../kratos/background/loop.js';
import type { Logger } from '../kratos/log/logger.js';
import type { SeckillOrderService } from '../service/seckill.js';
import { type ConsumerBatch, chunksOf, inTurns, withoutDoubles } from './seckill-consumer-batch.js';
import { SeckillConsumerMetrics } from './seckill-consumer-metrics.js';
import { ConsumerStream, type Turn } from './seckill-consumer-stream.js';

export interface SeckillConsumerOptions {
  /** Entries of one transaction. */
  readonly batchSize: number;
  /** Longest wait for new entries. */
  readonly blockMs: number;
  /** Idle time after which another consumer's entries are claimed. */
  readonly claimIdleMs: number;
}

/** How often new streams are looked for. A new stream is read after at most this and one wait for entries. */
const DISCOVER_MS = 500;
const REPORT_MS = 500;
const MAX_BLOCK_MS = 500;
const MAX_BACKOFF_MS = 2_000;
const IDLE_MS = 50;
/** Batches that are settled side by side: of several items, or of the segments of one. */
const SIDE_BY_SIDE = 4;
const NOTHING_KEPT = { deliveries: [], readAtMs: Number.POSITIVE_INFINITY };

interface OpenRead {
  /** When the oldest of its entries was read, as `performance.now()`. */
  atMs: number;
}

/*
 * Turns stream entries into orders. One loop reads, one claims what dead consumers left behind, one reports.
 *
 *   join ─▶ read pending entries ─ none left ─▶ read new ones ─▶ settle ─▶ remove from the stream
 *                  ▲                                               │ anything fails
 *                  └───────────────────────────────────────────────┘
 *
 * While a batch is settled the next one is read and prepared, and no further one. It is committed when the batch before it
 * is, so an item's entries are decided in the order of its stream.
 *
 * An entry stays pending until its outcome is committed and it was removed, so whatever fails in between is met again: by
 * the same name after a failure or a restart, by another consumer's claim after a death. A flush of Redis deletes pending
 * lists; that is why entries that could not be finished are kept in memory as well.
 *
 * A stream that cannot be read or settled is set aside with a growing backoff; the others go on. So they do while one server
 * of a cluster is away: entries of its streams that are in hand are kept until it is back.
 */
export class SeckillConsumer implements Server {
  readonly name = 'seckill_consumer';
  private readonly streams = new Map<bigint, ConsumerStream>();
  private readonly reader: Loop;
  private readonly claimer: Loop;
  private readonly reporter: Loop;
  private readonly metrics: SeckillConsumerMetrics;
  /** The batches that were read last and may still be settled. */
  private underWay: Promise<void> = Promise.resolve();
  /** Resolves when all batches that were read have begun, so that those of a stream begin in its order. */
  private allBegun: Promise<void> = Promise.resolve();
  /** Reads whose entries are not all settled. */
  private readonly openReads = new Set<OpenRead>();
  private discoverAtMs = 0;
  /** Streams that were set aside since the last round ended. */
  private isolated = 0;
  /** Whether a server was away in the last read. */
  private outage = false;
  private readonly stopping = new AbortController();

  /** @param onCommitted told of each batch that is committed, so that what it left in the outbox is published at once */
  constructor(
    private readonly consumer: PurchaseConsumer,
    private readonly service: SeckillOrderService,
    private readonly options: SeckillConsumerOptions,
    private readonly logger: Logger,
    registry: Registry,
    private readonly onCommitted: () => void = () => {},
  ) {
    this.metrics = new SeckillConsumerMetrics(registry);
    const loop = (suffix: string, idleMs: number, round: () => Promise<number | WorkDone>) =>
      new Loop({ name: `${this.name}${suffix}`, round, idleMs, logger });
    this.reader = loop('', IDLE_MS, () => this.readRound());
    this.claimer = loop('_claims', Math.max(IDLE_MS, options.claimIdleMs / 3), () => this.claimRound());
    this.reporter = loop('_reports', REPORT_MS, () => this.reportRound());
  }

  observe(meter: BackgroundMeter): void {
    for (const loop of [this.reader, this.claimer, this.reporter]) loop.observe(meter);
  }

  async start(): Promise<void> {
    await this.reader.start();
    await this.claimer.start();
    await this.reporter.start();
  }

  /** Finishes the batches under way. Entries that were read and not settled stay pending. */
  async stop(deadline: AbortSignal): Promise<void> {
    this.stopping.abort();
    this.consumer.interrupt();
    await Promise.all([this.reader.stop(deadline), this.claimer.stop(deadline)]);
    await Promise.race([this.underWay.catch(() => {}), aborted(deadline)]);
    await this.reporter.stop(deadline);
    // Without this last report the process counts as one that may hold entries until it is taken for dead.
    if (this.openReads.size === 0) await this.consumer.report(undefined).catch(() => {});
  }

  private async readRound(): Promise<WorkDone> {
    const read = { atMs: performance.now() };
    this.openReads.add(read);
    try {
      await this.discover();
      const due = [...this.streams.values()].filter((s) => s.waitMs(read.atMs) === 0);
      if (due.some((s) => s.readsPending)) {
        // Entries that are being settled are pending too and would be read a second time.
        await this.underWay;
        for (const stream of due) if (stream.readsPending) stream.committed = Promise.resolve();
      }
      await this.join(due.filter((s) => !s.joined));
      const batches = await this.readBatches(
        due.filter((s) => s.joined),
        read,
      );
      const before = this.underWay;
      const earlier = this.allBegun;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.allBegun = promise;
      this.underWay = earlier.then(() => this.settleAll(batches, resolve)).finally(() => this.openReads.delete(read));
      // The next round meets what it fails with.
      this.underWay.catch(() => {});
      await before;
      const units = batches.reduce((sum, b) => sum + b.deliveries.length, 0);
      const { isolated } = this;
      this.isolated = 0;
      // After a read that found nothing the next one waits by itself.
      return { units, isolated, again: due.length > 0 };
    } catch (err) {
      await this.underWay.catch(() => {});
      this.openReads.delete(read);
      this.underWay = Promise.resolve();
      if (this.stopping.signal.aborted) return { units: 0 };
      // Entries may be pending under this name although their reply never came.
      for (const stream of this.streams.values()) stream.readsPending = true;
      throw err;
    }
  }

  private async claimRound(): Promise<number> {
    let claimed = 0;
    for (const stream of this.streams.values()) {
      if (this.stopping.signal.aborted) break;
      if (!stream.joined || stream.faulty) continue;
      const read = { atMs: performance.now() };
      this.openReads.add(read);
      try {
        const { claimIdleMs, batchSize } = this.options;
        const deliveries = await this.consumer.claim(stream.itemId, claimIdleMs, batchSize);
        if (deliveries.length === 0) continue;
        claimed += deliveries.length;
        this.metrics.claimed.inc(deliveries.length);
        const details = { itemId: String(stream.itemId), count: deliveries.length };
        this.logger.info('claimed entries that another consumer left', details);
        const batch = { stream, deliveries, readAtMs: read.atMs };
        await this.settle(batch, this.commit(batch, Promise.resolve()));
      } finally {
        this.openReads.delete(read);
      }
    }
    return claimed;
  }

  private async reportRound(): Promise<number> {
    const nowMs = performance.now();
    let oldestMs = nowMs;
    for (const read of this.openReads) oldestMs = Math.min(oldestMs, read.atMs);
    for (const stream of this.streams.values()) oldestMs = Math.min(oldestMs, stream.oldestKeptMs);
    await this.consumer.report(nowMs - oldestMs);
    return 0;
  }

  private async discover(): Promise<void> {
    const nowMs = performance.now();
    if (nowMs < this.discoverAtMs) return;
    for (const itemId of await this.consumer.discover(await this.service.findItems())) {
      if (!this.streams.has(itemId)) this.streams.set(itemId, new ConsumerStream(itemId));
    }
    this.metrics.streams.set(this.streams.size);
    this.discoverAtMs = nowMs + DISCOVER_MS;
  }

  private async join(streams: readonly ConsumerStream[]): Promise<void> {
    if (streams.length === 0) return;
    const unusable = await this.consumer.join(streams.map((s) => s.itemId));
    for (const stream of streams) {
      if (unusable.has(stream.itemId)) this.setAside(stream, unusable.get(stream.itemId));
      else stream.joined = stream.readsPending = true;
    }
  }

  private async readBatches(streams: readonly ConsumerStream[], open: OpenRead): Promise<readonly ConsumerBatch[]> {
    const { batchSize } = this.options;
    const readAtMs = performance.now();
    // A stream whose entries cannot be finished is not read on, so that the memory they take is bounded.
    const requests = streams
      .filter((s) => s.keptCount(this.reachOf(s)) < batchSize)
      .map((s) => ({ itemId: s.itemId, from: s.readsPending ? ('pending' as const) : ('new' as const) }));
    const blockMs = streams.some((s) => s.keptCount(this.reachOf(s)) > 0) ? 1 : this.blockMs(readAtMs);
    const { deliveries, groupless, unreadable, away, back } = await this.consumer.read(requests, batchSize, blockMs);
    this.noteOutage(away);
    for (const { itemId } of requests) {
      if (away.has(itemId) && !deliveries.has(itemId)) this.streamOf(itemId).retryLater(readAtMs);
    }
    for (const itemId of back) {
      const stream = this.streams.get(itemId);
      if (stream) stream.joined = false;
    }
    if (groupless.length > 0) {
      this.logger.warn('consumer groups are gone and are created again', { items: groupless.length });
    }
    for (const itemId of groupless) this.streamOf(itemId).joined = false;
    for (const stream of streams) stream.unreadable = unreadable.has(stream.itemId);
    for (const [itemId, err] of unreadable) {
      this.setAside(this.streamOf(itemId), err);
      // The other segments are read on meanwhile.
      if (deliveries.has(itemId)) this.streamOf(itemId).retryLater(readAtMs);
    }
    const batches = streams.map((stream): ConsumerBatch[] => {
      const read = deliveries.get(stream.itemId);
      const reaches = this.reachOf(stream);
      const kept = stream.keptCount(reaches) > 0 ? stream.takeKept(batchSize, reaches) : NOTHING_KEPT;
      open.atMs = Math.min(open.atMs, kept.readAtMs);
      const all = kept.deliveries.length === 0 ? (read ?? []) : withoutDoubles([...kept.deliveries, ...(read ?? [])]);
      if (all.length > 0) {
        const batch = { stream, readAtMs: Math.min(readAtMs, kept.readAtMs) };
        return chunksOf(all, batchSize).map((deliveries) => ({ ...batch, deliveries }));
      }
      if (read) {
        stream.readsPending = false;
        this.recover(stream);
      }
      return [];
    });
    return inTurns(batches);
  }

  /** A stream that waits for another try must not wait for other streams' entries. */
  private blockMs(nowMs: number): number {
    const waits = [...this.streams.values()].map((s) => s.waitMs(nowMs)).filter((ms) => ms > 0);
    // 0 would wait for ever.
    return Math.max(1, Math.floor(Math.min(MAX_BLOCK_MS, this.options.blockMs, ...waits)));
  }

  /** @param onBegun called when no further batch of these will begin: those of the next read may */
  private async settleAll(batches: readonly ConsumerBatch[], onBegun: () => void): Promise<void> {
    const running = new Set<Promise<void>>();
    const failures: unknown[] = [];
    let begun = 0;
    for (; begun < batches.length; begun++) {
      while (running.size >= SIDE_BY_SIDE) await Promise.race(running);
      if (failures.length > 0) break;
      const settling = this.settleInOrder(batches[begun]!)
        .catch((err: unknown) => void failures.push(err))
        .finally(() => running.delete(settling));
      running.add(settling);
    }
    onBegun();
    await Promise.all(running);
    if (failures.length === 0) return;
    for (const { stream, deliveries, readAtMs } of batches.slice(begun)) stream.keep(deliveries, readAtMs);
    throw failures[0];
  }

  private settleInOrder(batch: ConsumerBatch): Promise<void> {
    const { stream } = batch;
    const committed = this.commit(batch, stream.committed, stream.nextTurn());
    // After a failure it stays rejected, so that no later batch is decided before the failed entries are read again.
    stream.committed = committed;
    committed.catch(() => {});
    return this.settle(batch, committed);
  }

  /** @throws UNAVAILABLE; any other failure is this stream's alone */
  private async settle({ stream, deliveries, readAtMs }: ConsumerBatch, committed: Promise<Settlement>): Promise<void> {
    const end = this.metrics.seconds.startTimer();
    let unfinished = deliveries;
    const causes = new Map<string, unknown>();
    try {
      const { settled, counts, failed } = await committed;
      this.onCommitted();
      const later = await this.consumer.finish(stream.itemId, settled);
      end();
      for (const f of failed) causes.set(f.streamId, f.cause);
      unfinished = deliveries.filter((d) => later.has(d.streamId) || causes.has(d.streamId));
      this.count(stream, counts, causes);
      if (unfinished.length > 0) stream.retryLater(performance.now());
      else this.recover(stream);
      if (failed.length > 0) stream.readsPending = true;
    } catch (err) {
      stream.readsPending = true;
      if (isUnavailable(err)) throw err;
      this.setAside(stream, err);
    } finally {
      const again = unfinished.map((d) => {
        // An entry that failed on its own gets closer to the dead letters. The others have an outcome, or their batch
        // failed: never a first delivery again, so that settlement looks their outcome up.
        return { ...d, deliveries: causes.has(d.streamId) ? d.deliveries + 1 : Math.max(2, d.deliveries) };
      });
      stream.keep(again, readAtMs);
    }
  }

  private count(stream: ConsumerStream, counts: Settlement['counts'], causes: ReadonlyMap<string, unknown>): void {
    const itemId = String(stream.itemId);
    for (const [outcome, count] of Object.entries(counts)) this.metrics.entries.inc({ outcome }, count);
    if (counts.DEAD > 0) this.logger.warn('entries became dead letters', { itemId, count: counts.DEAD });
    for (const [streamId, err] of causes) {
      this.logger.error('an entry failed and will be tried again', { itemId, streamId, err });
    }
  }

  /**
   * Waits for a database that is away with the batch in hand. To read it again would count as a delivery each time, and
   * its entries would look as if they were at fault.
   *
   * @param turn the batch is handed over in it, although one behind it may be prepared sooner
   */
  private async commit(
    { stream, deliveries }: ConsumerBatch,
    before: Promise<unknown>,
    turn?: Turn,
  ): Promise<Settlement> {
    for (let failures = 0; ; ) {
      try {
        const prepared = await this.service.prepareSeckillOrder(stream.itemId, deliveries);
        await turn?.come;
        const committing = this.service.handleSeckillOrder(prepared, before);
        turn?.end();
        return await committing;
      } catch (err) {
        turn?.end();
        if (!isUnavailable(err) || this.stopping.signal.aborted) throw err;
        failures += 1;
        if (failures === 1) {
          this.logger.warn(`${this.name}: entries wait for the database`, { itemId: String(stream.itemId), err });
        }
        const waitMs = Math.min(MAX_BACKOFF_MS, IDLE_MS * 2 ** Math.min(failures, 16)) * (0.5 + Math.random() / 2);
        await sleep(waitMs, undefined, { signal: this.stopping.signal }).catch(() => {});
      }
    }
  }

  private reachOf({ itemId }: ConsumerStream): (streamId: string) => boolean {
    return (streamId) => this.consumer.reaches(itemId, streamId);
  }

  /** Logged once for an outage, however many streams and tries it takes. */
  private noteOutage(away: ReadonlyMap<bigint, unknown>): void {
    const isOutage = away.size > 0;
    if (isOutage === this.outage) return;
    this.outage = isOutage;
    if (!isOutage) {
      this.logger.info(`${this.name}: all purchase streams can be reached again`);
      return;
    }
    const [err] = away.values();
    this.isolated += away.size;
    const details = { items: away.size, err };
    this.logger.error(`${this.name}: purchase streams cannot be reached, and the others go on`, details);
  }

  private streamOf(itemId: bigint): ConsumerStream {
    const stream = this.streams.get(itemId);
    if (!stream) throw new Error(`item ${itemId} was read without a request`);
    return stream;
  }

  /** Logged once, when it begins. */
  private setAside(stream: ConsumerStream, err: unknown): void {
    const itemId = String(stream.itemId);
    if (!stream.faulty) {
      this.metrics.faulty.set({ item_id: itemId }, 1);
      this.logger.error('a purchase stream fails and is set aside', { itemId, err });
    }
    stream.fail(performance.now());
    this.isolated += 1;
  }

  private recover(stream: ConsumerStream): void {
    if (!stream.faulty || stream.unreadable) return;
    const itemId = String(stream.itemId);
    this.metrics.faulty.remove({ item_id: itemId });
    this.logger.info('a purchase stream works again', { itemId });
    stream.recover();
  }
}
