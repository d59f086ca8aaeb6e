import { setTimeout as sleep } from 'node:timers/promises';
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import { isUnavailable } from '../../gen/common/v1/errors.js';
import type { Delivery, PurchaseConsumer } from '../biz/seckill/purchase-stream.js';
import type { Settlement } from '../biz/seckill/settlement-state.js';
import type { Server } from '../kratos/app/server.js';
import { aborted } from '../kratos/background/aborted.js';
import type { BackgroundMeter } from '../kratos/background/background-meter.js';
import { Loop } from '../kratos/background/loop.js';
import type { Logger } from '../kratos/log/logger.js';
import type { SeckillOrderService } from '../service/seckill.js';

export interface SeckillConsumerOptions {
  /** Entries of one transaction. */
  readonly batchSize: number;
  /** Longest wait for new entries. */
  readonly blockMs: number;
  /** Idle time after which another consumer's entries are claimed. */
  readonly claimIdleMs: number;
}

/** How often new streams are looked for; a stream that appears is read after at most this and one wait. */
const DISCOVER_MS = 500;
const MAX_BLOCK_MS = 500;
const MAX_BACKOFF_MS = 2_000;
const IDLE_MS = 50;
/** Items whose batches are settled side by side. */
const SIDE_BY_SIDE = 4;

/** Where the reading of one item stands. */
interface Reading {
  /** Whether there may be entries that this consumer was given and has not finished. */
  pending: boolean;
  /** Not before this time, since what it has could not be finished. */
  notBeforeMs: number;
}

/*
 * Turns stream entries into orders: one loop reads, one claims what the dead left behind.
 *
 *   join: own = true ─▶ read own pending ─ none left ─▶ own = false ─▶ read new ─▶ settle ─▶ take off the stream
 *             ▲                                                          │ anything fails or is not finished
 *             └──────────────────────────────────────────────────────────┘
 *
 * While a batch is settled the next one is read and made ready, no more than that one. It is decided when the one before
 * it is committed, so that an item's entries are decided in the order of its stream.
 *
 * An entry stays pending until its outcome is committed and it was taken off, so whatever fails in between is met again:
 * by the own name after a failure or a restart, by another consumer's claim after a death.
 */
export class SeckillConsumer implements Server {
  readonly name = 'seckill_consumer';
  private readonly readings = new Map<bigint, Reading>();
  private readonly reader: Loop;
  private readonly claimer: Loop;
  private readonly metrics: Metrics;
  /** What was read last and may still be settled. */
  private underWay: Promise<void> = Promise.resolve();
  /** Of the items that are being settled: when the last batch that was read is committed. */
  private readonly turns = new Map<bigint, Promise<unknown>>();
  private discoverAtMs = 0;
  private readonly stopping = new AbortController();

  constructor(
    private readonly consumer: PurchaseConsumer,
    private readonly service: SeckillOrderService,
    private readonly options: SeckillConsumerOptions,
    private readonly logger: Logger,
    registry: Registry,
  ) {
    this.metrics = new Metrics(registry);
    this.reader = new Loop({
      name: this.name,
      round: () => this.readRound(),
      idleMs: IDLE_MS,
      logger,
    });
    this.claimer = new Loop({
      name: `${this.name}_claims`,
      round: () => this.claimRound(),
      idleMs: Math.max(IDLE_MS, options.claimIdleMs / 3),
      logger,
    });
  }

  observe(meter: BackgroundMeter): void {
    this.reader.observe(meter);
  }

  async start(): Promise<void> {
    await this.reader.start();
    await this.claimer.start();
  }

  /** Finishes the batches under way; what was read and not settled stays pending. */
  async stop(deadline: AbortSignal): Promise<void> {
    this.stopping.abort();
    this.consumer.interrupt();
    await Promise.all([this.reader.stop(deadline), this.claimer.stop(deadline)]);
    await Promise.race([this.underWay.catch(() => {}), aborted(deadline)]);
  }

  private async readRound(): Promise<number> {
    try {
      await this.discover();
      if (this.readings.size === 0) return 0;
      // What is being settled would be read as unfinished.
      if ([...this.readings.values()].some((r) => r.pending)) await this.underWay;
      const nowMs = Date.now();
      const due = [...this.readings].filter(([, r]) => r.notBeforeMs <= nowMs);
      const requests = due.map(([itemId, r]) => ({
        itemId,
        from: r.pending ? ('pending' as const) : ('new' as const),
      }));
      // Items that wait for another try must not wait for other items' entries.
      const blockMs = due.length < this.readings.size ? IDLE_MS : Math.min(MAX_BLOCK_MS, this.options.blockMs);
      const read = await this.consumer.read(requests, this.options.batchSize, blockMs);
      await this.rejoin(requests.filter((r) => !read.has(r.itemId)).map((r) => r.itemId));
      for (const { itemId, from } of requests) {
        const reading = this.readings.get(itemId);
        if (reading && from === 'pending' && read.get(itemId)?.length === 0) reading.pending = false;
      }
      const before = this.underWay;
      this.underWay = this.settleAll(read);
      // The next round meets what it fails with.
      this.underWay.catch(() => {});
      await before;
      const entries = [...read.values()].reduce((sum, deliveries) => sum + deliveries.length, 0);
      // After a read that found nothing the next one waits by itself.
      return Math.max(1, entries);
    } catch (err) {
      await this.underWay.catch(() => {});
      this.underWay = Promise.resolve();
      this.turns.clear();
      if (this.stopping.signal.aborted) return 0;
      // What was read is pending under this name now, whether or not its reply came.
      for (const reading of this.readings.values()) reading.pending = true;
      throw err;
    }
  }

