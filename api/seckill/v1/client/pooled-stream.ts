import { type ChannelCredentials, type ClientDuplexStream, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import {
  type PurchaseStreamReply,
  type PurchaseStreamRequest,
  SeckillServiceClient,
} from '../../../../gen/seckill/v1/seckill.js';
import type { StreamPurchase, StreamResult } from './stream-purchase.js';

/** A purchase without a result. */
export interface Pending {
  readonly purchase: StreamPurchase & { readonly requestId: string };
  /** By performance.now(). */
  readonly deadlineAtMs: number;
  /** It has a result, or its caller has given up. */
  isOver: boolean;
  readonly resolve: (result: StreamResult) => void;
  readonly reject: (err: Error) => void;
}

/** What a stream tells the pool. */
export interface StreamOwner {
  opened(): void;
  wake(): void;
  retired(): void;
  settled(): void;
  ended(stream: PooledStream, left: readonly Pending[], wasRetired: boolean, err: ServiceError | undefined): void;
}

export interface StreamTarget {
  readonly addr: string;
  readonly token: string;
  readonly credentials: ChannelCredentials;
}

const LAST_NUMBER = 0xffff_ffff;

/** One call of PurchaseStream, on a connection of its own. */
export class PooledStream {
  private readonly client: SeckillServiceClient;
  private readonly call: ClientDuplexStream<PurchaseStreamRequest, PurchaseStreamReply>;
  private readonly inFlight = new Map<number, Pending>();
  /** 0 until the first reply. */
  private window = 0;
  private lastNumber = 0;
  private isFull = false;
  private isRetired = false;
  private isOver = false;

  constructor(
    private readonly owner: StreamOwner,
    { addr, token, credentials }: StreamTarget,
  ) {
    this.client = new SeckillServiceClient(addr, credentials, {
      'grpc.use_local_subchannel_pool': 1,
      // Detects connections that died silently.
      'grpc.keepalive_time_ms': 30_000,
      'grpc.keepalive_timeout_ms': 5_000,
    });
    const metadata = new Metadata();
    metadata.set('x-internal-token', token);
    this.call = this.client.purchaseStream(metadata);
    this.call.on('data', (reply: PurchaseStreamReply) => this.take(reply));
    this.call.on('error', (err: ServiceError) => this.over(err));
    this.call.on('end', () => this.over(undefined));
    this.call.on('drain', () => {
      this.isFull = false;
      this.owner.wake();
    });
  }

  /** Purchases that may be sent now. */
  get room(): number {
    return this.isFull || this.isRetired ? 0 : this.window - this.inFlight.size;
  }

  get unanswered(): number {
    let count = 0;
    for (const pending of this.inFlight.values()) if (!pending.isOver) count++;
    return count;
  }

  forEachPending(visit: (pending: Pending) => void): void {
    this.inFlight.forEach(visit);
  }

  send(batch: readonly Pending[]): void {
    const now = performance.now();
    const purchases = batch.map((pending) => {
      const number = this.lastNumber === LAST_NUMBER ? 1 : this.lastNumber + 1;
      this.lastNumber = number;
      this.inFlight.set(number, pending);
      const { itemId, userId, quantity, requestId, traceparent = '' } = pending.purchase;
      const timeoutMs = Math.max(1, Math.ceil(pending.deadlineAtMs - now));
      return { number, itemId, userId, quantity, requestId, timeoutMs, traceparent };
    });
    this.isFull = !this.call.write({ purchases });
  }

  /** Closes this side: the server answers what is in flight, and ends the stream. */
  end(): void {
    this.isRetired = true;
    // Without a connection there is nothing to wait for.
    if (this.window === 0) this.call.cancel();
    else this.call.end();
  }

  private take({ results, maxInFlight, reconnect }: PurchaseStreamReply): void {
    if (this.window === 0 && maxInFlight > 0) {
      this.window = maxInFlight;
      this.owner.opened();
    }
    for (const result of results) {
      const pending = this.inFlight.get(result.number);
      this.inFlight.delete(result.number);
      if (pending === undefined || pending.isOver) continue;
      pending.isOver = true;
      pending.resolve(result);
    }
    if (reconnect && !this.isRetired) {
      this.end();
      this.owner.retired();
    }
    if (results.length > 0) {
      this.owner.wake();
      this.owner.settled();
    }
  }

  private over(err: ServiceError | undefined): void {
    if (this.isOver) return;
    this.isOver = true;
    this.client.close();
    const left = [...this.inFlight.values()];
    this.inFlight.clear();
    const fault = err?.code === status.CANCELLED ? undefined : err;
    this.owner.ended(this, left, this.isRetired, fault);
  }
}
