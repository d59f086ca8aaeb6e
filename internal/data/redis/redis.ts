import { once } from 'node:events';
import type { Cluster, Redis } from 'ioredis';
import { unavailable } from '../../../gen/common/v1/errors.js';
import { KratosError } from '../../kratos/errors/error.js';
import { Metrics } from '../../kratos/metrics/metrics.js';
import { type Connected, connectToRedis, type RedisPlace } from './redis-connection.js';
import { meterCommands, type RedisErrorKind, type RedisUse } from './redis-metrics.js';
import { KeySpace } from './seckill-keys.js';

export interface RedisSettings extends RedisPlace {
  /** Longest wait for a reply. */
  readonly readTimeoutMs: number;
  /** Longest wait for a connection. */
  readonly connectTimeoutMs: number;
  /** Put before every key. */
  readonly keyPrefix: string;
  /** Replicas that must have a purchase before it is answered; 0 or undefined: none. */
  readonly waitReplicas?: number;
}

/**
 * A connection on which nothing comes for this many read timeouts is closed: a server that vanished without a word would
 * otherwise keep it until TCP gives up, a quarter of an hour later.
 */
const SILENCE = 2;

/**
 * The Redis connections of one process, to one server, to the master that Sentinels name, or to a cluster. A command is
 * sent once: where its reply is lost the caller hears of it and decides, because a script that takes units must not run a
 * second time unasked. Only a server's own word that it did not run the command (MOVED, ASK, TRYAGAIN) sends it again.
 * While Redis is away commands fail at once in place of queueing up.
 *
 * A failover that demotes a server need not close its connections. A connection that is told READONLY connects anew, to
 * wherever the address leads by then; the health probe asks for the server's role each second, since reads alone would
 * never notice. In a cluster the demoted server says MOVED.
 */
export class RedisServer {
  readonly keys: KeySpace;
  readonly waitReplicas: number;
  /** For commands and scripts that answer at once. */
  readonly commands: Redis | Cluster;
  /** For purchases alone, so that they wait behind nothing else. */
  readonly admission: Redis | Cluster;
  private readonly connections: Connected[] = [];

  /** @param onError told of each failure to connect and each lost connection */
  constructor(
    private readonly settings: RedisSettings,
    private readonly onError: (err: Error) => void = () => {},
    private readonly metrics: Metrics = new Metrics(),
  ) {
    this.keys = new KeySpace(settings.keyPrefix, this.isCluster);
    this.waitReplicas = settings.waitReplicas ?? 0;
    const { readTimeoutMs } = settings;
    const timeouts = { commandTimeout: readTimeoutMs, socketTimeout: SILENCE * readTimeoutMs };
    this.commands = this.connect('kaimai', 'commands', timeouts);
    this.admission = this.connect('kaimai-admission', 'admission', timeouts);
  }

  get isCluster(): boolean {
    return (this.settings.nodes?.length ?? 0) > 0;
  }

  get readTimeoutMs(): number {
    return this.settings.readTimeoutMs;
  }

  /**
   * A connection for commands that wait at the server for at most `longestMs`; a reply that comes too late ends it. In a
   * cluster no command can wait for several streams.
   */
  blocking(name: string, longestMs = 1_000): Redis {
    const { readTimeoutMs } = this.settings;
    return this.connect(name, 'blocking', {
      blockingTimeout: 60_000,
      blockingTimeoutGrace: readTimeoutMs,
      socketTimeout: longestMs + SILENCE * readTimeoutMs,
    }) as Redis;
  }

  /** The servers that have the keys: the masters of a cluster. A scan asks each of them. */
  masters(): readonly Redis[] {
    return this.commands.isCluster ? (this.commands as Cluster).nodes('master') : [this.commands as Redis];
  }

  /** Resolves when all connections serve, or after `timeoutMs`: Redis may come later. */
  async ready(timeoutMs: number): Promise<void> {
    const timeout = AbortSignal.timeout(timeoutMs);
    await Promise.all(
      this.connections
        .filter((c) => c.status !== 'ready' && c.status !== 'end')
        .map((c) => once(c, 'ready', { signal: timeout })),
    ).catch((err: unknown) => {
      if (!timeout.aborted) throw err;
    });
  }

