import { Agent, request as httpRequest } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import {
  PurchaseReply_Code as Code,
  type PurchaseBatchReply,
  type PurchaseReply,
  SeckillServiceClient,
} from '../../gen/seckill/v1/seckill.js';
import { DEVELOPMENT_TOKEN } from '../../internal/conf/defaults.js';
import type { ServiceAddresses } from '../../internal/local/services.js';

/** How a click reaches the service. */
export const WAYS = ['grpc', 'json', 'batch'] as const;
export type Way = (typeof WAYS)[number];

export interface Click {
  readonly user: number;
  /** Empty: none. */
  readonly requestId: string;
}

/** What a buyer was told in the end. */
export interface Told extends Click {
  readonly way: Way;
  /** A name of PurchaseReply.Code. */
  readonly code: keyof typeof Code;
  /** With QUEUED. */
  readonly seckillId: string;
  /** By performance.now(). */
  readonly sentAtMs: number;
  readonly answeredAtMs: number;
  /** Calls that it took: one that is shed, or that nobody answers, is repeated. */
  readonly attempts: number;
}

/** Purchases of one item under way at a time, by way; a batch counts as one. */
const LANES: Readonly<Record<Way, number>> = { grpc: 96, json: 24, batch: 8 };
const CALL_TIMEOUT_MS = 10_000;
const PAUSE_MS = 40;
const MAX_ATTEMPTS = 500;

/** A call that got no answer, or one that says "again": the same click may be sent once more. */
class Again extends Error {}

interface Answer {
  readonly code: Code;
  readonly seckillId: string;
}

/** Buyers of one item, in front of all replicas of product. */
export class Crowd {
  readonly told: Told[] = [];
  /** Answers QUEUED so far. */
  queued = 0;
  private readonly clients: SeckillServiceClient[];
  private closed = false;
  private readonly agent = new Agent({ keepAlive: true, maxSockets: LANES.json });

  constructor(
    private readonly replicas: readonly ServiceAddresses[],
    private readonly itemId: bigint,
  ) {
    this.clients = replicas.map((r) => new SeckillServiceClient(r.grpc, credentials.createInsecure()));
  }

  close(): void {
    this.closed = true;
    for (const client of this.clients) client.close();
    this.agent.destroy();
  }

  /** One click, by one replica's unary call. */
  async click(click: Click, replica = 0): Promise<Told> {
    return (await this.send([click], 'grpc', replica))[0]!;
  }

  /**
   * All of these, each way's in their order, a bounded number at a time.
   * @param choose the way and the replica of a click
   */
  async rush(
    clicks: readonly Click[],
    choose: (click: Click) => { readonly way: Way; readonly replica: number },
    batchSize = 100,
  ): Promise<void> {
    const queues = new Map<string, { way: Way; replica: number; calls: Click[][] }>();
    for (const click of clicks) {
      const { way, replica } = choose(click);
      const queue = queues.get(`${way} ${replica}`) ?? { way, replica, calls: [] };
      queues.set(`${way} ${replica}`, queue);
      const last = queue.calls.at(-1);
      if (way === 'batch' && last && last.length < batchSize) last.push(click);
      else queue.calls.push([click]);
    }
    await Promise.all(
      [...queues.values()].map(async ({ way, replica, calls }) => {
        let next = 0;
        const lane = async () => {
          while (next < calls.length) await this.send(calls[next++]!, way, replica);
        };
        await Promise.all(Array.from({ length: Math.ceil(LANES[way] / this.replicas.length) }, lane));
      }),
    );
  }

  private async send(clicks: readonly Click[], way: Way, replica: number): Promise<readonly Told[]> {
    const answers = new Map<Click, Told>();
    const sentAtMs = performance.now();
    let open = [...clicks];
    for (let attempts = 1; open.length > 0; attempts++) {
      if (this.closed || attempts > MAX_ATTEMPTS) throw new Error(`${open.length} purchases got no answer`);
      const replies = await this.call(open, way, replica).catch((err: unknown) => {
        if (!(err instanceof Again)) throw err;
        return open.map(() => undefined);
      });
      const answeredAtMs = performance.now();
      open.forEach((click, i) => {
        const reply = replies[i];
        if (!reply) return;
        const { code, seckillId } = reply;
        const name = Code[code] as keyof typeof Code;
        if (name === 'QUEUED') this.queued += 1;
        answers.set(click, { ...click, way, code: name, seckillId, sentAtMs, answeredAtMs, attempts });
      });
      open = open.filter((click) => !answers.has(click));
      if (open.length > 0) await sleep(PAUSE_MS * (0.5 + Math.random()));
    }
    const told = clicks.map((click) => answers.get(click)!);
    this.told.push(...told);
    return told;
  }

