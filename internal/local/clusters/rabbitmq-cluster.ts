import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { makePrivateDirectory, serverAccount } from '../servers/account.js';
import { killProcessNow, type SpawnedProcess, stopProcess, until } from '../servers/process.js';
import { erlangEnvironment, rabbitmq, rabbitmqctl, startEpmd, startNode } from '../servers/rabbitmq.js';

const NODES = 3;
const START_MS = 120_000;

/** One node of a RabbitMQ cluster. */
export interface BrokerNode {
  /** Its Erlang name. */
  readonly name: string;
  readonly url: string;
  readonly managementUrl: string;
  readonly process: SpawnedProcess;
}

export interface BrokerClusterOptions {
  /** Must be traversable by every account when root starts servers. */
  readonly root: string;
  /** Gives a port to listen on, for a standard one. */
  port(standard?: number): Promise<number>;
  /** Called with each process. */
  readonly spawned?: (child: SpawnedProcess) => void;
}

/** Three RabbitMQ nodes in one cluster; the smaller side of a partition pauses. */
export class RabbitmqClusterProcesses {
  private constructor(
    readonly nodes: readonly BrokerNode[],
    private readonly others: readonly SpawnedProcess[],
    private readonly script: string,
    private readonly env: Readonly<Record<string, string>>,
  ) {}

  /** Resolves when the nodes run as one cluster. */
  static async start({ root, port, spawned: told }: BrokerClusterOptions): Promise<RabbitmqClusterProcesses> {
    const script = rabbitmq.find();
    if (script === undefined) throw new Error('rabbitmq-server was not found');
    const account = serverAccount(rabbitmq.account);
    const directory = (name: string) => {
      const dir = join(root, name);
      mkdirSync(dir, { recursive: true });
      makePrivateDirectory(dir, account);
      return dir;
    };
    const home = directory('rabbitmq-home');
    const cookie = join(home, '.erlang.cookie');
    writeFileSync(cookie, randomBytes(16).toString('hex'), { mode: 0o400 });
    if (account) chownSync(cookie, account.uid, account.gid);
    const signal = AbortSignal.timeout(START_MS);
    const spawned: SpawnedProcess[] = [];
    const context = (dir: string, children: SpawnedProcess[]) => {
      return {
        dir,
        port,
        signal,
        spawned: (child: SpawnedProcess) => {
          spawned.push(child);
          children.push(child);
          told?.(child);
        },
      };
    };
    try {
      const epmdPort = await startEpmd(context(home, []));
      const names = Array.from({ length: NODES }, (_, i) => `kaimai${i + 1}@localhost`);
      const lines = [
        'cluster_formation.peer_discovery_backend = classic_config',
        ...names.map((name, i) => `cluster_formation.classic_config.nodes.${i + 1} = ${name}`),
        'cluster_partition_handling = pause_minority',
      ];
      const nodes = await Promise.all(
        names.map(async (name, i): Promise<BrokerNode> => {
          const children: SpawnedProcess[] = [];
          const dir = directory(`rabbitmq-${i + 1}`);
          const endpoint = await startNode(script, context(dir, children), { epmdPort, node: name, home, lines });
          const managementUrl = endpoint.extras.KAIMAI_RABBITMQ_MANAGEMENT_URL!;
          return { name, url: endpoint.url, managementUrl, process: children[0]! };
        }),
      );
      const running = new Set(nodes.map((n) => n.process));
      const cluster = new RabbitmqClusterProcesses(
        nodes,
        spawned.filter((child) => !running.has(child)),
        script,
        { ...erlangEnvironment(epmdPort), HOME: home },
      );
      await cluster.untilWhole();
      return cluster;
    } catch (err) {
      for (const child of spawned) killProcessNow(child);
      throw err;
    }
  }

  /** For `data.rabbitmq.url`. */
  get url(): string {
    return this.nodes.map((node) => node.url).join(',');
  }

  /** The node that leads a quorum queue, by the view of a node that answers. */
  async leaderOf(queue: string): Promise<BrokerNode> {
    const { leader } = (await this.ask(`/api/queues/%2F/${encodeURIComponent(queue)}`)) as { leader?: string };
    const node = this.nodes.find((n) => n.name === leader);
    if (!node) throw new Error(`no node leads the queue ${queue}`);
    return node;
  }

  /** SIGKILL. */
  kill(node: BrokerNode): void {
    killProcessNow(node.process);
  }

  /** Cuts a node off: it answers no caller, with all connections open, until it is thawed. */
  freeze(node: BrokerNode): void {
    process.kill(node.process.pid, 'SIGSTOP');
  }

  thaw(node: BrokerNode): void {
    process.kill(node.process.pid, 'SIGCONT');
  }

  /**
   * Cuts a node off from the others while its clients reach it: its Erlang cookie for them and theirs for it differ from now
   * on, so every connection between them is refused, in both directions.
   */
  async partition(node: BrokerNode): Promise<void> {
    const cut = 'erlang:set_cookie(N, partitioned), erlang:disconnect_node(N)';
    await this.eval(node, `[begin ${cut} end || N <- ${this.othersOf(node)}].`);
  }

  async heal(node: BrokerNode): Promise<void> {
    await this.eval(node, `[erlang:set_cookie(N, erlang:get_cookie()) || N <- ${this.othersOf(node)}].`);
  }

  /** Resolves when all nodes run in one cluster. */
  async untilWhole(): Promise<void> {
    await until('the nodes form a cluster', () => this.isWhole(), { timeoutMs: START_MS });
  }

  /** Resolves when the node takes no connections, as the smaller side of a partition. */
  async untilPaused(node: BrokerNode): Promise<void> {
    const paused = async () => (await this.askNode(node, '/api/overview')) === undefined;
    await until(`${node.name} pauses`, paused, { timeoutMs: START_MS });
  }

  async stop(): Promise<void> {
    for (const { process } of this.nodes) killProcessNow(process);
    await Promise.all(this.others.map((child) => stopProcess(child)));
  }

  /** Asks every node: one that rejoins knows the others later than they know it. */
  private async isWhole(): Promise<boolean> {
    const views = await Promise.all(this.nodes.map((node) => this.askNode(node, '/api/nodes')));
    return views.every((view) => {
      return ((view ?? []) as { running: boolean }[]).filter((n) => n.running).length === NODES;
    });
  }

  private othersOf(node: BrokerNode): string {
    const others = this.nodes.filter((other) => other !== node);
    return `[${others.map((other) => `'${other.name}'`).join(', ')}]`;
  }

  private async eval(node: BrokerNode, expression: string): Promise<void> {
    const { env } = this;
    const args = ['-n', node.name, 'eval', expression];
    await promisify(execFile)(rabbitmqctl(this.script), args, { env, ...serverAccount(rabbitmq.account) });
  }

  /** The reply of the management API of a node that answers. */
  private async ask(path: string): Promise<unknown> {
    for (const node of this.nodes) {
      const reply = await this.askNode(node, path);
      if (reply !== undefined) return reply;
    }
    throw new Error('no node answers');
  }

  /** undefined: it does not answer. */
  private async askNode(node: BrokerNode, path: string): Promise<unknown> {
    if (node.process.exit !== undefined) return undefined;
    const url = new URL(path, node.managementUrl);
    const authorization = `Basic ${Buffer.from(`${url.username}:${url.password}`).toString('base64')}`;
    url.username = url.password = '';
    try {
      const reply = await fetch(url, { headers: { authorization }, signal: AbortSignal.timeout(2_000) });
      return reply.ok ? await reply.json() : undefined;
    } catch {
      return undefined;
    }
  }
}
