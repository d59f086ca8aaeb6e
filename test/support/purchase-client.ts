import { Agent, request as httpRequest } from 'node:http';
import { credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { PurchaseStreamClient } from '../../api/seckill/v1/client/purchase-stream-client.js';
import { PurchaseStreamError } from '../../api/seckill/v1/client/stream-purchase.js';
import {
  PurchaseReply_Code as Code,
  type PurchaseBatchReply,
  type PurchaseReply,
  SeckillServiceClient,
} from '../../gen/seckill/v1/seckill.js';
import { DEVELOPMENT_TOKEN } from '../../internal/conf/defaults.js';
import type { ServiceAddresses } from '../../internal/local/services.js';

/** The transport of a click. */
export const WAYS = ['grpc', 'json', 'batch', 'stream'] as const;
export type Way = (typeof WAYS)[number];

export interface Click {
  readonly user: number;
  /** Empty: none. */
  readonly requestId: string;
}

export type CodeName = keyof typeof Code;

export interface Answer {
  readonly code: CodeName;
  /** With QUEUED. */
  readonly seckillId: string;
}

/** The call got no answer, or one that says "again": the same click may be sent once more. */
export class Again extends Error {}

export interface PurchaseClientOptions {
  /** Connections for JSON calls. */
  readonly sockets: number;
  readonly timeoutMs: number;
}

/** Purchases at one replica of product. */
export class PurchaseClient {
  private readonly grpc: SeckillServiceClient;
  private readonly agent: Agent;
  /** Opened by the first purchase over it. */
  private streams: PurchaseStreamClient | undefined;

  constructor(
    private readonly address: ServiceAddresses,
    private readonly options: PurchaseClientOptions,
  ) {
    this.grpc = new SeckillServiceClient(address.grpc, credentials.createInsecure());
    this.agent = new Agent({ keepAlive: true, maxSockets: options.sockets });
  }

  close(): void {
    this.grpc.close();
    this.agent.destroy();
    void this.streams?.close();
  }

  /**
   * @param clicks one, or for `batch` any number
   * @returns an answer for each; undefined: send this one again
   * @throws Again
   */
  async purchase(itemId: bigint, clicks: readonly Click[], way: Way): Promise<readonly (Answer | undefined)[]> {
    if (way === 'batch') return this.batch(itemId, clicks);
    const [click] = clicks as [Click];
    if (way === 'stream') return [await this.streamed(itemId, click)];
    return [way === 'grpc' ? await this.unary(itemId, click) : await this.json(itemId, click)];
  }

  private unary(itemId: bigint, { user, requestId }: Click): Promise<Answer> {
    const metadata = new Metadata();
    metadata.set('x-user-id', String(user));
    return new Promise((resolve, reject) => {
      this.grpc.purchase(
        { itemId, quantity: undefined, requestId, token: '' },
        metadata,
        { deadline: Date.now() + this.options.timeoutMs },
        (err, reply: PurchaseReply) =>
          err
            ? reject(orAgain(err))
            : resolve({ code: Code[reply.code] as CodeName, seckillId: reply.data?.seckillId ?? '' }),
      );
    });
  }

  private async batch(itemId: bigint, clicks: readonly Click[]): Promise<readonly (Answer | undefined)[]> {
    const metadata = new Metadata();
    metadata.set('x-internal-token', DEVELOPMENT_TOKEN);
    const purchases = clicks.map((c) => ({ userId: String(c.user), quantity: undefined, requestId: c.requestId }));
    const { results } = await new Promise<PurchaseBatchReply>((resolve, reject) => {
      this.grpc.purchaseBatch(
        { itemId, purchases },
        metadata,
        { deadline: Date.now() + this.options.timeoutMs },
        (err, reply) => (err ? reject(orAgain(err)) : resolve(reply)),
      );
    });
    return results.map(({ code, seckillId, reason }) => {
      if (reason === 'SALE_UNAVAILABLE' || reason === 'SALE_BACKLOG_FULL') return undefined;
      if (code === Code.CODE_UNSPECIFIED) throw new Error(`a purchase of a batch failed: ${reason}`);
      return { code: Code[code] as CodeName, seckillId };
    });
  }

  private async streamed(itemId: bigint, { user, requestId }: Click): Promise<Answer> {
    const { timeoutMs } = this.options;
    this.streams ??= new PurchaseStreamClient({
      ...{ addr: this.address.grpc, token: DEVELOPMENT_TOKEN, streams: 1, timeoutMs },
    });
    const result = await this.streams.purchase({ itemId, userId: String(user), requestId }).catch((err: unknown) => {
      throw err instanceof PurchaseStreamError && err.reason !== 'REFUSED' ? new Again() : err;
    });
    if (REPEATABLE_REASONS.has(result.reason)) throw new Again();
    if (result.code === Code.CODE_UNSPECIFIED) throw new Error(`a purchase of a stream failed: ${result.reason}`);
    return { code: Code[result.code] as CodeName, seckillId: result.seckillId };
  }

  private json(itemId: bigint, { user, requestId }: Click): Promise<Answer> {
    const body = JSON.stringify({ itemId: String(itemId), ...(requestId && { requestId }) });
    return new Promise((resolve, reject) => {
      const call = httpRequest(`http://${this.address.http}/v1/seckill`, {
        method: 'POST',
        agent: this.agent,
        timeout: this.options.timeoutMs,
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
            const told = JSON.parse(text) as { code: CodeName; data?: { seckillId: string } | null };
            resolve({ code: told.code, seckillId: told.data?.seckillId ?? '' });
          }
        });
      });
      call.end(body);
    });
  }
}

const REPEATABLE_REASONS = new Set(['SALE_UNAVAILABLE', 'SALE_BACKLOG_FULL', 'UNAVAILABLE', 'DEADLINE_EXCEEDED']);
const REPEATABLE = new Set([status.UNAVAILABLE, status.RESOURCE_EXHAUSTED, status.DEADLINE_EXCEEDED, status.CANCELLED]);

function orAgain(err: ServiceError): Error {
  return REPEATABLE.has(err.code) ? new Again() : err;
}
