import type { ServerDuplexStream, ServerReadableStream } from '@grpc/grpc-js';
import { cancelled } from '../../errors/reasons.js';

type Surface = ServerReadableStream<Buffer, Buffer> | ServerDuplexStream<Buffer, Buffer>;

/**
 * The requests of a client stream. The iterator of node:stream is an async generator, which makes several promises for
 * each message; this one makes one. It reads only what is asked for, so that a caller is slowed down by flow control,
 * and does not destroy the stream at its end, because the replies may continue.
 */
export class RequestReader implements AsyncIterable<Uint8Array>, AsyncIterator<Uint8Array> {
  private isOver = false;
  private pending:
    | { resolve: (result: IteratorResult<Uint8Array>) => void; reject: (err: unknown) => void }
    | undefined;

  constructor(private readonly surface: Surface) {}

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    this.surface.on('readable', this.onReadable);
    this.surface.once('end', this.onEnd);
    this.surface.once('close', this.onEnd);
    return this;
  }

  next(): Promise<IteratorResult<Uint8Array>> {
    const message = this.surface.read() as Buffer | null;
    if (message !== null) return Promise.resolve({ done: false, value: message });
    if (this.isOver || this.surface.readableEnded) return Promise.resolve({ done: true, value: undefined });
    if (this.surface.destroyed) return Promise.reject(gone());
    return new Promise((resolve, reject) => {
      this.pending = { resolve, reject };
    });
  }

  async return(): Promise<IteratorResult<Uint8Array>> {
    this.isOver = true;
    this.surface.off('readable', this.onReadable);
    this.surface.off('end', this.onEnd);
    this.surface.off('close', this.onEnd);
    return { done: true, value: undefined };
  }

  private readonly onReadable = () => {
    if (!this.pending) return;
    const message = this.surface.read() as Buffer | null;
    if (message === null) return;
    const { resolve } = this.pending;
    this.pending = undefined;
    resolve({ done: false, value: message });
  };

  private readonly onEnd = () => {
    const { pending } = this;
    this.pending = undefined;
    if (this.surface.readableEnded) pending?.resolve({ done: true, value: undefined });
    else pending?.reject(gone());
  };
}

function gone() {
  return cancelled('the caller cancelled the call');
}
