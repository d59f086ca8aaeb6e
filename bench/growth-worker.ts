/** A worker of product in virtual time, with the project's own batches. */
import { Batcher } from '../internal/biz/batcher.js';
import { formatUserId } from '../internal/biz/identity.js';
import { PurchaseCollector } from '../internal/biz/seckill/purchase-collector.js';
import type { BatchOutcome, SeckillUsecase } from '../internal/biz/seckill/seckill.js';
import { homeSegment, segmentsOf } from '../internal/biz/seckill/segment.js';
import { MAX_BATCH, MAX_RUNNING, MAX_WAITING, SOLD_OUT_MS } from '../internal/data/redis/segment-admission.js';
import { type Costs, PER_CALL, type Way } from './growth-costs.js';
import { type Cores, EventLoop, type Simulation } from './growth-kernel.js';
import type { Move, Redis, Segment } from './growth-redis.js';

/** As in internal/data/redis/segment-refill.ts, which waits by the clock of the machine. */
const MAX_ATTEMPTS = 64;
const PATIENT_ATTEMPTS = 4;
const MAX_PAUSE_MS = 8;

export type Answer = 'QUEUED' | 'SOLD_OUT';
const QUEUED: BatchOutcome = { kind: 'QUEUED', seckillId: '' };
const SOLD_OUT: BatchOutcome = { kind: 'SOLD_OUT', mayReturn: false };

export interface Sale {
  readonly itemId: bigint;
  readonly segments: number;
}

/** Replies of the scripts arrive at the worker's event loop and cost it CPU. */
export class Worker {
  readonly loop: EventLoop;
  private readonly collector: PurchaseCollector;
  private readonly batchers = new Map<string, Batcher<string, Answer>>();
  private readonly soldOutUntilMs = new Map<bigint, number>();

  constructor(
    private readonly simulation: Simulation,
    private readonly costs: Costs,
    private readonly redis: Redis,
    private readonly sales: ReadonlyMap<bigint, Sale>,
    cores: Cores,
  ) {
    this.loop = new EventLoop(simulation, cores);
    // The collector asks for nothing else of the usecase.
    const usecase = {
      homeOf: (itemId: bigint, userId: string) => homeSegment(userId, this.sales.get(itemId)!.segments),
      purchaseAll: async (itemId: bigint, requests: readonly { readonly userId: string }[]) => {
        const sale = this.sales.get(itemId)!;
        const answers = await this.admitAll(
          sale,
          requests.map((r) => r.userId),
        );
        return answers.map((answer) => (answer === 'QUEUED' ? QUEUED : SOLD_OUT));
      },
    };
    this.collector = new PurchaseCollector(usecase as unknown as SeckillUsecase);
  }

  /** One call, or one message of a stream. @param onAnswer once for each user */
  purchase(way: Way, sale: Sale, users: readonly number[], onAnswer: (answer: Answer) => void): void {
    const { costs, simulation } = this;
    const half = (costs.product.purchase[way] * PER_CALL[way]) / 2;
    const answered = (answer: Answer) => {
      // The second half is for the answer.
      this.loop.add(half / users.length, () => simulation.after(costs.network, () => onAnswer(answer)));
    };
    this.loop.add(half, () => {
      simulation.touch();
      const ids = users.map((user) => formatUserId(String(user)));
      if (way === 'unary') for (const id of ids) this.admit(sale, id).then(answered);
      else if (way === 'batch of 32') this.admitAll(sale, ids).then((all) => all.forEach(answered));
      else for (const id of ids) this.collect(sale, id, answered);
    });
  }

  private collect(sale: Sale, userId: string, answered: (answer: Answer) => void): void {
    const item = { userId, quantity: 1, requestId: '', traceparent: '', tokenId: '' };
    const waiter = {
      item: { ...item, deadlineAtMs: Number.POSITIVE_INFINITY },
      resolve: (outcome: BatchOutcome) => answered(outcome.kind === 'QUEUED' ? 'QUEUED' : 'SOLD_OUT'),
      reject: (err: unknown) => {
        throw err;
      },
    };
    if (!this.collector.add(sale.itemId, waiter)) throw new Error('too many purchases wait: the load is unbounded');
  }

  /** As RedisAdmission.admitAtHome. */
  private async admit(sale: Sale, userId: string): Promise<Answer> {
    const home = homeSegment(userId, sale.segments);
    if (this.isSoldOut(sale)) return 'SOLD_OUT';
    const lane = this.batcherOf(sale, home, 'lane', MAX_RUNNING, (users) => this.admitBatch(sale, home, users));
    const answer = await lane.add(userId);
    if (answer === 'QUEUED' || sale.segments === 1 || this.isSoldOut(sale)) return answer;
    const refill = this.batcherOf(sale, home, 'refill', 1, (users) => this.refill(sale, home, users));
    return refill.add(userId);
  }

  /** As RedisAdmission.admitAll: each home segment has a call of its own, and the batch waits for all of them. */
  private async admitAll(sale: Sale, users: readonly string[]): Promise<readonly Answer[]> {
    const parts = Map.groupBy(users.keys(), (i) => homeSegment(users[i]!, sale.segments));
    const answers = new Array<Answer>(users.length);
    const admitPart = async (home: number, places: readonly number[]) => {
      const own = places.map((i) => users[i]!);
      const found = [...(await this.admitBatch(sale, home, own))];
      const open = found.flatMap((answer, at) => (answer === 'SOLD_OUT' ? [at] : []));
      if (open.length > 0 && sale.segments > 1 && !this.isSoldOut(sale)) {
        const openUsers = open.map((at) => own[at]!);
        const again = await this.refill(sale, home, openUsers);
        open.forEach((at, i) => {
          found[at] = again[i]!;
        });
      }
      places.forEach((place, at) => {
        answers[place] = found[at]!;
      });
    };
    await Promise.all([...parts].map(([home, places]) => admitPart(home, places)));
    return answers;
  }

