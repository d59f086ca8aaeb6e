import { invalidArgument } from '../../gen/common/v1/errors.js';
import { saleBacklogFull } from '../../gen/seckill/v1/errors.js';
import {
  PurchaseReply_Code as Code,
  type PurchaseStreamReply,
  type PurchaseStreamReply_Result,
  type PurchaseStreamRequest,
  type PurchaseStreamRequest_Purchase,
} from '../../gen/seckill/v1/seckill.js';
import { formatUserId } from '../biz/identity.js';
import type { CollectedPurchase, CollectedWaiter, PurchaseCollector } from '../biz/seckill/purchase-collector.js';
import type { BatchOutcome } from '../biz/seckill/seckill.js';
import type { KratosError } from '../kratos/errors/error.js';
import { traceparentOf } from '../kratos/tracing/traceparent.js';
import type { CallContext } from '../kratos/transport/call-context.js';
import { toKratosError } from '../kratos/transport/to-kratos-error.js';
import type { PurchaseCounts } from './purchase-counts.js';

/** How long a caller may keep sending after it was asked to reconnect. What it sends later is not read. */
const LINGER_MS = 1_000;
/** The rules of PurchaseRequest and PurchaseBatchRequest. */
const MAX_QUANTITY = 10_000;
const MAX_REQUEST_ID_BYTES = 64;

const EMPTY = { code: Code.CODE_UNSPECIFIED, seckillId: '', mayReturn: false, reason: '', message: '' } as const;

/**
 * One call of PurchaseStream. It reads while fewer than `window` purchases have no result that was sent, so neither waiting
 * purchases nor unread results pile up: beyond that, gRPC's flow control stops the caller.
 */
export class PurchaseSession {
  private results: PurchaseStreamReply_Result[] = [];
  /** Purchases that were read and whose result was not sent. */
  private inFlight = 0;
  private reads = true;
  private isClosed = false;
  /** Why reading ended before the caller ended it. */
  private fault: unknown;
  private onNews: (() => void) | undefined;
  private onRoom: (() => void) | undefined;

  constructor(
    private readonly window: number,
    private readonly collector: PurchaseCollector,
    private readonly counts: PurchaseCounts,
  ) {}

  async *replies(
    requests: AsyncIterable<PurchaseStreamRequest>,
    { ending, signal }: Pick<CallContext, 'ending' | 'signal'>,
  ): AsyncGenerator<PurchaseStreamReply> {
    const wake = () => this.wake();
    let linger: NodeJS.Timeout | undefined;
    const close = () => {
      this.isClosed = true;
      this.onRoom?.();
      this.wake();
    };
    ending.addEventListener('abort', wake);
    signal.addEventListener('abort', close);
    try {
      yield { results: [], maxInFlight: this.window, reconnect: false };
      void this.read(requests);
      for (let asked = false; !signal.aborted; ) {
        const { results } = this;
        const reconnect = ending.aborted && !asked;
        if (reconnect) {
          asked = true;
          linger = setTimeout(close, LINGER_MS);
        }
        if (results.length > 0 || reconnect) {
          this.results = [];
          yield { results, maxInFlight: 0, reconnect };
          this.leave(results.length);
        } else if (this.inFlight === 0 && (!this.reads || this.isClosed)) {
          break;
        } else {
          await new Promise<void>((resolve) => {
            this.onNews = resolve;
          });
        }
      }
      if (this.fault !== undefined) throw this.fault;
    } finally {
      this.isClosed = true;
      this.onRoom?.();
      clearTimeout(linger);
      ending.removeEventListener('abort', wake);
      signal.removeEventListener('abort', close);
    }
  }

  private async read(requests: AsyncIterable<PurchaseStreamRequest>): Promise<void> {
    try {
      for await (const { purchases } of requests) {
        for (const purchase of purchases) {
          while (this.inFlight >= this.window && !this.isClosed) {
            await new Promise<void>((resolve) => {
              this.onRoom = resolve;
            });
          }
          if (this.isClosed) return;
          this.begin(purchase);
        }
      }
    } catch (err) {
      this.fault = err;
    } finally {
      this.reads = false;
      this.wake();
    }
  }

  private begin(purchase: PurchaseStreamRequest_Purchase): void {
    this.inFlight++;
    const { number } = purchase;
    try {
      const item = collected(purchase);
      const waiter: CollectedWaiter = {
        item,
        resolve: (outcome) => this.end(number, outcome),
        reject: (err) => this.fail(number, toKratosError(err)),
      };
      if (!this.collector.add(purchase.itemId, waiter)) this.fail(number, busy());
    } catch (err) {
      this.fail(number, toKratosError(err));
    }
  }

  private end(number: number, outcome: BatchOutcome): void {
    if (outcome.kind === 'FAILED') {
      this.counts.addReason(outcome.reason);
      this.add({ ...EMPTY, number, reason: outcome.reason, message: outcome.message });
      return;
    }
    this.counts.add(outcome.kind);
    this.add({
      number,
      code: Code[outcome.kind],
      seckillId: outcome.kind === 'QUEUED' ? outcome.seckillId : '',
      mayReturn: outcome.kind === 'SOLD_OUT' && outcome.mayReturn,
      reason: '',
      message: '',
    });
  }

  private fail(number: number, err: KratosError): void {
    this.counts.addError(err);
    this.add({ ...EMPTY, number, reason: err.reason, message: err.message });
  }

  /** Results of one turn of the event loop leave together, because the generator goes on after it. */
  private add(result: PurchaseStreamReply_Result): void {
    this.results.push(result);
    this.wake();
  }

  private leave(sent: number): void {
    this.inFlight -= sent;
    this.onRoom?.();
    this.onRoom = undefined;
  }

  private wake(): void {
    this.onNews?.();
    this.onNews = undefined;
  }
}

/** @throws INVALID_ARGUMENT naming the field */
function collected(purchase: PurchaseStreamRequest_Purchase): CollectedPurchase {
  const { itemId, quantity = 1, requestId, timeoutMs } = purchase;
  if (itemId <= 0n) throw invalid('item_id', 'must be greater than 0');
  if (quantity <= 0 || quantity > MAX_QUANTITY) throw invalid('quantity', `must be from 1 to ${MAX_QUANTITY}`);
  if (requestId.length > MAX_REQUEST_ID_BYTES || Buffer.byteLength(requestId) > MAX_REQUEST_ID_BYTES) {
    throw invalid('request_id', `must be at most ${MAX_REQUEST_ID_BYTES} bytes`);
  }
  if (requestId.includes('\0')) throw invalid('request_id', 'must not contain a NUL character');
  return {
    userId: formatUserId(purchase.userId),
    quantity,
    requestId,
    traceparent: purchase.traceparent === '' ? '' : (traceparentOf(purchase.traceparent) ?? ''),
    deadlineAtMs: timeoutMs === 0 ? Number.POSITIVE_INFINITY : Date.now() + timeoutMs,
  };
}

function invalid(field: string, description: string) {
  return invalidArgument(`${field} ${description}`, { violations: [{ field, description }] });
}

function busy() {
  return saleBacklogFull('too many purchases of this item wait to be decided; try again shortly');
}
