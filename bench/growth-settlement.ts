/** Consumers and PostgreSQL in virtual time: from the streams to orders. */
import type { Costs } from './growth-costs.js';
import { Cores, EventLoop, Simulation } from './growth-kernel.js';
import { masterOf } from './growth-redis.js';

/** `server.seckill_consumer.batch_size`, and what SeckillConsumer settles side by side. */
const BATCH = 500;
const SIDE_BY_SIDE = 4;
/** Of the consumer's CPU before a batch is handed to PostgreSQL; the rest comes after its commit. Assumed. */
const BEFORE = 0.7;

export interface SettlementForm {
  /** Processes with a core each. */
  readonly consumers: number;
  /** Sales whose entries wait; more than can be settled in the time. */
  readonly sales: number;
  readonly segments: number;
  readonly masters: number;
  /** Of PostgreSQL. */
  readonly cores: number;
  readonly ms: number;
  /** Whether all processes share `cores`, and no message is published, as in the bench. */
  readonly oneMachine?: boolean;
}

export interface SettlementFigures {
  readonly perSecond: number;
  /** Share of the time in which a core of PostgreSQL was busy. */
  readonly postgres: number;
  readonly consumers: number;
  readonly redis: number;
  /** Share of the time in which the lock of a sale was held, on average. */
  readonly lock: number;
}

export async function simulateSettlement(form: SettlementForm, costs: Costs, seed = 1): Promise<SettlementFigures> {
  const simulation = new Simulation(seed);
  const postgres = new Cores(simulation, form.cores);
  const coreOf = () => (form.oneMachine ? postgres : new Cores(simulation, 1));
  const { disk, connection } = costs.redis;
  const masters = Array.from(
    { length: form.masters },
    () => new EventLoop(simulation, coreOf(), connection, () => simulation.logNormal(disk)),
  );
  const locks = Array.from({ length: form.sales }, () => new Lock(simulation));
  const parts = { simulation, costs, form, postgres, masters, locks };
  const consumers = Array.from({ length: form.consumers }, () => new Consumer(parts, coreOf()));
  for (const consumer of consumers) void consumer.work();
  await simulation.run(form.ms);
  const share = (ms: number) => ms / form.ms;
  const settled = consumers.reduce((sum, c) => sum + c.settled, 0);
  const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  return {
    perSecond: (settled * 1e3) / form.ms,
    postgres: share(postgres.busyMs) / form.cores,
    consumers: share(mean(consumers.map((c) => c.loop.busyMs))),
    redis: share(mean(masters.map((m) => m.busyMs))),
    lock: share(mean(locks.map((l) => l.heldMs))),
  };
}

interface Parts {
  readonly simulation: Simulation;
  readonly costs: Costs;
  readonly form: SettlementForm;
  readonly postgres: Cores;
  readonly masters: readonly EventLoop[];
  readonly locks: readonly Lock[];
}

/** As the reading loop of SeckillConsumer: a round is read while the one before it is settled. */
class Consumer {
  readonly loop: EventLoop;
  settled = 0;
  private readonly committed: Promise<void>[];

  constructor(
    private readonly parts: Parts,
    core: Cores,
  ) {
    this.loop = new EventLoop(parts.simulation, core);
    this.committed = parts.locks.map(() => Promise.resolve());
  }

  async work(): Promise<void> {
    const { form, costs } = this.parts;
    let underWay = Promise.resolve();
    let allBegun = Promise.resolve();
    for (;;) {
      const streams = this.parts.locks.flatMap((_, sale) => this.mastersOf(sale));
      await Promise.all(streams.map((master) => this.ask(master, (costs.settlement.redis * BATCH) / 2)));
      const [before, earlier] = [underWay, allBegun];
      const batches = this.parts.locks.flatMap((_, sale) => Array.from({ length: form.segments }, () => sale));
      const { promise, resolve } = Promise.withResolvers<void>();
      allBegun = promise;
      underWay = earlier.then(() => this.settleAll(batches, resolve));
      await before;
    }
  }

  private async settleAll(batches: readonly number[], onBegun: () => void): Promise<void> {
    const running = new Set<Promise<unknown>>();
    for (const [i, sale] of batches.entries()) {
      while (running.size >= SIDE_BY_SIDE) await Promise.race(running);
      const settling = this.settle(sale, i).finally(() => running.delete(settling));
      running.add(settling);
    }
    onBegun();
    await Promise.all(running);
  }

  private async settle(sale: number, batch: number): Promise<void> {
    const { simulation, costs, form, postgres, locks } = this.parts;
    const { node, postgres: writing, postgresLater, commit, disk, redis } = costs.settlement;
    const before = this.committed[sale]!;
    let isCommitted = () => {};
    this.committed[sale] = new Promise((resolve) => {
      isCommitted = resolve;
    });
    await this.cpu(node * BATCH * BEFORE);
    // The next batch waits for the lock in PostgreSQL, so that it begins without another round trip.
    await locks[sale]!.take();
    await run(simulation, postgres, writing * BATCH);
    await before;
    await simulation.sleep(commit + simulation.logNormal(disk));
    locks[sale]!.give();
    isCommitted();
    if (!form.oneMachine) postgres.run(postgresLater * BATCH, () => {});
    const streams = this.mastersOf(sale);
    await this.ask(streams[batch % streams.length]!, (redis * BATCH) / 2);
    await this.cpu(node * BATCH * (1 - BEFORE));
    this.settled += BATCH;
  }

  /** Of each segment. */
  private mastersOf(sale: number): EventLoop[] {
    const { masters, form } = this.parts;
    return Array.from({ length: form.segments }, (_, k) => masters[masterOf(BigInt(1_000 + sale), k, form.masters)]!);
  }

  private cpu(ms: number): Promise<void> {
    const { simulation } = this.parts;
    return new Promise((resolve) => {
      this.loop.add(ms, () => {
        simulation.touch();
        resolve();
      });
    });
  }

  private async ask(master: EventLoop, ms: number): Promise<void> {
    const { simulation, costs } = this.parts;
    await simulation.sleep(costs.network);
    await new Promise<void>((resolve) => {
      master.add(
        ms,
        () => {
          simulation.touch();
          resolve();
        },
        this,
      );
    });
    await simulation.sleep(costs.network);
  }
}

function run(simulation: Simulation, cores: Cores, ms: number): Promise<void> {
  return new Promise((resolve) => {
    cores.run(ms, () => {
      simulation.touch();
      resolve();
    });
  });
}

/** Held by one batch of a sale at a time, in the order in which they ask for it: `pg_advisory_xact_lock` of the item. */
class Lock {
  heldMs = 0;
  private takenAt: number | undefined;
  private readonly waiting: (() => void)[] = [];

  constructor(private readonly simulation: Simulation) {}

  async take(): Promise<void> {
    if (this.takenAt !== undefined) await new Promise<void>((resolve) => this.waiting.push(resolve));
    this.takenAt = this.simulation.nowMs;
  }

  give(): void {
    this.heldMs += this.simulation.nowMs - (this.takenAt ?? 0);
    this.takenAt = undefined;
    const next = this.waiting.shift();
    if (next) {
      this.takenAt = this.simulation.nowMs;
      this.simulation.touch();
      next();
    }
  }
}
