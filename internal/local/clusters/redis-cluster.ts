import { join } from 'node:path';
import { type SpawnedProcess, until } from '../servers/process.js';
import { RedisNode } from './redis-nodes.js';

const SLOTS = 16_384;
const START_MS = 60_000;
/** On a busy machine an election may need several rounds, which are seconds apart. */
const FAILOVER_MS = 60_000;

export interface ClusterOptions {
  /** Must be traversable by every account when root starts servers. */
  readonly root: string;
  /** Gives a port to listen on. */
  port(): Promise<number>;
  /** Default 3. */
  readonly masters?: number;
  /** How long a node may be silent before the others call it failed. Default 1,000. */
  readonly nodeTimeoutMs?: number;
  readonly appendfsync?: 'always' | 'everysec';
  /** Called with each process of a node. */
  readonly spawned?: (child: SpawnedProcess) => void;
}

/** A Redis Cluster of private processes: masters with one replica each, node i + masters being the replica of node i. */
export class RedisClusterProcesses {
  private constructor(
    readonly nodes: readonly RedisNode[],
    private readonly masterCount: number,
  ) {}

  /** Resolves when all slots are served and all replicas are in step. */
  static async start(options: ClusterOptions): Promise<RedisClusterProcesses> {
    const { masters = 3, nodeTimeoutMs = 1_000, appendfsync = 'everysec' } = options;
    const nodes: RedisNode[] = [];
    for (let i = 0; i < 2 * masters; i++) {
      const lines = [
        'cluster-enabled yes',
        `cluster-port ${await options.port()}`,
        `cluster-node-timeout ${nodeTimeoutMs}`,
        // A replica that was away for a while may still take over: with one replica each, the alternative is no service.
        'cluster-replica-validity-factor 0',
        'cluster-allow-replica-migration no',
        'repl-diskless-sync-delay 0',
        'repl-ping-replica-period 1',
        'appendonly yes',
        `appendfsync ${appendfsync}`,
        'save ""',
        'maxmemory-policy noeviction',
      ];
      const name = `Redis node ${i + 1}`;
      const dir = join(options.root, `redis-${i + 1}`);
      nodes.push(new RedisNode({ name, dir, port: await options.port(), lines, spawned: options.spawned }));
    }
    const cluster = new RedisClusterProcesses(nodes, masters);
    try {
      await Promise.all(nodes.map((node) => node.start()));
      await cluster.form();
    } catch (err) {
      await cluster.stop();
      throw err;
    }
    return cluster;
  }

  /** For `data.redis.nodes`. */
  get addresses(): string[] {
    return this.nodes.map((node) => node.address);
  }

  /** The node that serves a key now, by the view of a node that answers. */
  async masterOf(key: string): Promise<RedisNode> {
    const slot = await this.ask((node) => node.client.cluster('KEYSLOT', key));
    return this.masterOfSlot(slot as number);
  }

  async masterOfSlot(slot: number): Promise<RedisNode> {
    const ranges = (await this.ask((node) => node.client.cluster('SLOTS'))) as [number, number, [string, number]][];
    const port = ranges.find(([from, to]) => from <= slot && slot <= to)?.[2][1];
    const node = this.nodes.find((n) => n.port === port);
    if (!node) throw new Error(`no node serves slot ${slot}`);
    return node;
  }

  /** The replica of a master. */
  async replicaOf(master: RedisNode): Promise<RedisNode> {
    const info = await master.client.info('replication');
    const port = Number(/^slave0:ip=[^,]*,port=(\d+)/m.exec(info)?.[1]);
    const node = this.nodes.find((n) => n.port === port);
    if (!node) throw new Error(`${master.address} has no replica`);
    return node;
  }

  /** Resolves when another node than `master` serves the key. */
  async untilFailedOver(key: string, master: RedisNode): Promise<void> {
    const moved = async () => (await this.masterOf(key)) !== master;
    await until(`a replica of ${master.address} is promoted`, moved, { timeoutMs: FAILOVER_MS });
    await this.untilServing();
  }

