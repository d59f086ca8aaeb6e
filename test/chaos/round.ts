import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Postgres } from '../../internal/data/postgres/postgres.js';
import { RedisServer } from '../../internal/data/redis/redis.js';
import { Random } from '../simulation/random.js';
import { openPostgres } from '../support/instances.js';
import { eventually } from '../support/wait.js';
import { both, compatible, FAULTS, type Fault } from './faults.js';
import { Load, type Offer } from './load.js';
import { contradictions, type History } from './oracle.js';
import type { Stage } from './stage.js';

export interface RoundResult {
  readonly fault: string;
  readonly purchases: number;
  readonly queued: number;
  /** Told QUEUED, then lost or rejected with the data of Redis. */
  readonly lost: number;
  /** From the end of the fault to the first purchase that was sent after it and acknowledged. */
  readonly firstSuccessMs: number;
  /** From the end of the fault until nothing waits anywhere; buyers go on for about a second of it. */
  readonly restMs: number;
  readonly contradictions: readonly string[];
  readonly history: History;
}

export interface RoundOptions {
  /** Longest time that a fault stands. */
  readonly maxFaultMs: number;
}

const PLENTY = 100_000;
const FEW = 60;
/** Purchases before the fault begins, and after its end. */
const BEFORE = 40;
const AFTER = 20;
const MIN_FAULT_MS = 500;
const RECOVERY_TIMEOUT_MS = 90_000;
const PAY_TIMEOUT = '20s';
/** How long differences may take to heal that only a reconciler finds. */
const HEALING_MS = 30_000;

/** The same for the same seed and number: which faults, how long they stand, and what the buyers do. */
export function randomOf(seed: number, round: number): Random {
  return new Random((Math.imul(seed, 0x9e3779b1) ^ Math.imul(round + 1, 0x85ebca6b)) >>> 0);
}

/** Each fault once, in another order for each seed; after that two at once. */
export function faultOf(seed: number, round: number): Fault {
  if (round < FAULTS.length) {
    const order = [...FAULTS];
    const random = new Random(seed);
    for (let i = order.length - 1; i > 0; i--) {
      const j = random.int(i + 1);
      [order[i], order[j]] = [order[j]!, order[i]!];
    }
    return order[round]!;
  }
  const random = randomOf(seed, round);
  const first = random.pick(FAULTS);
  return both(first, random.pick(FAULTS.filter((other) => compatible(first, other))));
}

/** One fault under load, until all is at rest again. */
export class Round {
  private readonly random: Random;
  private readonly db: Postgres;
  private readonly redis: RedisServer;
  private readonly look: Redis;

  constructor(
    private readonly stage: Stage,
    private readonly fault: Fault,
    seed: number,
    private readonly number: number,
    private readonly options: RoundOptions,
  ) {
    this.random = randomOf(seed, number);
    this.db = openPostgres(stage.postgres.url, 'kaimai_product');
    this.redis = new RedisServer({
      addr: stage.redis.url,
      readTimeoutMs: 5_000,
      connectTimeoutMs: 5_000,
      keyPrefix: '',
    });
    this.look = stage.redis.client;
  }

  async run(): Promise<RoundResult> {
    const offers = [await this.offer('PREPAID', PLENTY), await this.offer('PAY_LATER', FEW)];
    const load = new Load(this.stage, offers, this.random, 1 + this.number * 1_000_000);
    try {
      load.start();
      await eventually('purchases before the fault', () => load.queued >= BEFORE, { timeoutMs: RECOVERY_TIMEOUT_MS });
      const end = await this.fault.begin(this.stage, this.random);
      await sleep(MIN_FAULT_MS + this.random.int(this.options.maxFaultMs - MIN_FAULT_MS));
      await end();
      const endedAtMs = performance.now();
      const firstAtMs = await eventually('a purchase after the fault', () => load.firstSuccessAfter(endedAtMs), {
        timeoutMs: RECOVERY_TIMEOUT_MS,
      });
      const queued = load.queued;
      await eventually('more purchases after the fault', () => load.queued >= queued + AFTER, {
        timeoutMs: RECOVERY_TIMEOUT_MS,
      });
      await load.stop();
      await this.rest(offers);
      const restMs = performance.now() - endedAtMs;
      await this.noneUnpaid();
      const history: History = {
        purchases: load.purchases,
        unexpected: load.unexpected,
        mayLose: this.fault.losesPurchases === true,
      };
      await this.redis.ready(5_000);
      return {
        fault: this.fault.name,
        purchases: load.purchases.length,
        queued: load.queued,
        lost: await this.lost(history),
        firstSuccessMs: firstAtMs - endedAtMs,
        restMs,
        contradictions: await this.judge(history),
        history,
      };
    } finally {
      load.close();
    }
  }