  /** @throws UNAVAILABLE when Redis is away or a replica; then every connection is made anew */
  async ping(): Promise<void> {
    if (this.isCluster) {
      const info = String(await orUnavailable(this.commands.cluster('INFO')));
      if (!/^cluster_state:ok\b/m.test(info)) throw unavailable('the Redis cluster does not serve all slots');
      return;
    }
    const info = await orUnavailable(this.commands.info('replication'));
    if (!/^role:slave\b/m.test(info)) return;
    for (const connection of this.connections) if (connection.status === 'ready') connection.disconnect(true);
    throw unavailable('Redis is a replica, which takes no writes');
  }

  close(): void {
    // On a connection that ended, ioredis would start a timer of 2 s that keeps the process alive.
    for (const connection of this.connections) if (connection.status !== 'end') connection.disconnect();
  }

  private connect(name: string, use: RedisUse, timeouts: Parameters<typeof connectToRedis>[1]): Connected {
    const { connectTimeoutMs: connectTimeout } = this.settings;
    const connection = connectToRedis(this.settings, {
      ...timeouts,
      connectTimeout,
      connectionName: name,
      reconnectOnError: (err) => READONLY.test(err.message),
    });
    meterCommands(connection, use, this.metrics, kindOf);
    // Without a listener ioredis prints to the console.
    const report = (err: Error) => {
      this.onError(ECHO.test(err.message) ? new Error(err.message.replace(ECHO, '')) : err);
    };
    connection.on('error', report);
    if (connection.isCluster) connection.on('node error', report);
    this.connections.push(connection);
    return connection;
  }
}

/** Redis repeats the arguments of a command that it does not know; AUTH may have been renamed. */
const ECHO = /, with args beginning with:[\s\S]*/;
/** A script's error has it in its middle. */
const READONLY = /\bREADONLY\b/;
const AWAY =
  /Connection is closed|Command timed out|Blocking command timed out|isn't writeable|maxRetriesPerRequest|max retries per request|Cluster is not ready|Cluster is ended|Too many Cluster redirections|Failed to refresh slots cache|None of startup nodes is available|sentinels are unreachable|ECONN|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENOTFOUND|EAI_AGAIN/i;
/**
 * Redis is there and can do nothing now: it loads its data, is a replica, lost its replicas, is full, or the slot is on its
 * way to another server (of which a pipeline is not redirected by ASK).
 */
const REFUSED = /^(LOADING|READONLY|MASTERDOWN|NOREPLICAS|OOM|MISCONF|BUSY|CLUSTERDOWN|TRYAGAIN|ASK|MOVED)\b/;

/** Whether the server is away or can do nothing now, so that trying again later may help. */
export function isRedisAway(err: unknown): boolean {
  if (!(err instanceof Error)) return false;
  if (err.name === 'MaxRetriesPerRequestError') return true;
  return AWAY.test(err.message) || REFUSED.test(err.message) || READONLY.test(err.message);
}

const UNREADABLE = /^(WRONGTYPE|KAIMAI unreadable)\b/;

/** Whether a key holds something else than it should: another program wrote it, and what it held is lost. */
export function isUnreadable(err: unknown): boolean {
  return err instanceof Error && UNREADABLE.test(err.message);
}

/** undefined: the caller loads the script and runs it again. */
function kindOf(err: unknown): RedisErrorKind | undefined {
  if (err instanceof Error && err.message.startsWith('NOSCRIPT')) return undefined;
  if (isRedisAway(err)) return 'away';
  return isUnreadable(err) ? 'unreadable' : 'other';
}

/** The reply. @throws UNAVAILABLE when Redis is away, or holds something else than it should */
export async function orUnavailable<T>(reply: Promise<T>): Promise<T> {
  try {
    return await reply;
  } catch (err) {
    throw asUnavailable(err);
  }
}

export function asUnavailable(err: unknown): unknown {
  if (err instanceof KratosError) return err;
  if (isRedisAway(err)) return unavailable('Redis does not answer', { cause: err });
  if (isUnreadable(err)) return unavailable('Redis holds something else than it should', { cause: err });
  return err;
}
