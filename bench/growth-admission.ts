/** Callers, workers of product and Redis masters in virtual time. */
import type { Costs, Way } from './growth-costs.js';
import { PER_CALL } from './growth-costs.js';
import { Cores, EventLoop, percentile, Simulation } from './growth-kernel.js';
import { masterOf, Redis } from './growth-redis.js';
import { type Answer, type Sale, Worker } from './growth-worker.js';

export interface Form {
  readonly masters: number;
  readonly segments: number;
  /** That are bought from at a time; the purchases are spread over them evenly. */
  readonly sales: number;
  readonly workers: number;
  readonly way: Way;
  /** Purchases that wait for an answer at a time, of all callers; undefined: they come at `perSecond`. */
  readonly inFlight?: number;
  readonly perSecond?: number;
  /** In which the purchases of `perSecond` come together; 0: independently. */
  readonly burstMs?: number;
  readonly ms: number;
  /** Of each sale; default: more than are asked for. */
  readonly units?: number;
  /** Sales that lie on the masters evenly, in place of those that happen to follow one another. */
  readonly even?: boolean;
  /** Shared by workers, masters and callers; undefined: each process has a core, and callers cost nothing. */
  readonly cores?: number;
}

export interface Figures {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly queued: number;
  readonly soldOut: number;
  /** Purchases of a script call. */
  readonly perScript: number;
  /** Script calls that only looked or moved units. */
  readonly otherCalls: number;
  /** Share of the time in which a server was busy, of the busiest one and on average. */
  readonly product: Utilization;
  readonly redis: Utilization;
  /** The same of its CPU alone, without waits for the disk and for a core. */
  readonly productCpu: Utilization;
  readonly redisCpu: Utilization;
  /** CPU of a purchase in µs. */
  readonly productUs: number;
  readonly redisUs: number;
  /** When the last unit went, and when all units were gone and a caller was told so. */
  readonly lastUnitMs: number;
  readonly firstSoldOutMs: number;
}

export interface Utilization {
  readonly most: number;
  readonly mean: number;
}

const UNBOUNDED = 1e9;
/** Neither counted nor timed: in it the queues fill. */
const WARM_UP = 0.2;

export async function simulate(form: Form, costs: Costs, seed = 1): Promise<Figures> {
  const simulation = new Simulation(seed);
  const shared = form.cores === undefined ? undefined : new Cores(simulation, form.cores);
  const coresOf = () => shared ?? new Cores(simulation, 1);
  const redis = new Redis(simulation, costs, form.masters, coresOf);
  const sales: Sale[] = itemsOf(form).map((itemId) => ({ itemId, segments: form.segments }));
  for (const { itemId, segments } of sales) redis.open(itemId, segments, form.units ?? UNBOUNDED);
  const byItem = new Map(sales.map((sale) => [sale.itemId, sale]));
  const workers = Array.from({ length: form.workers }, () => new Worker(simulation, costs, redis, byItem, coresOf()));
  const client = shared && new EventLoop(simulation, shared);
  const load = new Load(simulation, form, costs, { sales, workers, client });
  load.start();
  const warmMs = form.units === undefined ? form.ms * WARM_UP : 0;
  await simulation.run(warmMs);
  load.forget();
  const loops = workers.map(({ loop }) => loop);
  const look = (of: readonly EventLoop[]) => ({ busy: of.map((l) => l.busyMs), cpu: of.map((l) => l.cpuMs) });
  const before = { product: look(loops), redis: look(redis.masters), calls: redis.calls, purchases: redis.purchases };
  await simulation.run(form.ms);
  const after = { product: look(loops), redis: look(redis.masters) };
  const ms = form.ms - warmMs;
  const utilization = (part: 'product' | 'redis', of: 'busy' | 'cpu'): Utilization => {
    const shares = after[part][of].map((now, i) => (now - before[part][of][i]!) / ms);
    return { most: Math.max(...shares), mean: shares.reduce((a, b) => a + b, 0) / shares.length };
  };
  const [productCpu, redisCpu] = [utilization('product', 'cpu'), utilization('redis', 'cpu')];
  const { latencies, queued, soldOut, lastUnitMs, firstSoldOutMs } = load;
  const answered = Math.max(1, queued + soldOut);
  return {
    ...{ queued, soldOut, lastUnitMs, firstSoldOutMs, otherCalls: redis.otherCalls },
    perSecond: ((queued + soldOut) * 1e3) / ms,
    p50Ms: percentile(latencies, 0.5),
    p99Ms: percentile(latencies, 0.99),
    perScript: (redis.purchases - before.purchases) / (redis.calls - before.calls),
    product: utilization('product', 'busy'),
    redis: utilization('redis', 'busy'),
    productCpu,
    redisCpu,
    productUs: (productCpu.mean * workers.length * ms * 1e3) / answered,
    redisUs: (redisCpu.mean * form.masters * ms * 1e3) / answered,
  };
}

