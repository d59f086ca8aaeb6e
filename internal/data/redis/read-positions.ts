import { unavailable } from '../../../gen/common/v1/errors.js';
import { type LogPosition, ReadPositions } from '../../biz/read-positions.js';
import type { RedisServer } from './redis.js';

/**
 * Sorted sets `read:position:<user id>` of one member, because ZADD GT keeps the greater score in one step. A position is
 * exact as a score below 2^53: PostgreSQL has written nine petabytes by then.
 */
export class RedisReadPositions extends ReadPositions {
  constructor(
    private readonly redis: RedisServer,
    private readonly keepMs: number,
  ) {
    super();
  }

  override async raise(userIds: readonly string[], position: LogPosition): Promise<void> {
    const { commands } = this.redis;
    // Commands of one turn leave together; in a cluster each user lies on a server of its own.
    await asUnavailable(
      Promise.all(
        userIds.flatMap((userId) => {
          const key = this.keyOf(userId);
          return [commands.zadd(key, 'GT', String(position), ''), commands.pexpire(key, this.keepMs)];
        }),
      ),
    );
  }

  override async find(userId: string): Promise<LogPosition | undefined> {
    const score = await asUnavailable(this.redis.commands.zscore(this.keyOf(userId), ''));
    return score === null ? undefined : BigInt(score);
  }

  private keyOf(userId: string): string {
    return `${this.redis.keys.prefix}read:position:${userId}`;
  }
}

async function asUnavailable<T>(reply: Promise<T>): Promise<T> {
  try {
    return await reply;
  } catch (err) {
    throw unavailable('Redis does not answer', { cause: err });
  }
}