  /** undefined: this one is to be sent again. @throws Again */
  private async call(clicks: readonly Click[], way: Way, replica: number): Promise<readonly (Answer | undefined)[]> {
    if (way === 'batch') return this.batch(clicks, this.clients[replica]!);
    const [click] = clicks as [Click];
    const { code, data } =
      way === 'grpc'
        ? await this.unary(click, this.clients[replica]!)
        : await this.json(click, this.replicas[replica]!);
    return [{ code, seckillId: data?.seckillId ?? '' }];
  }

  private unary({ user, requestId }: Click, client: SeckillServiceClient): Promise<PurchaseReply> {
    const metadata = new Metadata();
    metadata.set('x-user-id', String(user));
    return new Promise((resolve, reject) => {
      client.purchase(
        { itemId: this.itemId, quantity: undefined, requestId, token: '' },
        metadata,
        { deadline: Date.now() + CALL_TIMEOUT_MS },
        (err, reply) => (err ? reject(orAgain(err)) : resolve(reply)),
      );
    });
  }

  private async batch(
    clicks: readonly Click[],
    client: SeckillServiceClient,
  ): Promise<readonly (Answer | undefined)[]> {
    const metadata = new Metadata();
    metadata.set('x-internal-token', DEVELOPMENT_TOKEN);
    const purchases = clicks.map((c) => ({ userId: String(c.user), quantity: undefined, requestId: c.requestId }));
    const { results } = await new Promise<PurchaseBatchReply>((resolve, reject) => {
      client.purchaseBatch(
        { itemId: this.itemId, purchases },
        metadata,
        { deadline: Date.now() + CALL_TIMEOUT_MS },
        (err, reply) => (err ? reject(orAgain(err)) : resolve(reply)),
      );
    });
    return results.map(({ code, seckillId, reason }) => {
      if (reason === 'SALE_UNAVAILABLE' || reason === 'SALE_BACKLOG_FULL') return undefined;
      if (code === Code.CODE_UNSPECIFIED) throw new Error(`a purchase of a batch failed: ${reason}`);
      return { code, seckillId };
    });
  }

  private json({ user, requestId }: Click, { http }: ServiceAddresses): Promise<PurchaseReply> {
    const body = JSON.stringify({ itemId: String(this.itemId), ...(requestId && { requestId }) });
    return new Promise((resolve, reject) => {
      const call = httpRequest(`http://${http}/v1/seckill`, {
        method: 'POST',
        agent: this.agent,
        timeout: CALL_TIMEOUT_MS,
        headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body), 'x-user-id': user },
      });
      call.on('timeout', () => call.destroy());
      call.on('error', () => reject(new Again()));
      call.on('response', (reply) => {
        let text = '';
        reply.setEncoding('utf8');
        reply.on('data', (chunk: string) => {
          text += chunk;
        });
        reply.on('error', () => reject(new Again()));
        reply.on('end', () => {
          if (reply.statusCode === 503 || reply.statusCode === 504 || reply.statusCode === 429) reject(new Again());
          else if (reply.statusCode !== 200) reject(new Error(`HTTP ${reply.statusCode} ${text}`));
          else {
            const told = JSON.parse(text) as { code: keyof typeof Code; data?: { seckillId: string } | null };
            resolve({ code: Code[told.code], message: '', data: told.data ?? undefined, mayReturn: false });
          }
        });
      });
      call.end(body);
    });
  }
}

const REPEATABLE = new Set([status.UNAVAILABLE, status.RESOURCE_EXHAUSTED, status.DEADLINE_EXCEEDED, status.CANCELLED]);

function orAgain(err: ServiceError): Error {
  return REPEATABLE.has(err.code) ? new Again() : err;
}
