import type { ServerResponse } from 'node:http';

export interface StreamReplyOptions {
  readonly res: ServerResponse;
  readonly messages: AsyncIterable<Uint8Array>;
  /** Sends status and headers; called before the first write, with the first message if it was available in time. */
  readonly begin: (first: Uint8Array | undefined) => void;
  readonly encode: (message: Uint8Array) => string | Uint8Array;
  /** Encodes an error after the start; undefined resets the connection, so that the client notices. */
  readonly encodeError: (err: unknown) => string | undefined;
  /** Written at the end of a successful stream. */
  readonly epilogue: string;
  /** Written after `heartbeatMs` without a message; empty for none. */
  readonly heartbeat: string;
  readonly heartbeatMs: number;
  readonly writeTimeoutMs: number;
  /** Called for an error before the start, which can still become an error reply. */
  readonly failEarly: (err: unknown) => void;
}

/** How long the headers wait for the first message. */
const FIRST_MESSAGE_MS = 100;

/**
 * Writes a stream of messages: waiting → started (headers sent) → over. The next message is requested only after the
 * client
 * has taken the last one.
 */
export class StreamReply {
  private readonly iterator: AsyncIterator<Uint8Array>;
  private started = false;
  private over = false;
  private timer: NodeJS.Timeout | undefined;
  private readonly onDrain = (): void => {
    this.options.res.socket?.setTimeout(0);
    this.next();
  };

  constructor(private readonly options: StreamReplyOptions) {
    this.iterator = options.messages[Symbol.asyncIterator]();
  }

  run(): void {
    this.timer = setTimeout(() => {
      this.start(undefined);
      this.options.res.flushHeaders();
      this.beat();
    }, FIRST_MESSAGE_MS);
    this.next();
  }

  private beat(): void {
    const { heartbeat, heartbeatMs, res } = this.options;
    if (heartbeat === '' || this.over) return;
    this.timer = setInterval(() => {
      if (!res.writableNeedDrain) res.write(heartbeat);
    }, heartbeatMs);
  }

  private start(first: Uint8Array | undefined): void {
    if (this.started) return;
    this.started = true;
    this.options.begin(first);
  }

  private next(): void {
    if (this.over) return;
    this.iterator.next().then(
      (result) => {
        if (this.over) return;
        if (result.done === true) this.finish(this.options.epilogue);
        else this.write(result.value);
      },
      (err: unknown) => this.fail(err),
    );
  }

  private write(message: Uint8Array): void {
    const { res, encode, writeTimeoutMs } = this.options;
    try {
      const chunk = encode(message);
      if (!this.started) {
        clearTimeout(this.timer);
        this.start(message);
        this.beat();
      } else {
        // An active stream needs no heartbeat.
        this.timer?.refresh();
      }
      if (res.write(chunk)) {
        this.next();
        return;
      }
      res.once('drain', this.onDrain);
      res.socket?.setTimeout(writeTimeoutMs);
    } catch (err) {
      this.fail(err);
    }
  }

  private finish(text: string): void {
    this.start(undefined);
    this.close();
    this.options.res.end(text);
  }

  /** Ends the stream with an error and stops the source. */
  fail(err: unknown): void {
    if (this.over) return;
    if (!this.started) {
      this.close();
      this.options.failEarly(err);
      return;
    }
    const text = this.options.encodeError(err);
    this.close();
    if (text === undefined) this.options.res.destroy();
    else this.options.res.end(text);
  }

  /** Stops without writing anything: the client has disconnected, or wants no body. */
  close(): void {
    if (this.over) return;
    this.over = true;
    clearTimeout(this.timer);
    this.options.res.off('drain', this.onDrain);
    // Not awaited: a source that is waiting for its next message only returns after it.
    this.iterator.return?.().catch(() => undefined);
  }
}