  private async admitBatch(sale: Sale, home: number, users: readonly string[]): Promise<readonly Answer[]> {
    const { redis } = this;
    const segment = redis.segment(sale.itemId, home);
    const left = await this.script(segment, users.length, () => {
      const taken = redis.take(segment, users.length);
      return { taken, stock: segment.stock };
    });
    if (sale.segments === 1 && left.taken < users.length) this.rememberSoldOut(sale);
    return users.map((_, i) => (i < left.taken ? 'QUEUED' : 'SOLD_OUT'));
  }

  private script<Result>(segment: Segment, purchases: number, work: () => Result): Promise<Result> {
    return new Promise((resolve) => {
      this.redis.script(this, segment, purchases, work, (result) => {
        this.loop.add(this.costs.product.call, () => {
          this.simulation.touch();
          resolve(result);
        });
      });
    });
  }

  /** As SegmentRefill.admit. */
  private async refill(sale: Sale, home: number, users: readonly string[]): Promise<readonly Answer[]> {
    const answers: Answer[] = users.map(() => 'SOLD_OUT');
    let open = [...users.keys()];
    for (let attempt = 0; attempt < MAX_ATTEMPTS && open.length > 0; attempt++) {
      if (attempt >= PATIENT_ATTEMPTS) await this.simulation.sleep(this.simulation.random() * MAX_PAUSE_MS);
      const moves = await this.fill(sale, home, open.length);
      if (moves === undefined) {
        this.rememberSoldOut(sale);
        return answers;
      }
      const putIn = Promise.all(moves.map((move) => this.putIn(move)));
      const own = open.map((i) => users[i]!);
      const [found] = await Promise.all([this.admitBatch(sale, home, own), putIn]);
      await Promise.all(moves.map((move) => this.forget(move)));
      open.forEach((i, at) => {
        answers[i] = found[at]!;
      });
      open = open.filter((i) => answers[i] === 'SOLD_OUT');
    }
    return answers;
  }

  /** @returns the moves to put in; undefined where all segments were empty at one moment */
  private async fill(sale: Sale, home: number, wanted: number): Promise<readonly Move[] | undefined> {
    const levels = await this.levels(sale);
    if (levels.every(({ stock }) => stock <= 0)) {
      const again = await this.levels(sale);
      const isUnmoved = again.every(({ movedIn }, i) => movedIn === levels[i]?.movedIn);
      return isUnmoved && again.every(({ stock }) => stock <= 0) ? undefined : [];
    }
    const moves: Move[] = [];
    let missing = wanted - levels[home]!.stock;
    const others = levels.filter(({ segment, stock }) => segment.index !== home && stock > 0);
    for (const { segment: from, stock } of others.sort((a, b) => b.stock - a.stock)) {
      if (missing <= 0) break;
      const units = Math.max(missing, Math.floor(stock / 2));
      const to = this.redis.segment(sale.itemId, home);
      const move = await this.script(from, 0, () => {
        const taken = this.redis.take(from, units);
        if (taken === 0) return undefined;
        const made: Move = { from, to, units: taken, hasArrived: false };
        from.moves.add(made);
        return made;
      });
      if (!move) continue;
      moves.push(move);
      missing -= move.units;
    }
    return moves;
  }

  /** When no move is under way: those that others began are seen through. */
  private async levels(sale: Sale): Promise<readonly { segment: Segment; stock: number; movedIn: number }[]> {
    for (;;) {
      const levels = await Promise.all(
        segmentsOf(sale.segments).map((k) => {
          const segment = this.redis.segment(sale.itemId, k);
          const look = () => ({ segment, stock: segment.stock, movedIn: segment.movedIn, moves: [...segment.moves] });
          return this.script(segment, 0, look);
        }),
      );
      const underWay = levels.flatMap(({ moves }) => moves);
      if (underWay.length === 0) return levels;
      await Promise.all(underWay.map((move) => this.putIn(move).then(() => this.forget(move))));
    }
  }

  private putIn(move: Move): Promise<void> {
    return this.script(move.to, 0, () => {
      if (move.hasArrived) return;
      move.hasArrived = true;
      move.to.stock += move.units;
      move.to.movedIn += 1;
    });
  }

  private forget(move: Move): Promise<void> {
    return this.script(move.from, 0, () => void move.from.moves.delete(move));
  }

  private rememberSoldOut({ itemId }: Sale): void {
    this.soldOutUntilMs.set(itemId, this.simulation.nowMs + SOLD_OUT_MS);
  }

  private isSoldOut({ itemId }: Sale): boolean {
    return (this.soldOutUntilMs.get(itemId) ?? 0) > this.simulation.nowMs;
  }

  private batcherOf(
    { itemId }: Sale,
    home: number,
    kind: string,
    maxConcurrent: number,
    run: (users: readonly string[]) => Promise<readonly Answer[]>,
  ): Batcher<string, Answer> {
    const key = `${itemId} ${home} ${kind}`;
    let batcher = this.batchers.get(key);
    if (!batcher) {
      batcher = new Batcher({ name: 'purchases', run, maxBatch: MAX_BATCH, maxConcurrent, maxQueued: MAX_WAITING });
      this.batchers.set(key, batcher);
    }
    return batcher;
  }
}