  async close(): Promise<void> {
    this.redis.close();
    await this.db.close();
  }

  /** Drift between Redis and PostgreSQL is found by a reconciler, which takes its time. */
  private async judge(history: History): Promise<readonly string[]> {
    const endsAtMs = performance.now() + HEALING_MS;
    for (;;) {
      const found = await contradictions(history, this.db, this.redis);
      if (found.every((c) => !c.startsWith('audit: ')) || performance.now() > endsAtMs) return found;
      await sleep(1_000);
    }
  }

  private async offer(payMode: 'PREPAID' | 'PAY_LATER', total: number): Promise<Offer> {
    const spec = await this.admin('/v1/product-specs', { cpu: 1, memory: 1, image: 'debian-12' });
    const plan = await this.admin('/v1/products', { name: 'p', priceFen: '1', specId: spec.id, status: 'ENABLED' });
    const payTimeout = payMode === 'PAY_LATER' && { payTimeout: PAY_TIMEOUT };
    await this.admin('/v1/sales', { itemId: plan.id, total: String(total), payMode, ...payTimeout });
    await eventually('the sale is open', async () => {
      const reply = await fetch(`http://${this.stage.products[0].it.http}/v1/sales/${plan.id}`);
      return ((await reply.json()) as { remaining: string }).remaining === String(total);
    });
    return { itemId: BigInt(plan.id), payLater: payMode === 'PAY_LATER', plenty: total === PLENTY };
  }

  private async admin(path: string, body: unknown): Promise<{ id: string }> {
    const reply = await fetch(`http://${this.stage.products[0].it.http}${path}`, {
      method: 'POST',
      headers: { 'x-user-role': 'ADMIN', 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    const text = await reply.text();
    if (reply.status !== 200) throw new Error(`${path}: ${reply.status} ${text}`);
    return JSON.parse(text) as { id: string };
  }

  /** Until nothing waits: no entry, no event, no request, no job, no order that is about to change. */
  private async rest(offers: readonly Offer[]): Promise<void> {
    let last = '';
    await eventually(
      'rest',
      async () => {
        const { rows } = await this.db.pool.query<Record<string, bigint>>(WAITING);
        const waiting = Object.entries(rows[0]!).filter(([, n]) => n > 0n);
        for (const { itemId } of offers) {
          const entries = await this.look.xlen(`stream:seckill:${itemId}`);
          if (entries > 0) waiting.push([`entries of ${itemId}`, BigInt(entries)]);
        }
        last = waiting.map(([what, n]) => `${what}: ${n}`).join(', ');
        return waiting.length === 0;
      },
      { timeoutMs: RECOVERY_TIMEOUT_MS, everyMs: 100 },
    ).catch((err: unknown) => {
      throw new Error(`not at rest: ${last}`, { cause: err });
    });
  }

  /** Buyers who never learned of their order do not pay it. */
  private async noneUnpaid(): Promise<void> {
    const unpaid = async () => {
      const { rows } = await this.db.pool.query<{ n: bigint }>('SELECT count(*) AS n FROM orders WHERE status = 0');
      return rows[0]!.n === 0n;
    };
    await eventually('no order is unpaid', unpaid, { timeoutMs: RECOVERY_TIMEOUT_MS });
  }

  private async lost({ purchases }: History): Promise<number> {
    const ids = purchases.flatMap((p) => (p.answer?.code === 'QUEUED' ? [p.answer.seckillId] : []));
    const { rows } = await this.db.pool.query<{ n: bigint }>(
      "SELECT count(*) AS n FROM seckill_records WHERE seckill_id = ANY ($1) AND status <> 'REJECTED'",
      [ids],
    );
    return ids.length - Number(rows[0]!.n);
  }
}

const WAITING = `SELECT
  (SELECT count(*) FROM outbox WHERE published_at IS NULL) AS events,
  (SELECT count(*) FROM instance_requests WHERE status = 'REQUESTED') AS requests,
  (SELECT count(*) FROM instance_logs WHERE reported_at IS NULL) AS jobs,
  (SELECT count(*) FROM orders WHERE status IN (1, 5)) AS orders`;
