import { randomUUID } from 'node:crypto';
import { type ChannelCredentials, credentials, type ServiceError, status } from '@grpc/grpc-js';
import { type Pending, PooledStream, type StreamOwner } from './pooled-stream.js';
import { PurchaseStreamError, type StreamPurchase, type StreamResult } from './stream-purchase.js';

export interface PurchaseStreamClientOptions {
  /** host:port of product, or any other target that grpc-js resolves. */
  readonly addr: string;
  /** The secret `auth.internal_token` of product. */
  readonly token: string;
  /** Default: no TLS. */
  readonly credentials?: ChannelCredentials;
  /** Streams, each on a connection of its own, so that they spread over workers and replicas. Default 4. */
  readonly streams?: number;
  /** Purchases that may wait for room on a stream. Default 10,000. */
  readonly maxWaiting?: number;
  /** Purchases of one message: those of one turn of the event loop share messages. Default 64. */
  readonly maxPerMessage?: number;
  /** For purchases without a time limit of their own. Default 5 s. */
  readonly timeoutMs?: number;
}

const FIRST_BACKOFF_MS = 50;
const LAST_BACKOFF_MS = 2_000;
/** How often purchases are looked at whose time may have passed: a timer for each would cost more than its message. */
const SWEEP_MS = 50;
/** A new attempt would end in the same way. */
const FATAL: ReadonlySet<number> = new Set([
  status.UNAUTHENTICATED,
  status.PERMISSION_DENIED,
  status.UNIMPLEMENTED,
  status.INVALID_ARGUMENT,
]);

/** Buys for many users over a pool of PurchaseStream calls. */
export class PurchaseStreamClient implements StreamOwner {
  private readonly options: Required<PurchaseStreamClientOptions>;
  private readonly streams = new Set<PooledStream>();
  private readonly retries = new Set<NodeJS.Timeout>();
  private waiting: Pending[] = [];
  private failures = 0;
  private resentCount = 0;
  private pumping = false;
  private isClosed = false;
  private readonly sweeper: NodeJS.Timeout;
  private onIdle: (() => void) | undefined;

  constructor(options: PurchaseStreamClientOptions) {
    this.options = {
      credentials: credentials.createInsecure(),
      streams: 4,
      maxWaiting: 10_000,
      maxPerMessage: 64,
      timeoutMs: 5_000,
      ...options,
    };
    this.sweeper = setInterval(() => this.sweep(), SWEEP_MS);
    this.sweeper.unref();
    for (let i = 0; i < this.options.streams; i++) this.open();
  }

  /** Purchases that were sent again because their stream broke. */
  get resent(): number {
    return this.resentCount;
  }

  /** @throws PurchaseStreamError */
  purchase(purchase: StreamPurchase): Promise<StreamResult> {
    if (this.isClosed) return Promise.reject(new PurchaseStreamError('CLOSED', 'the client is closed'));
    if (this.waiting.length >= this.options.maxWaiting) {
      return Promise.reject(new PurchaseStreamError('QUEUE_FULL', `${this.waiting.length} purchases wait already`));
    }
    return new Promise((resolve, reject) => {
      this.waiting.push({
        purchase: { ...purchase, requestId: purchase.requestId || randomUUID() },
        deadlineAtMs: performance.now() + (purchase.timeoutMs ?? this.options.timeoutMs),
        isOver: false,
        resolve,
        reject,
      });
      this.wake();
    });
  }

  /** Waits until every purchase has a result or its time has passed, and closes the streams. */
  async close(): Promise<void> {
    this.isClosed = true;
    if (this.unanswered() > 0) {
      await new Promise<void>((resolve) => {
        this.onIdle = resolve;
      });
    }
    clearInterval(this.sweeper);
    for (const retry of this.retries) clearTimeout(retry);
    for (const stream of this.streams) stream.end();
  }

  /** @internal There is room on a stream, or something to send. */
  wake(): void {
    if (this.pumping) return;
    this.pumping = true;
    setImmediate(() => {
      this.pumping = false;
      this.pump();
    });
  }

  /** @internal */
  opened(): void {
    this.failures = 0;
    this.wake();
  }

  /** @internal The stream takes no more purchases, but those in flight still get results. */
  retired(): void {
    if (!this.isClosed || this.waiting.length > 0) this.open();
  }

  /** @internal The stream has ended without results for these. */
  ended(stream: PooledStream, left: readonly Pending[], wasRetired: boolean, err: ServiceError | undefined): void {
    this.streams.delete(stream);
    const again = left.filter((pending) => !pending.isOver);
    this.resentCount += again.length;
    this.waiting = [...again, ...this.waiting];
    if (err && FATAL.has(err.code)) {
      const refused = new PurchaseStreamError('REFUSED', `PurchaseStream: ${err.details}`, { cause: err });
      for (const pending of this.waiting) this.fail(pending, refused);
    }
    if (!wasRetired && (!this.isClosed || this.waiting.length > 0)) {
      const backoffMs = Math.min(FIRST_BACKOFF_MS * 2 ** this.failures++, LAST_BACKOFF_MS) * (0.5 + Math.random() / 2);
      const retry = setTimeout(() => {
        this.retries.delete(retry);
        this.open();
      }, backoffMs);
      this.retries.add(retry);
    }
    this.wake();
    this.settled();
  }

  /** @internal */
  settled(): void {
    if (this.onIdle && this.unanswered() === 0) this.onIdle();
  }

  private open(): void {
    const { addr, token, credentials: channel } = this.options;
    this.streams.add(new PooledStream(this, { addr, token, credentials: channel }));
  }

  private unanswered(): number {
    let count = this.waiting.filter((pending) => !pending.isOver).length;
    for (const stream of this.streams) count += stream.unanswered;
    return count;
  }

  private pump(): void {
    const { maxPerMessage } = this.options;
    let next = 0;
    while (next < this.waiting.length) {
      let best: PooledStream | undefined;
      for (const stream of this.streams) if (stream.room > (best?.room ?? 0)) best = stream;
      if (!best) break;
      const batch: Pending[] = [];
      const size = Math.min(best.room, maxPerMessage);
      while (batch.length < size && next < this.waiting.length) {
        const pending = this.waiting[next++]!;
        if (!pending.isOver) batch.push(pending);
      }
      if (batch.length > 0) best.send(batch);
    }
    if (next > 0) this.waiting = this.waiting.slice(next);
  }

  private sweep(): void {
    const now = performance.now();
    const late = (pending: Pending) => {
      if (pending.isOver || pending.deadlineAtMs > now) return;
      this.fail(pending, new PurchaseStreamError('DEADLINE_EXCEEDED', 'no result within the time limit'));
    };
    this.waiting.forEach(late);
    for (const stream of this.streams) stream.forEachPending(late);
    this.settled();
  }

  private fail(pending: Pending, err: PurchaseStreamError): void {
    if (pending.isOver) return;
    pending.isOver = true;
    pending.reject(err);
  }
}
