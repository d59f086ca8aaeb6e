import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { segmentsOf } from '../../internal/biz/seckill/segment.js';
import type { Postgres } from '../../internal/data/postgres/postgres.js';
import type { RedisServer } from '../../internal/data/redis/redis.js';
import { violationsOf } from '../support/audit.js';
import type { TestProcess } from '../support/processes.js';
import { eventually } from '../support/wait.js';

export interface Reply {
  readonly status: number;
  readonly body: {
    readonly id?: string;
    readonly code?: string;
    readonly data?: { readonly seckillId: string };
    readonly [field: string]: unknown;
  };
}

/** A purchase that was answered QUEUED. */
export interface Bought {
  readonly userId: number;
  readonly seckillId: string;
}

const CALL_TIMEOUT_MS = 5_000;
/** More than any round sells: a sale that is sold out looks like one that does not come back. */
export const PLENTY = 1_000_000;
let nextUser = 1;

/** A plan and its sale, bought from through the JSON API of replicas of product. */
export class Shop {
  itemId = '';
  readonly bought: Bought[] = [];
  private readonly crowds: { done(): Promise<unknown> }[] = [];

  constructor(private readonly replicas: () => readonly TestProcess[]) {}

  async call(method: string, path: string, headers: Record<string, string> = {}, body?: unknown): Promise<Reply> {
    const replicas = this.replicas();
    const replica = replicas[Math.floor(Math.random() * replicas.length)]!;
    const reply = await fetch(`http://${replica.http}${path}`, {
      method,
      headers: { 'content-type': 'application/json', ...headers },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
    });
    return { status: reply.status, body: (await reply.json()) as Reply['body'] };
  }

  async admin(path: string, body: unknown, method = 'POST'): Promise<Reply['body']> {
    const reply = await this.call(method, path, { 'x-user-role': 'ADMIN' }, body);
    assert.equal(reply.status, 200, JSON.stringify(reply.body));
    return reply.body;
  }

  /** A new plan with an open sale. */
  async openSale(total: number, settings: Record<string, unknown> = {}): Promise<void> {
    const spec = await this.admin('/v1/product-specs', { cpu: 1, memory: 1, image: 'debian-12' });
    const plan = await this.admin('/v1/products', { name: 'p', priceFen: '1', specId: spec.id, status: 'ENABLED' });
    this.itemId = plan.id!;
    await this.admin('/v1/sales', { itemId: this.itemId, total: String(total), payMode: 'PAY_LATER', ...settings });
    await eventually('the sale is open', async () => {
      return (await this.call('GET', `/v1/sales/${this.itemId}`)).body.status === 'OPEN';
    });
  }

  /** One purchase of a new user. @returns its outcome, or the status of a call that had none */
  async buy(): Promise<string> {
    const userId = nextUser++;
    const headers = { 'x-user-id': String(userId) };
    const reply = await this.call('POST', '/v1/seckill', headers, { itemId: this.itemId }).catch((err: Error) => err);
    if (reply instanceof Error) return reply.name;
    if (reply.body.code === 'QUEUED') this.bought.push({ userId, seckillId: reply.body.data!.seckillId });
    return typeof reply.body.code === 'string' ? reply.body.code : String(reply.status);
  }

  /**
   * Buyers in lanes until `done` is called, each with a pause after a purchase.
   *
   * @returns how often each outcome was met
   */
  crowd(lanes: number, pauseMs = 0): { done(): Promise<ReadonlyMap<string, number>> } {
    let going = true;
    const outcomes = new Map<string, number>();
    const lane = async () => {
      while (going) {
        const outcome = await this.buy();
        outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
        await sleep(outcome === 'QUEUED' ? pauseMs : 20);
      }
    };
    const all = Promise.all(Array.from({ length: lanes }, lane));
    const crowd = {
      done: async () => {
        going = false;
        await all;
        return outcomes;
      },
    };
    this.crowds.push(crowd);
    return crowd;
  }

  /** Ends its crowds, also after a failure. */
  async close(): Promise<void> {
    await Promise.all(this.crowds.map((crowd) => crowd.done()));
  }

  /** Waits until a purchase succeeds, and prints how long that took: a busy machine must not fail the round. */
  async sellsAgain(timeoutMs = 60_000): Promise<void> {
    const startedAt = performance.now();
    await eventually(
      'a purchase succeeds',
      async () => {
        const outcome = await this.buy();
        if (outcome !== 'QUEUED') throw new Error(`the last one was answered ${outcome}`);
        return true;
      },
      { timeoutMs },
    );
    console.log(`      first success after ${Math.round(performance.now() - startedAt)} ms`);
  }

  /** Waits until no purchase waits, and checks every invariant. */
  async settled(db: Postgres, redis: RedisServer, segments = 1): Promise<void> {
    const streams = segmentsOf(segments).map((segment) => redis.keys.sale(BigInt(this.itemId), segment).stream);
    const areEmpty = async () => {
      const lengths = await Promise.all(streams.map((stream) => redis.commands.xlen(stream)));
      return lengths.every((length) => length === 0);
    };
    await eventually('every purchase is settled', areEmpty, { timeoutMs: 60_000 * segments });
    await eventually(
      'the audit finds nothing',
      async () => {
        const found = await violationsOf(db, redis);
        if (found.length > 0) throw new Error(found.join('; '));
        return true;
      },
      { everyMs: 250 },
    );
    const { rows } = await db.pool.query<{ n: bigint }>('SELECT count(*) AS n FROM dead_letters');
    assert.equal(rows[0]?.n, 0n, 'a purchase became a dead letter');
  }

  /** Orders of this item that are live, of which there may be no more than the sale's total. */
  async orders(db: Postgres): Promise<number> {
    const { rows } = await db.pool.query<{ n: bigint }>('SELECT count(*) AS n FROM orders WHERE product_id = $1', [
      this.itemId,
    ]);
    return Number(rows[0]?.n);
  }

  /** Those of the purchases answered QUEUED that did not become an order or a rejection. */
  async lost(): Promise<readonly Bought[]> {
    const lost: Bought[] = [];
    for (const bought of this.bought) {
      const headers = { 'x-user-id': String(bought.userId) };
      const { status } = await this.call('GET', `/v1/seckill/${bought.seckillId}`, headers);
      if (status === 404) lost.push(bought);
      else assert.equal(status, 200);
    }
    return lost;
  }
}
