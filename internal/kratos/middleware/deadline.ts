import { deadlineExceeded } from '../errors/reasons.js';
import type { Call, Reply } from '../transport/call.js';
import type { Middleware } from '../transport/chain.js';

/** setTimeout fires immediately for longer delays. */
const MAX_TIMER_MS = 0x7fff_ffff;

export interface DeadlineLimits {
  /** For gRPC calls without a deadline. */
  readonly grpcTimeoutMs: number;
  /** Upper bound for JSON requests. */
  readonly httpTimeoutMs: number;
}

/**
 * Ends a call at its deadline, which is the caller's or else the server's: its signal is aborted and the caller gets
 * DEADLINE_EXCEEDED immediately, even if the handler ignores the signal. A reply stream may stay open, so it has only
 * the caller's deadline. A call whose caller disconnects ends in the same way, as CANCELLED.
 */
export function deadline(limits: DeadlineLimits): Middleware {
  return (next, method) => {
    const open = method.methodKind === 'server_streaming' || method.methodKind === 'bidi_streaming';
    return (call) => {
      if (!open) call.deadlineAtMs = deadlineOf(call, limits);
      return new Promise<Reply>((resolve, reject) => {
        const timer = arm(call);
        call.onAbort((err) => {
          clearTimeout(timer);
          reject(err);
        });
        if (call.aborted) return;
        next(call).then(
          (reply) => {
            if (reply.kind === 'unary') {
              clearTimeout(timer);
              resolve(reply);
            } else if (call.aborted) {
              void reply.messages[Symbol.asyncIterator]().return?.();
            } else {
              resolve({ kind: 'stream', messages: new BoundStream(reply.messages, call, timer) });
            }
          },
          (err: unknown) => {
            clearTimeout(timer);
            reject(err);
          },
        );
      });
    };
  };
}

function deadlineOf(call: Call, limits: DeadlineLimits): number {
  if (call.transport === 'grpc') return call.deadlineAtMs ?? Date.now() + limits.grpcTimeoutMs;
  return Math.min(call.deadlineAtMs ?? Number.POSITIVE_INFINITY, Date.now() + limits.httpTimeoutMs);
}

function arm(call: Call): NodeJS.Timeout | undefined {
  if (call.deadlineAtMs === undefined) return undefined;
  const leftMs = call.deadlineAtMs - Date.now();
  const expire = () => call.abort(deadlineExceeded('the deadline has passed'));
  if (leftMs <= 0) {
    expire();
    return undefined;
  }
  return setTimeout(expire, Math.min(leftMs, MAX_TIMER_MS));
}

/** A reply stream that fails when its call is aborted, even while its source is waiting. */
class BoundStream implements AsyncIterable<Uint8Array>, AsyncIterator<Uint8Array> {
  private readonly source: AsyncIterator<Uint8Array>;
  private fail: ((err: unknown) => void) | undefined;
  private over = false;

  constructor(
    messages: AsyncIterable<Uint8Array>,
    private readonly call: Call,
    private readonly timer: NodeJS.Timeout | undefined,
  ) {
    this.source = messages[Symbol.asyncIterator]();
    call.onAbort((err) => {
      this.fail?.(err);
      this.end();
    });
  }

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    return this;
  }

  next(): Promise<IteratorResult<Uint8Array>> {
    if (this.call.aborted) return Promise.reject(this.call.aborted);
    return new Promise((resolve, reject) => {
      this.fail = reject;
      this.source.next().then((result) => {
        if (result.done) {
          this.over = true;
          clearTimeout(this.timer);
        }
        resolve(result);
      }, reject);
    });
  }

  async return(): Promise<IteratorResult<Uint8Array>> {
    this.end();
    return { done: true, value: undefined };
  }

  /** Not awaited, because a source that is stuck ends only when it checks its signal. */
  private end(): void {
    if (this.over) return;
    this.over = true;
    clearTimeout(this.timer);
    void this.source.return?.().catch(() => undefined);
  }
}
