import { Cluster, Command, Redis, type RedisOptions } from 'ioredis';

/** Where Redis is. `nodes` win over `sentinels`, and these over `addr`. */
export interface RedisPlace {
  /** redis:// URL or host:port of one server. */
  readonly addr: string;
  /** host:port of Sentinels, which name the master. */
  readonly sentinels?: readonly string[] | undefined;
  /** How the Sentinels call the master. */
  readonly masterName?: string | undefined;
  readonly sentinelPassword?: string | undefined;
  /** redis:// URLs or host:port of some nodes of a cluster. */
  readonly nodes?: readonly string[] | undefined;
  /** Of the master that Sentinels name, and of the nodes of a cluster. */
  readonly password?: string | undefined;
}

export type Connected = Redis | Cluster;

/** ioredis' constructor wants this one absent and not undefined. */
type Options = Omit<RedisOptions, 'replyMapping'>;

const RECONNECT_MIN_MS = 50;
const RECONNECT_MAX_MS = 1_000;
/** How often a cluster is asked for its masters. A redirection tells sooner, but nothing else tells of new replicas. */
const SLOTS_REFRESH_MS = 2_000;
/** Redirections of one command, and their pause where a slot is on its way: about half a second in all. */
const MAX_REDIRECTIONS = 10;
const TRY_AGAIN_MS = 50;
const DEFAULT_PORT = 6379;
const DEFAULT_SENTINEL_PORT = 26379;

/**
 * Node runs timers before it reads from sockets. After a pause of this process, by its CPU quota or a snapshot of its
 * machine, ioredis would fail commands whose replies have come: purchases that were granted. So the limit passes only
 * when nothing came in the turn of the event loop after it.
 */
Command.prototype.setTimeout = function (limitMs: number): void {
  const timer = setTimeout(() => {
    setImmediate(() => {
      if (!this.isSettled) this.reject(new Error('Command timed out'));
    });
  }, limitMs);
  const clear = () => clearTimeout(timer);
  this.promise.then(clear, clear);
};

/** Connects to Redis. What cannot be sent now fails, and what was sent is never sent again by itself. */
export function connectToRedis(place: RedisPlace, options: Options): Connected {
  const all: Options = {
    ...options,
    // RESP3 flattens XREADGROUP's reply; everything here is written for RESP2.
    protocol: 2,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    enableOfflineQueue: false,
    retryStrategy: reconnectDelayMs,
  };
  const { nodes = [], sentinels = [], password } = place;
  if (nodes.length > 0) return connectToCluster(nodes, password, all);
  if (sentinels.length > 0) {
    return new Redis({
      ...all,
      sentinels: sentinels.map((address) => addressOf(address, DEFAULT_SENTINEL_PORT)),
      name: place.masterName ?? '',
      role: 'master',
      sentinelCommandTimeout: options.connectTimeout ?? 0,
      // Never null: the client would end for good after one round of Sentinels.
      sentinelRetryStrategy: reconnectDelayMs,
      ...(place.sentinelPassword && { sentinelPassword: place.sentinelPassword }),
      ...(password && { password }),
    });
  }
  return new Redis(/^rediss?:\/\//.test(place.addr) ? place.addr : `redis://${place.addr}`, all);
}

function connectToCluster(nodes: readonly string[], password: string | undefined, options: Options): Cluster {
  const { enableOfflineQueue: _, retryStrategy: __, ...node } = options;
  const first = new URL(urlOf(nodes[0]!));
  const cluster = new Cluster(
    nodes.map((address) => addressOf(address, DEFAULT_PORT)),
    {
      redisOptions: {
        ...node,
        ...(first.username && { username: decodeURIComponent(first.username) }),
        ...((password || first.password) && { password: password || decodeURIComponent(first.password) }),
        ...(first.protocol === 'rediss:' && { tls: {} }),
      },
      // A command for a node that is being connected waits for it, up to the command's time limit; see guarded().
      enableOfflineQueue: true,
      clusterRetryStrategy: reconnectDelayMs,
      slotsRefreshInterval: SLOTS_REFRESH_MS,
      slotsRefreshTimeout: options.connectTimeout ?? 1_000,
      maxRedirections: MAX_REDIRECTIONS,
      retryDelayOnTryAgain: TRY_AGAIN_MS,
      // 0: a command whose connection was lost may have run, and is not sent again.
      retryDelayOnFailover: 0,
      retryDelayOnClusterDown: 0,
    },
  );
  cluster.on('+node', handleLostAsking);
  return guarded(cluster);
}

/**
 * ioredis sends ASKING before a command that is redirected by ASK, and drops its promise. Where the connection is lost with
 * it, the rejection would end the process; the command itself is told of the loss.
 */
function handleLostAsking(node: Redis): void {
  const asking = node.asking.bind(node);
  node.asking = ((...args: Parameters<typeof asking>) => {
    const reply = asking(...args);
    reply.catch(() => {});
    return reply;
  }) as typeof node.asking;
}

/** Fails commands at once while the cluster is away, where ioredis would keep them without a time limit. */
function guarded(cluster: Cluster): Cluster {
  const send = cluster.sendCommand.bind(cluster);
  cluster.sendCommand = (command: Command, ...rest) => {
    // By CLUSTER INFO ioredis itself finds out whether the cluster is ready.
    const isOwnCheck = cluster.status === 'connect' && command.name === 'cluster';
    if (cluster.status === 'ready' || isOwnCheck) return send(command, ...rest);
    command.reject(new Error('Cluster is not ready'));
    return command.promise;
  };
  return cluster;
}

function reconnectDelayMs(times: number): number {
  return Math.min(RECONNECT_MAX_MS, RECONNECT_MIN_MS * 2 ** Math.min(times - 1, 10)) * (0.5 + Math.random() / 2);
}

function urlOf(address: string): string {
  return /^rediss?:\/\//.test(address) ? address : `redis://${address}`;
}

function addressOf(address: string, defaultPort: number): { host: string; port: number } {
  const { hostname, port } = new URL(urlOf(address));
  return { host: hostname.replace(/^\[(.*)\]$/, '$1'), port: Number(port || defaultPort) };
}
