import { join } from 'node:path';
import { until } from '../servers/process.js';
import { RedisNode } from './redis-nodes.js';

const START_MS = 20_000;
const REPLICAS = 2;
const SENTINELS = 3;
const QUORUM = 2;
export const SENTINEL_MASTER = 'kaimai';

export interface SentinelOptions {
  /** Must be traversable by every account when root starts servers. */
  readonly root: string;
  port(): Promise<number>;
  /** Further lines of every server's configuration. */
  readonly lines?: readonly string[];
}

/** A Redis with two replicas and three Sentinels that promote one of them. */
export class RedisSentinelProcesses {
  private constructor(
    readonly servers: readonly RedisNode[],
    private readonly sentinels: readonly RedisNode[],
  ) {}

  /** Resolves when the replicas are in step and the Sentinels know each other. */
  static async start({ root, port, lines = [] }: SentinelOptions): Promise<RedisSentinelProcesses> {
    const masterPort = await port();
    const common = ['appendonly yes', 'appendfsync everysec', 'save ""', 'repl-diskless-sync-delay 0', ...lines];
    const servers: RedisNode[] = [];
    for (let i = 0; i <= REPLICAS; i++) {
      const own = i === 0 ? common : [...common, `replicaof 127.0.0.1 ${masterPort}`];
      const name = `Redis ${i + 1}`;
      servers.push(
        new RedisNode({ name, dir: join(root, `redis-${i}`), port: i === 0 ? masterPort : await port(), lines: own }),
      );
    }
    const watch = [
      `sentinel monitor ${SENTINEL_MASTER} 127.0.0.1 ${masterPort} ${QUORUM}`,
      `sentinel down-after-milliseconds ${SENTINEL_MASTER} 1000`,
      `sentinel failover-timeout ${SENTINEL_MASTER} 6000`,
    ];
    const sentinels: RedisNode[] = [];
    for (let i = 0; i < SENTINELS; i++) {
      const dir = join(root, `sentinel-${i}`);
      sentinels.push(
        new RedisNode({ name: `Sentinel ${i + 1}`, dir, port: await port(), lines: watch, sentinel: true }),
      );
    }
    const all = new RedisSentinelProcesses(servers, sentinels);
    try {
      await Promise.all(servers.map((server) => server.start()));
      const inStep = async () => /^connected_slaves:2\b/m.test(await servers[0]!.client.info('replication'));
      await until('two replicas are in step', inStep, { timeoutMs: START_MS });
      await Promise.all(sentinels.map((sentinel) => sentinel.start()));
      const agreed = async () => {
        const replies = sentinels.map((s) => s.client.call('SENTINEL', 'CKQUORUM', SENTINEL_MASTER));
        return (await Promise.all(replies)).every((reply) => String(reply).includes(`${SENTINELS} usable`));
      };
      await until('the Sentinels know each other', () => agreed().catch(() => false), { timeoutMs: START_MS });
    } catch (err) {
      await all.stop();
      throw err;
    }
    return all;
  }

  /** For `data.redis.sentinels`. */
  get addresses(): string[] {
    return this.sentinels.map((sentinel) => sentinel.address);
  }

  /** The server that the Sentinels call the master. */
  async master(): Promise<RedisNode> {
    for (const sentinel of this.sentinels) {
      const reply = await sentinel.client.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', SENTINEL_MASTER).catch(() => []);
      const server = this.servers.find((s) => s.port === Number((reply as string[])[1]));
      if (server) return server;
    }
    throw new Error('no Sentinel names the master');
  }

  async stop(): Promise<void> {
    await Promise.all([...this.sentinels, ...this.servers].map((node) => node.stop()));
  }
}
