import { once } from 'node:events';
import { Redis, type RedisOptions } from 'ioredis';
import { unavailable } from '../../../gen/common/v1/errors.js';
import { KaimaiError } from '../../kratos/errors/error.js';

export interface RedisSettings {
  /** redis:// URL or host:port. */
  readonly addr: string;
  /** Longest wait for a reply. */
  readonly readTimeoutMs: number;
  /** Longest wait for a connection. */
  readonly connectTimeoutMs: number;
  /** Put before every key. */
  readonly keyPrefix: string;
}

/** ioredis' constructor wants this one absent and not undefined. */
type Options = Omit<RedisOptions, 'replyMapping'>;

const RECONNECT_MIN_MS = 50;
const RECONNECT_MAX_MS = 1_000;

/**
 * The Redis connections of one process. A command is sent once: where its reply is lost the caller hears of it and
 * decides, because a script that takes units must not run a second time unasked. While Redis is away commands fail at
 * once in place of queueing up.
 */
export class RedisServer {
  readonly keyPrefix: string;
  /** For commands and scripts that answer at once. */
  readonly commands: Redis;
  /** For purchases alone, so that they wait behind nothing else. */
  readonly admission: Redis;
  private readonly connections: Redis[] = [];

  /** @param onError told of each failure to connect and each lost connection */
  constructor(
    private readonly settings: RedisSettings,
    private readonly onError: (err: Error) => void = () => {},
  ) {
    this.keyPrefix = settings.keyPrefix;
    this.commands = this.connect('kaimai', { commandTimeout: settings.readTimeoutMs });
    this.admission = this.connect('kaimai-admission', { commandTimeout: settings.readTimeoutMs });
  }

  /** A connection for commands that wait at the server; a reply that comes later than announced ends it. */
  blocking(name: string): Redis {
    return this.connect(name, { blockingTimeout: 60_000, blockingTimeoutGrace: this.settings.readTimeoutMs });
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

  async ping(): Promise<void> {
    await orUnavailable(this.commands.ping());
  }

  close(): void {
    for (const connection of this.connections) connection.disconnect();
  }

  private connect(name: string, options: Options): Redis {
    const all: Options = {
      ...options,
      connectionName: name,
      // RESP3 flattens XREADGROUP's reply; everything here is written for RESP2.
      protocol: 2,
      maxRetriesPerRequest: 0,
      autoResendUnfulfilledCommands: false,
      enableOfflineQueue: false,
      connectTimeout: this.settings.connectTimeoutMs,
      retryStrategy: (times) =>
        Math.min(RECONNECT_MAX_MS, RECONNECT_MIN_MS * 2 ** Math.min(times - 1, 10)) * (0.5 + Math.random() / 2),
    };
    const { addr } = this.settings;
    const connection = new Redis(/^rediss?:\/\//.test(addr) ? addr : `redis://${addr}`, all);
    // Without a listener ioredis prints to the console.
    connection.on('error', this.onError);
    this.connections.push(connection);
    return connection;
  }
}

const AWAY =
  /Connection is closed|Command timed out|Blocking command timed out|isn't writeable|maxRetriesPerRequest|max retries per request|ECONN|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENOTFOUND|EAI_AGAIN/i;
/** Redis is there and can do nothing now: it loads its data, is a replica, lost its replicas or is full. */
const REFUSED = /^(LOADING|READONLY|MASTERDOWN|NOREPLICAS|OOM|MISCONF|BUSY|CLUSTERDOWN|TRYAGAIN)\b/;

/** Whether the server is away or can do nothing now, so that trying again later may help. */
export function isRedisAway(err: unknown): boolean {
  if (!(err instanceof Error)) return false;
  return err.name === 'MaxRetriesPerRequestError' || AWAY.test(err.message) || REFUSED.test(err.message);
}

/** The reply. @throws UNAVAILABLE when Redis is away */
export async function orUnavailable<T>(reply: Promise<T>): Promise<T> {
  try {
    return await reply;
  } catch (err) {
    throw asUnavailable(err);
  }
}

export function asUnavailable(err: unknown): unknown {
  if (err instanceof KaimaiError || !isRedisAway(err)) return err;
  return unavailable('Redis does not answer', { cause: err });
}
