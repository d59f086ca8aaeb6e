import { createHash } from 'node:crypto';
import { LoginAttempts } from '../../biz/user/user.js';
import type { Config } from '../../conf/config.js';
import { isRedisAway, type RedisServer } from './redis.js';

/**
 * Counts in Redis, for all replicas together: string `login:attempts:<hash of name and address>`, which ends with its
 * window. An attempt is counted before it is judged, so that many at once are no more than many in a row. While Redis
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
    const { maxAttempts, windowMs } = this.limit;
    const key = this.keyOf(usernameKey, address);
    const [, count, leftMs] = await this.change((redis) => redis.set(key, 0, 'PX', windowMs, 'NX').incr(key).pttl(key));
    return Number(count?.[1] ?? 0) > maxAttempts ? Math.max(1, Number(leftMs?.[1])) : undefined;
  }

  override async uncount(usernameKey: string, address: string): Promise<void> {
    const key = this.keyOf(usernameKey, address);
    // Where the window has ended meanwhile, what is made here must end, too.
    await this.change((redis) => redis.set(key, 0, 'PX', this.limit.windowMs, 'NX').decr(key));
  }

  override async clear(usernameKey: string, address: string): Promise<void> {
    await this.change((redis) => redis.del(this.keyOf(usernameKey, address)));
  }

  private async change(commands: (redis: Multi) => Multi): Promise<[Error | null, unknown][]> {
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
  private keyOf(usernameKey: string, address: string): string {
    const id = createHash('sha256').update(`${address}\0${usernameKey}`).digest('base64url');
    return `${this.redis.keyPrefix}login:attempts:${id}`;
  }
}

type Multi = ReturnType<RedisServer['commands']['multi']>;
