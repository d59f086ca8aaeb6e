import { createHash } from 'node:crypto';
import { LoginAttempts } from '../../biz/user/user.js';
import type { Config } from '../../conf/config.js';
import { isRedisAway, type RedisServer } from './redis.js';

/**
 * Counts in Redis, for all replicas together: strings `login:attempts:<hash of name and address>` and
 * `login:attempts:<hash of address>`, which end with their window. An attempt is counted before it is judged, so that many at once are no more than many in a row. While Redis
 * is
 * away nothing is counted: people can log in, and guesses are still held up by the hash that each one costs.
 */
export class RedisLoginAttempts extends LoginAttempts {
  constructor(
    private readonly redis: RedisServer,
    private readonly limit: Config['auth']['login'],
  ) {
    super();
  }

  override async take(usernameKey: string, address: string): Promise<number | undefined> {
    const { maxAttempts, maxAttemptsPerAddress } = this.limit;
    const [name, all] = [this.keyOf(address, usernameKey), this.keyOf(address)];
    const [ofName, ofAll] = await Promise.all([
      this.change((redis) => this.count(redis, name)),
      this.change((redis) => this.count(redis, all)),
    ]);
    const waitOf = ([, count, leftMs]: Replies, max: number) =>
      Number(count?.[1] ?? 0) > max ? Math.max(1, Number(leftMs?.[1])) : 0;
    const waitMs = Math.max(waitOf(ofName, maxAttempts), waitOf(ofAll, maxAttemptsPerAddress));
    return waitMs > 0 ? waitMs : undefined;
  }

  override async uncount(usernameKey: string, address: string): Promise<void> {
    await Promise.all([
      this.change((redis) => this.uncounted(redis, this.keyOf(address, usernameKey))),
      this.change((redis) => this.uncounted(redis, this.keyOf(address))),
    ]);
  }

  override async clear(usernameKey: string, address: string): Promise<void> {
    await Promise.all([
      orUnlessAway(this.redis.commands.del(this.keyOf(address, usernameKey))),
      this.change((redis) => this.uncounted(redis, this.keyOf(address))),
    ]);
  }

  private count(redis: Multi, key: string): Multi {
    return redis.set(key, 0, 'PX', this.limit.windowMs, 'NX').incr(key).pttl(key);
  }

  /** Where the window has ended meanwhile, what is made here must end, too. */
  private uncounted(redis: Multi, key: string): Multi {
    return redis.set(key, 0, 'PX', this.limit.windowMs, 'NX').decr(key);
  }

  /** One transaction for each key: in a cluster the two are on different servers. */
  private async change(commands: (redis: Multi) => Multi): Promise<Replies> {
    try {
      return (await commands(this.redis.commands.multi()).exec()) ?? [];
    } catch (err) {
      // A server that is full or a replica refuses each command, and then says of EXEC only that there were errors.
      const { previousErrors = [err] } = err as { previousErrors?: readonly unknown[] };
      if (previousErrors.some(isRedisAway)) return [];
      throw err;
    }
  }

  /** Names are of any length and hold anything. */
  private keyOf(address: string, usernameKey?: string): string {
    const id = createHash('sha256')
      .update(usernameKey === undefined ? address : `${address}\0${usernameKey}`)
      .digest('base64url');
    return `${this.redis.keys.prefix}login:attempts:${id}`;
  }
}

async function orUnlessAway(reply: Promise<unknown>): Promise<void> {
  await reply.catch((err: unknown) => {
    if (!isRedisAway(err)) throw err;
  });
}

type Replies = readonly [Error | null, unknown][];
type Multi = ReturnType<RedisServer['commands']['multi']>;