  private async claimRound(): Promise<number> {
    let claimed = 0;
    for (const itemId of this.readings.keys()) {
      if (this.stopping.signal.aborted) break;
      const deliveries = await this.consumer.claim(itemId, this.options.claimIdleMs, this.options.batchSize);
      if (deliveries.length === 0) continue;
      claimed += deliveries.length;
      this.metrics.claimed.inc(deliveries.length);
      this.logger.info('claimed entries that another consumer left', {
        itemId: String(itemId),
        count: deliveries.length,
      });
      await this.settle(itemId, this.decide(itemId, deliveries));
    }
    return claimed;
  }

  private async discover(): Promise<void> {
    const nowMs = Date.now();
    if (nowMs < this.discoverAtMs) return;
    const found = await this.consumer.discover(await this.service.findItemIds());
    const fresh = found.filter((itemId) => !this.readings.has(itemId));
    if (fresh.length > 0) {
      await this.consumer.join(fresh);
      for (const itemId of fresh) this.readings.set(itemId, { pending: true, notBeforeMs: 0 });
    }
    this.metrics.streams.set(this.readings.size);
    this.discoverAtMs = nowMs + DISCOVER_MS;
  }

  private async rejoin(itemIds: readonly bigint[]): Promise<void> {
    if (itemIds.length === 0) return;
    this.logger.warn('consumer groups are gone and made again', { count: itemIds.length });
    await this.consumer.join(itemIds);
    for (const itemId of itemIds) this.readings.set(itemId, { pending: true, notBeforeMs: 0 });
  }

  private async settleAll(read: ReadonlyMap<bigint, readonly Delivery[]>): Promise<void> {
    const batches = [...read].filter(([, deliveries]) => deliveries.length > 0);
    for (let i = 0; i < batches.length; i += SIDE_BY_SIDE) {
      const settled = await Promise.allSettled(
        batches.slice(i, i + SIDE_BY_SIDE).map(([itemId, deliveries]) => this.settleInTurn(itemId, deliveries)),
      );
      const failed = settled.find((s) => s.status === 'rejected');
      if (failed) throw failed.reason;
    }
  }

  private settleInTurn(itemId: bigint, deliveries: readonly Delivery[]): Promise<void> {
    const decided = this.decide(itemId, deliveries, this.turns.get(itemId));
    // One that failed stays, so that nothing behind it is decided before it is read again.
    const turn = decided.then(() => {});
    turn.catch(() => {});
    this.turns.set(itemId, turn);
    return this.settle(itemId, decided);
  }

  private async settle(itemId: bigint, decided: Promise<Settlement>): Promise<void> {
    const end = this.metrics.seconds.startTimer();
    const { settled, counts, failed } = await decided;
    const later = await this.consumer.finish(itemId, settled);
    end();
    for (const [outcome, count] of Object.entries(counts)) this.metrics.entries.inc({ outcome }, count);
    if (counts.DEAD > 0) this.logger.warn('entries put aside', { itemId: String(itemId), count: counts.DEAD });
    for (const { streamId, cause } of failed) {
      this.logger.error('an entry failed and will be tried again', { itemId: String(itemId), streamId, err: cause });
    }
    if (later.size + failed.length > 0) {
      this.readings.set(itemId, { pending: true, notBeforeMs: Date.now() + IDLE_MS * (5 + Math.random() * 5) });
    }
  }

  /**
   * Waits for a database that is away with the batch in hand: reading it again would count as a delivery each time, and
   * entries would look as if they were to blame.
   */
  private async decide(itemId: bigint, deliveries: readonly Delivery[], turn?: Promise<unknown>): Promise<Settlement> {
    for (let failures = 0; ; ) {
      try {
        const prepared = await this.service.prepareSeckillOrder(itemId, deliveries);
        await turn;
        return await this.service.handleSeckillOrder(prepared);
      } catch (err) {
        if (!isUnavailable(err) || this.stopping.signal.aborted) throw err;
        failures += 1;
        const waitMs = Math.min(MAX_BACKOFF_MS, IDLE_MS * 2 ** Math.min(failures, 16)) * (0.5 + Math.random() / 2);
        this.logger.warn(`${this.name}: entries wait for the database`, { itemId: String(itemId), failures, err });
        await sleep(waitMs, undefined, { signal: this.stopping.signal }).catch(() => {});
      }
    }
  }
}

class Metrics {
  readonly entries: Counter<'outcome'>;
  readonly claimed: Counter;
  readonly streams: Gauge;
  readonly seconds: Histogram;

  constructor(registry: Registry) {
    const registers = [registry];
    this.entries = new Counter({
      name: 'kaimai_seckill_entries_total',
      help: 'Stream entries settled, by outcome',
      labelNames: ['outcome'],
      registers,
    });
    this.claimed = new Counter({
      name: 'kaimai_seckill_claimed_total',
      help: 'Stream entries taken over from other consumers',
      registers,
    });
    this.streams = new Gauge({ name: 'kaimai_seckill_streams', help: 'Streams that are read', registers });
    this.seconds = new Histogram({
      name: 'kaimai_seckill_batch_seconds',
      help: 'Time from a batch being read to its entries being off the stream',
      buckets: [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
      registers,
    });
  }
}
