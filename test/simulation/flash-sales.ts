import type { Container } from 'inversify';
import { isInvalidArgument, isUnavailable } from '../../gen/common/v1/errors.js';
import { isSaleStatusConflict, isSaleUnavailable, isSaleVersionConflict } from '../../gen/seckill/v1/errors.js';
import { OutboxHandler } from '../../internal/biz/outbox.js';
import type { Delivery, StreamEntry } from '../../internal/biz/seckill/purchase-stream.js';
import { SaleUsecase } from '../../internal/biz/seckill/sale.js';
import { SaleUnitsComparison } from '../../internal/biz/seckill/sale-drift.js';
import { SaleSchedule } from '../../internal/biz/seckill/sale-schedule.js';
import type { Sale } from '../../internal/biz/seckill/sale-state.js';
import { SeckillUsecase } from '../../internal/biz/seckill/seckill.js';
import { TOPIC_SECKILL_RETURN } from '../../internal/biz/seckill/seckill-return.js';
import { homeSegment } from '../../internal/biz/seckill/segment.js';
import { SettlementUsecase } from '../../internal/biz/seckill/settlement.js';
import type { Settlement } from '../../internal/biz/seckill/settlement-state.js';
import type { World } from './world.js';

const CLICKS = 4;
const BATCH = 4;
/** Rounds of the keeper after which no difference may be left: it reloads a sale after three. */
const KEEPER_ROUNDS = 40;

/** A replica's part in the sales. What it has in memory dies with the call that it is used in. */
export class Replica {
  readonly sales: SaleUsecase;
  readonly seckill: SeckillUsecase;
  /** Of the running process. */
  settlements: SettlementUsecase;
  readonly schedule: SaleSchedule;
  readonly comparison: SaleUnitsComparison;
  readonly returns: OutboxHandler;
  /** Entries that were read and could not be finished yet, by item. Redis may have lost them since. */
  readonly kept = new Map<bigint, readonly Delivery[]>();

  constructor(container: Container) {
    this.sales = container.get(SaleUsecase);
    this.seckill = container.get(SeckillUsecase);
    this.settlements = container.get(SettlementUsecase);
    this.schedule = container.get(SaleSchedule);
    this.comparison = container.get(SaleUnitsComparison);
    this.returns = container.get(OutboxHandler);
  }
}

/** Buyers, foreign clients, consumers, the keeper, operators, and a Redis server that loses data. */
export class FlashSales {
  private nextRequest = 0;

  constructor(
    private readonly world: World,
    readonly sales: readonly Sale[],
    private readonly replicas: readonly Replica[],
  ) {}

  /** More units than the sales have are asked for, by their service and by foreign clients. */
  async buyers(): Promise<void> {
    const { random, scheduler } = this.world;
    const clicks: Promise<void>[] = [];
    for (let n = 0; n < 16; n++) {
      for (let turns = random.int(16); turns > 0; turns--) await scheduler.turn();
      const sale = random.pick(this.sales);
      if (random.chance(0.25)) this.foreign(sale);
      else clicks.push(this.buyer(sale));
    }
    await Promise.all(clicks);
  }

  /** Another program adds an entry to the stream by itself, perhaps one that cannot be read. */
  private foreign(sale: Sale): void {
    const { random, redis, entries, nowMs, saleUnits } = this.world;
    const uid = random.chance(0.15) ? 'no-uuid' : this.world.randomUser();
    const fields = new Map([['uid', uid]]);
    if (random.chance(0.3)) fields.set('req_id', String((sale.firstEpoch << 32n) + BigInt(random.int(8))));
    if (random.chance(0.5)) fields.set('ts', String(nowMs));
    if (sale.orderType === 'GOODS' || random.chance(0.1)) fields.set('qty', String(1 + random.int(3)));
    // After the end an entry may still come from a client that knew the sale.
    if (saleUnits.sales.find(String(sale.id))?.status === 'CLOSED' && random.chance(0.8)) {
      fields.set('epoch', String(sale.firstEpoch));
    }
    const streamId = redis.at(homeSegment(uid, sale.segments)).add(sale.itemId, fields);
    entries.push({ itemId: sale.itemId, streamId, fields });
  }

