import type { KratosError } from '../errors/error.js';
import type { Call, Next, Reply } from './call.js';
import { toKratosError } from './to-kratos-error.js';

/** Called once when a call has ended. */
export type End = (err: KratosError | undefined) => void;

/**
 * Runs the rest of a chain and calls `end` once when the call has ended: for a stream, when its last message was sent,
 * it failed, or its reader stopped reading. `end` and the caller get errors as KratosError.
 */
export function watchEnd(next: Next, call: Call, end: End): Promise<Reply> {
  // Every call passes here; an async function would cost a second promise.
  return begin(next, call).then(
    (reply) => {
      if (reply.kind === 'stream') return { kind: 'stream', messages: new WatchedStream(reply.messages, call, end) };
      end(undefined);
      return reply;
    },
    (err: unknown) => {
      const known = toKratosError(err);
      end(known);
      throw known;
    },
  );
}

/** Turns a synchronous throw of a handler into a rejection, so that `end` is called for it too. */
function begin(next: Next, call: Call): Promise<Reply> {
  try {
    return next(call);
  } catch (err) {
    return Promise.reject(err);
  }
}

/** Not an async generator, because a generator that was never started runs no `finally` when its reader stops. */
class WatchedStream implements AsyncIterable<Uint8Array>, AsyncIterator<Uint8Array> {
  private source: AsyncIterator<Uint8Array> | undefined;
  private over = false;

  constructor(
    private readonly messages: AsyncIterable<Uint8Array>,
    private readonly call: Call,
    private readonly end: End,
  ) {}

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array>> {
    try {
      this.source ??= this.messages[Symbol.asyncIterator]();
      const result = await this.source.next();
      if (result.done) this.finish(undefined);
      return result;
    } catch (err) {
      const known = toKratosError(err);
      this.finish(known);
      throw known;
    }
  }

  async return(): Promise<IteratorResult<Uint8Array>> {
    this.finish(this.call.aborted);
    await (this.source ?? this.messages[Symbol.asyncIterator]()).return?.();
    return { done: true, value: undefined };
  }

  private finish(err: KratosError | undefined): void {
    if (this.over) return;
    this.over = true;
    this.end(err);
  }
}