  /** Begins to move the slot of a key to another master: from now on both serve a part of its keys. */
  async beginMove(key: string): Promise<SlotMove> {
    const slot = (await this.nodes[0]!.client.cluster('KEYSLOT', key)) as number;
    const from = await this.masterOfSlot(slot);
    const ranges = (await from.client.cluster('SLOTS')) as unknown as [number, number, [string, number, string]][];
    const fromId = String(await from.client.cluster('MYID'));
    const other = ranges.find(([, , [, port]]) => port !== from.port)?.[2];
    const to = this.nodes.find((n) => n.port === other?.[1]);
    if (!other || !to) throw new Error('there is no other master');
    await to.client.cluster('SETSLOT', slot, 'IMPORTING', fromId);
    await from.client.cluster('SETSLOT', slot, 'MIGRATING', other[2]);
    return new SlotMove(slot, from, to, other[2]);
  }

  /** Resolves when every living node says that all slots are served. */
  async untilServing(): Promise<void> {
    await until('the cluster serves all slots', async () => this.everyNode(/cluster_state:ok/), {
      timeoutMs: START_MS,
    });
  }

  /** Resolves when every living master has a replica in step. */
  async untilReplicated(): Promise<void> {
    const inStep = async (node: RedisNode) => {
      const info = await node.client.info('replication').catch(() => '');
      if (info.includes('role:slave')) return info.includes('master_link_status:up');
      return /^slave0:.*state=online/m.test(info);
    };
    const all = async () => (await Promise.all(this.living().map(inStep))).every(Boolean);
    await until('all replicas are in step', all, { timeoutMs: START_MS });
  }

  async stop(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.stop()));
  }

  private async form(): Promise<void> {
    const { nodes, masterCount } = this;
    const share = Math.ceil(SLOTS / masterCount);
    await Promise.all(nodes.map((node, i) => node.client.cluster('SET-CONFIG-EPOCH', i + 1)));
    for (let i = 0; i < masterCount; i++) {
      const slots = Array.from({ length: Math.min(share, SLOTS - i * share) }, (_, k) => i * share + k);
      await nodes[i]!.client.cluster('ADDSLOTS', ...slots);
    }
    const first = nodes[0]!;
    for (const node of nodes.slice(1)) {
      const bus = ((await node.client.config('GET', 'cluster-port')) as string[])[1]!;
      // The types of ioredis do not know the third argument.
      await first.client.call('CLUSTER', 'MEET', '127.0.0.1', node.port, bus);
    }
    const known = () => this.everyNode(new RegExp(`cluster_known_nodes:${nodes.length}\\b`));
    await until('the nodes know each other', known, { timeoutMs: START_MS });
    const ids = await Promise.all(nodes.map((node) => node.client.cluster('MYID')));
    for (let i = masterCount; i < nodes.length; i++) {
      const master = String(ids[i - masterCount]);
      // A node that has met the others may not know yet that this one is a master.
      const follow = () => nodes[i]!.client.cluster('REPLICATE', master).then(Boolean, () => false);
      await until('a replica follows its master', follow, { timeoutMs: START_MS });
    }
    await this.untilServing();
    await this.untilReplicated();
  }

  private async everyNode(pattern: RegExp): Promise<boolean> {
    const infos = await Promise.all(this.living().map((node) => node.client.cluster('INFO').catch(() => '')));
    return infos.length > 0 && infos.every((info) => pattern.test(String(info)));
  }

  /** A dead node is not asked: its client would answer after its next try to connect, up to 2 s later. */
  private living(): readonly RedisNode[] {
    return this.nodes.filter((node) => node.isAlive);
  }

  /** The reply of a node that answers. */
  private async ask(question: (node: RedisNode) => Promise<unknown>): Promise<unknown> {
    for (const node of this.living()) {
      const reply = await question(node).catch(() => undefined);
      if (reply !== undefined) return reply;
    }
    throw new Error('no node answers');
  }
}

/** A slot on its way from one master to another. */
export class SlotMove {
  constructor(
    private readonly slot: number,
    readonly from: RedisNode,
    readonly to: RedisNode,
    private readonly toId: string,
  ) {}

  /** Moves up to `count` keys. @returns how many */
  async moveKeys(count: number): Promise<number> {
    const keys = (await this.from.client.cluster('GETKEYSINSLOT', this.slot, count)) as string[];
    if (keys.length > 0) {
      await this.from.client.call('MIGRATE', '127.0.0.1', this.to.port, '', 0, 5_000, 'KEYS', ...keys);
    }
    return keys.length;
  }

  /** Moves the keys that are left, and gives the slot to the other master. */
  async finish(): Promise<void> {
    while ((await this.moveKeys(100)) > 0);
    await this.to.client.cluster('SETSLOT', this.slot, 'NODE', this.toId);
    await this.from.client.cluster('SETSLOT', this.slot, 'NODE', this.toId);
  }
}