  /** Clicks, perhaps several times with one request id, until an answer arrives. */
  private async buyer(sale: Sale): Promise<void> {
    const { random, faults, history, units } = this.world;
    const userId = this.world.randomUser();
    const requestId = random.chance(0.7) ? `click-${++this.nextRequest}` : '';
    const quantity = sale.orderType === 'GOODS' ? 1 + random.int(3) : 1;
    const wanted = { itemId: sale.itemId, userId, quantity, requestId, traceparent: '', token: '' };
    const click = async () => {
      for (let n = 0; n < CLICKS; n++) {
        const { seckill } = random.pick(this.replicas);
        const watched = units.begin(sale);
        const outcome = await faults.attempt('purchase', () => seckill.purchase(wanted).catch(unlessAway));
        units.end(watched);
        if (outcome?.kind === 'SOLD_OUT' && watched.fewest >= quantity) {
          history.falselySoldOut.push(`${quantity} of item ${sale.itemId} were sold out at ${watched.fewest} units`);
        }
        if (outcome?.kind === 'QUEUED') history.queued.push({ ...wanted, seckillId: outcome.seckillId });
        // Without a request id another try would be another purchase.
        if (outcome !== undefined || requestId === '') return;
      }
    };
    await Promise.all(Array.from({ length: requestId === '' ? 1 : 1 + random.int(2) }, click));
  }

  /**
   * What a consumer does in one round: it reads some entries of one item, settles them and takes them off the stream. Perhaps
   * it reads a second batch while the first one is settled.
   */
  async consume(consumer: Replica): Promise<void> {
    const { random, redis, stream, scheduler, faults, bugs } = this.world;
    const waiting = redis.itemIds.filter((itemId) => this.world.waiting(itemId).length > 0);
    const readable = [...new Set([...waiting, ...consumer.kept.keys()])];
    if (readable.length === 0) return;
    const itemId = random.pick(readable);
    const kept = consumer.kept.get(itemId) ?? [];
    const entries = this.world.waiting(itemId);
    // Entries gather, as they do while the consumers are busy.
    if (kept.length === 0 && entries.length < BATCH && random.chance(0.6)) return;
    const overlaps = entries.length > 1 && random.chance(0.7);
    const first = entries.slice(0, 1 + random.int(overlaps ? Math.min(BATCH, entries.length - 1) : BATCH));
    const second = overlaps ? entries.slice(first.length, first.length + 1 + random.int(BATCH)) : [];
    // A second batch is settled ahead only where its entries are new.
    const deliveries = random.chance(0.7) ? 1 : 2;
    const delivered = (read: readonly StreamEntry[]) => read.map((e) => ({ ...e, deliveries }));
    const batches = [[...kept, ...delivered(first)], delivered(second)].filter((batch) => batch.length > 0);
    if (bugs.entriesLeaveFirst) {
      const settled = first.map(({ streamId }) => ({ streamId, uid: '', correction: undefined }));
      await stream.finish(itemId, settled).catch(unlessAway);
    }
    await scheduler.turn();
    const later = await faults.attempt('consume', async () => {
      let before: Promise<unknown> = Promise.resolve();
      const left = batches.map((batch) => {
        const committed = this.commit(consumer, itemId, batch, before);
        before = committed;
        before.catch(() => {});
        return this.finish(itemId, batch, committed);
      });
      return (await Promise.all(left)).flat();
    });
    if (!later) return this.died(consumer);
    if (later.length > 0) {
      consumer.kept.set(
        itemId,
        later.map((d) => ({ ...d, deliveries: 2 })),
      );
    } else consumer.kept.delete(itemId);
  }

  /** @param before rejects if the batch before this one was not committed: then this one is not either */
  private async commit(
    { settlements }: Replica,
    itemId: bigint,
    batch: readonly Delivery[],
    before: Promise<unknown>,
  ): Promise<Settlement> {
    return settlements.commit(await settlements.prepare(itemId, batch), before);
  }

  /** @returns those that have to be finished later */
  private async finish(
    itemId: bigint,
    batch: readonly Delivery[],
    committed: Promise<Settlement>,
  ): Promise<readonly Delivery[]> {
    const settlement = await committed.catch(unlessAway);
    if (!settlement) return batch;
    for (const { streamId, cause } of settlement.failed)
      throw new Error(`entry ${streamId} fails by itself`, { cause });
    const later = await this.world.stream.finish(itemId, settlement.settled).catch(unlessAway);
    return later ? batch.filter((d) => later.has(d.streamId)) : batch;
  }

  /** Entries that are still in the stream are delivered again. The others' corrections are lost until the keeper counts. */
  private died(consumer: Replica): void {
    consumer.kept.clear();
    consumer.settlements = this.world.newReplica().get(SettlementUsecase);
    this.world.losses.memory = true;
  }

  /** The keeper's round on one replica. */
  async keep({ schedule }: Replica): Promise<void> {
    const { faults, losses } = this.world;
    const result = await faults.attempt('reconcile', () => schedule.reconcile());
    for (const { cause } of result?.failures ?? []) if (!isSaleUnavailable(cause) && !isUnavailable(cause)) throw cause;
    const counted = result?.reloaded.filter((d) => d.kind === 'BALANCE' || d.kind === 'BUYERS') ?? [];
    // Nothing else lets the two sides differ for three rounds.
    if (!(losses.redis && losses.memory)) {
      for (const { itemId, detail } of counted) this.world.drifts.push(`sale of item ${itemId}: ${detail}`);
    }
  }

