import { isRedisAway } from './redis.js';
import type { SegmentStream } from './seckill-keys.js';

const RETRY_MS = 100;
const MAX_RETRY_MS = 2_000;

interface AwayStream {
  readonly stream: SegmentStream;
  readonly err: unknown;
  tries: number;
  /** By performance.now(); infinite during a try. */
  retryAtMs: number;
}

/**
 * Which streams of a cluster cannot be reached, because their server is away or their slot is on its way. They are left
 * out until a try reaches them again. No caller waits for a try, so a server that hangs costs the other servers' streams
 * one time limit, and not one in each round.
 */
export class StreamReach {
  private readonly away = new Map<string, AwayStream>();
  private back: SegmentStream[] = [];

  /** @param ask resolves when the stream's server answers */
  constructor(private readonly ask: (stream: SegmentStream) => Promise<unknown>) {}

  isAway(stream: SegmentStream): boolean {
    return this.away.has(nameOf(stream));
  }

  /** The items with a stream that cannot be reached, with the error. */
  get items(): ReadonlyMap<bigint, unknown> {
    return new Map([...this.away.values()].map(({ stream, err }) => [stream.itemId, err]));
  }

  leaveOut(stream: SegmentStream, err: unknown): void {
    if (this.isAway(stream)) return;
    this.away.set(nameOf(stream), { stream, err, tries: 0, retryAtMs: performance.now() + RETRY_MS });
  }

  /** Begins a try of each stream that is due. */
  retry(): void {
    const nowMs = performance.now();
    for (const away of this.away.values()) {
      if (away.retryAtMs > nowMs) continue;
      away.retryAtMs = Number.POSITIVE_INFINITY;
      void this.retryOne(away);
    }
  }

  /** The streams that can be reached again since the last call. */
  takeBack(): readonly SegmentStream[] {
    const { back } = this;
    this.back = [];
    return back;
  }

  private async retryOne(away: AwayStream): Promise<void> {
    try {
      await this.ask(away.stream);
    } catch (err) {
      if (isRedisAway(err)) {
        const waitMs = Math.min(MAX_RETRY_MS, RETRY_MS * 2 ** Math.min(++away.tries, 16));
        away.retryAtMs = performance.now() + waitMs * (0.5 + Math.random() / 2);
        return;
      }
      // Any other answer comes from the server.
    }
    this.away.delete(nameOf(away.stream));
    this.back.push(away.stream);
  }
}

function nameOf({ itemId, segment }: SegmentStream): string {
  return `${itemId}#${segment}`;
}