const FIRST_ITEM = 1_000n;

function itemsOf({ sales, masters, even }: Form): bigint[] {
  const items: bigint[] = [];
  const perMaster = new Map<number, number>();
  for (let itemId = FIRST_ITEM; items.length < sales; itemId++) {
    const master = masterOf(itemId, 0, masters);
    const here = perMaster.get(master) ?? 0;
    if (even && here >= Math.ceil(sales / masters)) continue;
    perMaster.set(master, here + 1);
    items.push(itemId);
  }
  return items;
}

interface Parts {
  readonly sales: readonly Sale[];
  readonly workers: readonly Worker[];
  /** The process of the callers; undefined: they cost nothing. */
  readonly client: EventLoop | undefined;
}

class Load {
  latencies: number[] = [];
  queued = 0;
  soldOut = 0;
  lastUnitMs = Number.NaN;
  firstSoldOutMs = Number.NaN;
  private next = 0;
  private readonly perCall: number;

  constructor(
    private readonly simulation: Simulation,
    private readonly form: Form,
    private readonly costs: Costs,
    private readonly parts: Parts,
  ) {
    this.perCall = PER_CALL[form.way];
  }

  start(): void {
    const { form, perCall, simulation } = this;
    if (form.inFlight !== undefined) {
      const callers = Math.max(1, Math.round(form.inFlight / perCall));
      for (let i = 0; i < callers; i++) this.call(i % form.workers, i % form.sales, true);
      return;
    }
    const perMs = (form.perSecond ?? 0) / 1e3 / perCall;
    const { burstMs = 0 } = form;
    let due = 0;
    const arrive = () => {
      due += burstMs === 0 ? 1 : perMs * burstMs;
      for (; due >= 1; due--) {
        this.call(Math.floor(simulation.random() * form.workers), Math.floor(simulation.random() * form.sales), false);
      }
      simulation.after(burstMs === 0 ? simulation.exponential(1 / perMs) : burstMs, arrive);
    };
    simulation.after(0, arrive);
  }

  forget(): void {
    this.latencies = [];
    this.queued = 0;
    this.soldOut = 0;
  }

  private call(worker: number, sale: number, again: boolean): void {
    const { simulation, costs, parts, perCall, form } = this;
    const startedAt = simulation.nowMs;
    const users = Array.from({ length: perCall }, () => ++this.next);
    let open = perCall;
    const answered = (answer: Answer) => {
      this.count(answer, startedAt);
      open -= 1;
      if (open === 0 && again) this.call(worker, sale, true);
    };
    const send = () =>
      simulation.after(costs.network, () => {
        parts.workers[worker]!.purchase(form.way, parts.sales[sale]!, users, answered);
      });
    if (parts.client) parts.client.add(costs.client[form.way] * perCall, send);
    else send();
  }

  private count(answer: Answer, startedAt: number): void {
    const { nowMs } = this.simulation;
    this.latencies.push(nowMs - startedAt);
    if (answer === 'QUEUED') {
      this.queued += 1;
      this.lastUnitMs = nowMs;
    } else {
      this.soldOut += 1;
      if (Number.isNaN(this.firstSoldOutMs)) this.firstSoldOutMs = nowMs;
    }
  }
}