  /** Gives cancelled units back to admission. */
  async returnUnits({ returns }: Replica): Promise<void> {
    const { random, faults, outbox } = this.world;
    await faults.attempt('return units', async () => {
      const rows = await outbox.waiting(TOPIC_SECKILL_RETURN, 1 + random.int(BATCH));
      const claimed = rows.map((r) => ({ ...r, payload: r.payload ?? Buffer.of(), headers: undefined, attempts: 1 }));
      const failures = await returns.dispatch(claimed);
      await outbox.markPublished(rows.filter((_, i) => failures[i] === undefined));
    });
  }

  /** An operator closes a sale, opens it again, or changes a limit. */
  async operate(): Promise<void> {
    const { random, scheduler, faults } = this.world;
    for (let n = 0; n < 4; n++) {
      for (let turns = random.int(60); turns > 0; turns--) await scheduler.turn();
      const { itemId } = random.pick(this.sales);
      const { sales } = random.pick(this.replicas);
      const userId = this.world.randomUser();
      const limit = 1 + random.int(4);
      const act = random.pick<() => Promise<unknown>>([
        async () => random.chance(0.5) && sales.close(itemId),
        () => sales.open(itemId),
        async () => {
          const { sale } = await sales.get(itemId);
          await sales.update(itemId, sale.version, { total: sale.total + BigInt(random.int(4)) - 2n });
        },
        async () => {
          const { version } = await sales.limitOf(itemId, userId);
          this.world.history.limited.add(`${itemId} ${userId}`);
          return sales.setVipLimit({ itemId, userId, limit, version });
        },
      ]);
      await faults.attempt('operate', () => act().catch(unlessRefused));
    }
  }

  /** In some runs a Redis server loses all its data, or a replica takes over that has missed the latest. */
  async loseData(): Promise<void> {
    const { random, scheduler, redis, losses } = this.world;
    if (random.chance(0.5)) return;
    for (let turns = random.int(80); turns > 0; turns--) await scheduler.turn();
    const server = random.chance(0.5) ? redis : random.pick(redis.servers);
    const copy = server.copy();
    for (let turns = random.int(30); turns > 0; turns--) await scheduler.turn();
    losses.redis = true;
    if (random.chance(0.5)) return server.flush();
    const behindMs = random.pick([0, 0, 0, 10]);
    server.failOver(copy, behindMs);
    // Two purchases of one user that get the same id are taken for one.
    if (behindMs > 0) losses.memory = true;
  }

  /** Without faults, until no entry waits anywhere and the keeper finds no difference. */
  async settleAll(): Promise<void> {
    const { redis, stream } = this.world;
    const [replica] = this.replicas;
    if (!replica) throw new Error('no replica');
    const busy = () =>
      redis.itemIds.some((id) => this.world.waiting(id).length > 0) || this.replicas.some((r) => r.kept.size > 0);
    await this.keep(replica);
    while (busy()) {
      await this.keep(replica);
      for (const each of this.replicas) await this.consume(each);
      // Beyond the lease of a load that died.
      this.world.pass(4_000);
    }
    stream.inMemory = false;
  }

  /** @returns what the keeper still finds, after it had time to mend it */
  async unmended(): Promise<readonly string[]> {
    const [replica] = this.replicas;
    if (!replica) throw new Error('no replica');
    let drifts: readonly { readonly itemId: bigint; readonly detail: string }[] = [];
    for (let round = 0; round < KEEPER_ROUNDS; round++) {
      await this.keep(replica);
      this.world.pass(4_000);
      const left = await Promise.all(
        this.sales.map(async ({ itemId }) => {
          const sale = await this.world.saleRepo.findCurrent(itemId);
          const found = sale?.status === 'OPEN' ? await replica.comparison.drift(sale) : [];
          return (found ?? [{ detail: 'it is not loaded' }]).map(({ detail }) => ({ itemId, detail }));
        }),
      );
      drifts = left.flat();
      if (drifts.length === 0) break;
    }
    return drifts.map(({ itemId, detail }) => `sale of item ${itemId}: ${detail}`);
  }
}

function unlessAway(err: unknown): undefined {
  if (!isSaleUnavailable(err) && !isUnavailable(err)) throw err;
}

function unlessRefused(err: unknown): undefined {
  if (!isSaleStatusConflict(err) && !isSaleVersionConflict(err) && !isInvalidArgument(err)) return unlessAway(err);
}
