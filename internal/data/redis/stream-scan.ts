import type { Redis } from 'ioredis';
import { asUnavailable, type RedisServer } from './redis.js';
import type { SegmentStream } from './seckill-keys.js';

/** SCAN steps of one search, so that a server full of other keys is searched bit by bit. */
const STEPS = 20;
const COUNT = 1_000;

interface ScannedServer {
  /** Where the scan goes on. */
  cursor: string;
  running: Promise<void> | undefined;
  /** What the last scan failed with. */
  failure: unknown;
}

/** Finds the streams of sales by their names. */
export class StreamScan {
  /** By address. */
  private readonly servers = new Map<string, ScannedServer>();

  constructor(
    private readonly server: RedisServer,
    private readonly onFound: (stream: SegmentStream) => void,
  ) {}

  /**
   * Searches each server a little further. A server of a cluster whose last scan failed is searched without being waited for.
   * @throws UNAVAILABLE when no server can be searched
   */
  async run(): Promise<void> {
    const scans = await Promise.allSettled(this.server.masters().map((master) => this.scan(master)));
    const failed = scans.filter((s) => s.status === 'rejected');
    if (failed.length > 0 && failed.length === scans.length) throw failed[0]!.reason;
  }

  private async scan(master: Redis): Promise<void> {
    const address = `${master.options.host}:${master.options.port}`;
    const known = this.servers.get(address) ?? { cursor: '0', running: undefined, failure: undefined };
    this.servers.set(address, known);
    known.running ??= this.goOn(master, known);
    if (known.failure === undefined || !this.server.isCluster) await known.running;
    if (known.failure !== undefined) throw known.failure;
  }

  private async goOn(master: Redis, known: ScannedServer): Promise<void> {
    try {
      await this.search(master, known);
      known.failure = undefined;
    } catch (err) {
      known.failure = asUnavailable(err);
    }
    known.running = undefined;
  }

  private async search(master: Redis, known: ScannedServer): Promise<void> {
    const pattern = this.server.keys.streamPattern();
    for (let step = 0; step < STEPS; step++) {
      const [cursor, keys] = await master.scan(known.cursor, 'MATCH', pattern, 'COUNT', COUNT, 'TYPE', 'stream');
      known.cursor = cursor;
      for (const key of keys) {
        const stream = this.server.keys.streamOf(key);
        if (stream) this.onFound(stream);
      }
      if (cursor === '0') return;
    }
  }
}
